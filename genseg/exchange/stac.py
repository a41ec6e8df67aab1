"""What an exported network takes and gives, as a STAC Item of the Machine Learning Model extension, version 1.5.

https://stac-extensions.github.io/mlm/v1.5.0/ ; classes as in the classification extension 1.1.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genseg import checkpoints, tree
from genseg.data.card import DatasetCard
from genseg.exchange import channels

EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
    "https://stac-extensions.github.io/classification/v1.1.0/schema.json",
)
MEDIA = {
    "safetensors": "application/octet-stream; application=safetensors",
    "onnx": "application/octet-stream; application=onnx",
    "stablehlo": "application/octet-stream; application=stablehlo",
}


@dataclass(frozen=True)
class Artifact:
    """An exported file. href: its name, relative to the item. kind: of MEDIA. framework: that loads it. artifact_type: the
    call that writes such files. first: dimension order, "bands" (NCHW) or "height" (NHWC). size: fixed (height, width),
    or None. scaling: MLM's value_scaling, from stored units to what the file takes, or None. output: of the network,
    "logits" or "probabilities"."""

    href: str
    kind: str
    framework: str
    artifact_type: str
    first: str
    size: tuple[int, int] | None
    batch: int
    scaling: list[dict[str, Any]] | None
    output: str


def z_scores(card: DatasetCard) -> list[dict[str, Any]]:
    """One z-score a band, in stored units. card: of the network's channels (`channels.card_of`)."""
    pairs = zip(card.mean.tolist(), card.std.tolist(), strict=True)
    return [{"type": "z-score", "mean": mean, "stddev": std} for mean, std in pairs]


def item(weights: checkpoints.Weights, artifact: Artifact, now: datetime.datetime) -> dict[str, Any]:
    """The Item as plain JSON. It has no geometry: a card does not say where on Earth its images were taken.

    now: the item's datetime, with a time zone.
    """
    card, config = weights.card, weights.config
    segmenter = "norms" in weights.params
    backbone = config["model"]["backbone"]
    head = "linear head" if "linears" in weights.params["head"] else "UperNet"
    task = "semantic-segmentation" if segmenter else "scene-classification"
    origin = Path(config["init"]["checkpoint"] if "init" in config else config["source"]).name
    plane = list(artifact.size or (-1, -1))
    order = (
        ["batch", "bands", "height", "width"] if artifact.first == "bands" else ["batch", "height", "width", "bands"]
    )
    names = [band.name for band in channels.card_of(weights).bands]
    shape = {"batch": artifact.batch, "bands": len(names), "height": plane[0], "width": plane[1]}
    out = [{"bands": "class"}.get(name, name) for name in order] if segmenter else ["batch", "class"]
    sizes = shape | {"class": len(card.classes)}
    classes = []
    for i, name in enumerate(card.classes):
        entry: dict[str, Any] = {"value": i, "name": re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-") or f"class-{i}"}
        entry["description"] = name
        if card.palette:
            entry["color_hint"] = "{:02X}{:02X}{:02X}".format(*card.palette[i])
        classes.append(entry)
    name = re.sub(r"[^a-zA-Z0-9_.\-\s]+", "-", f"genseg {backbone} {card.name}").strip("-. ")
    properties = {
        "datetime": now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "description": card.protocol or f"{backbone}, {task}",
        "bands": [{"name": name} for name in names],
        "mlm:name": name,
        "mlm:architecture": f"{head}, {backbone}" if segmenter else backbone,
        "mlm:tasks": [task],
        "mlm:framework": artifact.framework,
        "mlm:total_parameters": tree.count(weights.params),
        "mlm:pretrained": bool(origin),
        "mlm:pretrained_source": origin or None,
        "mlm:accelerator": None,
        "mlm:input": [
            {
                "name": "image",
                "bands": names,
                "input": {"shape": [shape[n] for n in order], "dim_order": order, "data_type": "float32"},
                "value_scaling": artifact.scaling,
                "resize_type": None,
                "pre_processing_function": None,
            }
        ],
        "mlm:output": [
            {
                "name": artifact.output,
                "tasks": [task],
                "result": {"shape": [sizes[n] for n in out], "dim_order": out, "data_type": "float32"},
                "classification:classes": classes,
                "post_processing_function": None,
            }
        ],
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": re.sub(r"[^a-zA-Z0-9_.-]+", "-", name),
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {
            "model": {
                "href": artifact.href,
                "type": MEDIA[artifact.kind],
                "title": f"{artifact.framework}: {artifact.href}",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": artifact.artifact_type,
            }
        },
    }
