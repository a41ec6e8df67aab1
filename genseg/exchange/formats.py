"""The names of what weights are read from and written as."""

FORMATS = ("timm", "huggingface", "original", "mmseg")
PROGRAMS = ("stablehlo", "onnx")
TOOLS = ("deepness",)
