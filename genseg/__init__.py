"""genseg: Channel Shuffling Pre-training and UperNet segmentation in JAX/Flax, for TPU and GPU."""

__version__ = "0.1.0"
