"""What stands beside weights in a Hugging Face folder: README.md with its YAML head, and preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from genseg import checkpoints, outputs, texts
from genseg.data.card import DatasetCard
from genseg.exchange import channels

SCORES = {"miou": "mIoU", "mf1": "mF1", "macc": "mAcc", "oa": "overall accuracy", "top1": "top-1", "top5": "top-5"}


def result_of(weights: checkpoints.Weights) -> dict[str, Any] | None:
    """result.json of the run that the checkpoint belongs to, if it lies where runs leave it and is of this very step; its
    scores are those of the weights that were read."""
    parents = Path(weights.path).parents
    path = parents[1] / "result.json" if len(parents) > 1 else Path("result.json")
    if not path.is_file():
        return None
    mend = "remove it, or start the run's own command again, which evaluates anew"
    result = texts.mapping(path, "file", mend)
    with outputs.undamaged(path, mend):
        scores = _scores_of(weights, result["scores"])
        if not all(isinstance(scores.get(k, 0.0), int | float) for k in SCORES):
            raise TypeError("a score is no number")
        told: dict[str, Any] = {"scores": scores}
        told |= {k: str(result[k] or "") for k in ("split", "protocol", "inference", "step")}
        return result | told if told["step"] == Path(weights.path).name else None


def _scores_of(weights: checkpoints.Weights, scores: dict[str, Any]) -> dict[str, Any]:
    """Those of the weights that were read, under plain names; {} if only the others were scored.

    A run gives plain names to the scores of the weights that its eval.ema names, and raw_* or ema_* to the others'. Which
    prefix there is says whose the plain names are, whatever eval.ema was set to since the checkpoint was saved.
    """
    ours, theirs = ("ema_", "raw_") if weights.ema else ("raw_", "ema_")
    if apart := {k.removeprefix(ours): v for k, v in scores.items() if k.startswith(ours)}:
        return apart
    config = weights.config
    plain_are_averages = config["eval"]["ema"] and config["ema"]["decay"] > 0
    if any(k.startswith(theirs) for k in scores) or plain_are_averages == weights.ema:
        return scores
    return {}


def preprocessor(card: DatasetCard, segmenter: bool) -> dict[str, Any]:
    """For transformers' image processors: (stored units - mean) / std of each band, no resizing, no division by 255.

    card: of the network's channels (`channels.card_of`)."""
    return {
        "image_processor_type": "SegformerImageProcessor" if segmenter else "ConvNextImageProcessor",
        "do_resize": False,
        "do_rescale": False,
        "do_normalize": True,
        "image_mean": _numbers(card.mean),
        "image_std": _numbers(card.std),
        **({"do_reduce_labels": False} if segmenter else {}),
    }


def _numbers(values: Iterable[float]) -> list[float]:
    """In digits that give float32 to the bit."""
    return [float(f"{v:.9g}") for v in values]


def readme(weights: checkpoints.Weights, form: str, licence: str) -> str:
    """The model card. form: of `names.FORMATS`. licence: an identifier that the Hub knows, or "unknown"."""
    card, segmenter = weights.card, "norms" in weights.params
    taken = channels.card_of(weights)
    backbone = weights.config["model"]["backbone"]
    result = result_of(weights)
    scores = {k: v for k, v in (result["scores"] if result else {}).items() if k in SCORES}
    library = {"timm": "timm", "huggingface": "transformers"}.get(form, "pytorch")
    task = "image-segmentation" if segmenter else "image-classification"
    head: dict[str, Any] = {
        "license": licence,
        "library_name": library,
        "pipeline_tag": task,
        "tags": ["remote-sensing", "multispectral", backbone] + (["upernet"] if segmenter else []),
    }
    if scores:
        metrics = [{"type": k, "name": SCORES[k], "value": round(100 * v, 2)} for k, v in scores.items()]
        data = {"name": card.name, "type": card.name, "split": result["split"]}
        head["model-index"] = [
            {
                "name": f"{backbone} {card.name}",
                "results": [{"task": {"type": task}, "dataset": data, "metrics": metrics}],
            }
        ]
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(), "---", ""]
    lines += [f"# {'UperNet, ' if segmenter else ''}{backbone}: {card.name}", ""]
    if card.synthetic:
        lines += ["Trained on **synthetic** images, drawn by code.", ""]
    lines += ["## Scores", ""]
    if scores:
        named = ", ".join(f"{SCORES[k]} {100 * v:.2f} %" for k, v in scores.items())
        lines += [f"{named} on the split `{result['split']}` at step {result['step']}.", ""]
        lines += [
            f"Protocol: {result['protocol']}" + (f"; seen in {result['inference']}" if result["inference"] else ""),
            "",
        ]
    else:
        lines += ["None: no result of these very weights was found beside their checkpoint.", ""]
    lines += ["## Bands", "", f"{card.dtype}, in this order, normalised by (value - mean) / std:", ""]
    lines += ["| | band | mean | std | range in training |", "|---|---|---|---|---|"]
    for i, b in enumerate(taken.bands):
        lines.append(f"| {i} | {b.name} | {taken.mean[i]:.6g} | {taken.std[i]:.6g} | {b.low:g} .. {b.high:g} |")
    for sentence in channels.explained(weights):
        lines += ["", sentence]
    shown = [f"{i} {name}" for i, name in enumerate(card.classes)]
    more = f", and {len(shown) - 40} more: see config.json" if len(shown) > 40 else ""
    lines += ["", "## Classes", "", ", ".join(shown[:40]) + more, "", "## Use", "", "```python"]
    lines += [*_use(form, segmenter, taken), "```", "", "## Licence", ""]
    lines += [
        "Not stated by whoever exported this: the training images' own terms may bind the weights."
        if licence == "unknown"
        else f"{licence}. The training images have their own terms."
    ]
    return "\n".join(lines) + "\n"


def _use(form: str, segmenter: bool, card: DatasetCard) -> list[str]:
    """Python that gives logits of an image in stored units; card: of the network's channels."""
    image = "  # image: float32 [n, bands, height, width], stored units"
    if form == "huggingface":
        name = "UperNetForSemanticSegmentation" if segmenter else "AutoModelForImageClassification"
        return [
            "import json, torch, transformers",
            f'model = transformers.{name}.from_pretrained(".").eval()',
            'scale = json.load(open("preprocessor_config.json"))',
            'mean, std = (torch.tensor(scale[k])[:, None, None] for k in ("image_mean", "image_std"))',
            f"logits = model((image - mean) / std).logits{image}",
        ]
    statistics = [
        f"mean = torch.tensor({_numbers(card.mean)})[:, None, None]",
        f"std = torch.tensor({_numbers(card.std)})[:, None, None]",
        f"logits = model.eval()((image - mean) / std){image}",
    ]
    if form == "timm":
        return [
            "import json, timm, torch",
            'config = json.load(open("config.json"))',
            'model = timm.create_model(config["architecture"], **config["model_args"], checkpoint_path="model.safetensors")',
            *statistics,
        ]
    return [
        "import torch",
        "from safetensors.torch import load_file",
        f'model.load_state_dict(load_file("model.safetensors"))  # names of {form}',
        *statistics,
    ]
