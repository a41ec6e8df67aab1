"""The drawn sets: repeatable, and made so that colour tempts and structure decides."""

import numpy as np
import pytest

from genseg.data.files import codec
from genseg.data.sets import demo
from genseg.errors import UserError


def drawn(options, split: str, count: int):
    plan = options.plan()
    return [plan.load(split, i)[0][0] for i in range(count)], plan


def hue_scores(records) -> np.ndarray:
    """Mean colour relative to brightness, [n 3]."""
    means = np.array([codec.decode_image(r.image, "x").reshape(-1, 3).mean(0) for r in records])
    return means / means.sum(1, keepdims=True)


def test_the_same_seed_draws_the_same():
    for options in (demo.DemoClassification(), demo.DemoSegmentation()):
        first, second = drawn(options, "train", 8)[0], drawn(options, "train", 8)[0]
        assert first == second
    other = drawn(demo.DemoSegmentation(seed=1), "train", 8)[0]
    assert all(a.image != b.image for a, b in zip(first, other, strict=True))
    assert all(a.image != b.image for a, b in zip(first, drawn(demo.DemoSegmentation(), "val", 8)[0], strict=True))


def test_colour_tempts_in_train_and_misleads_in_val():
    """A nearest-mean classifier on colour alone is good on training images and near chance (1/8) in validation."""
    train, plan = drawn(demo.DemoClassification(), "train", 640)
    val, _ = drawn(demo.DemoClassification(), "val", 320)
    assert plan.card.synthetic and "SYNTHETIC" in plan.card.describe()
    colours, labels = hue_scores(train), np.array([r.label for r in train])
    centres = np.array([np.median(colours[labels == k], 0) for k in range(8)])

    def accuracy(records):
        guess = np.linalg.norm(hue_scores(records)[:, None] - centres, axis=2).argmin(1)
        return np.mean(guess == [r.label for r in records])

    assert accuracy(train) > 0.5 and accuracy(val) < 0.25


def test_thermal_tells_vehicles_by_night_where_rgb_does_not():
    plan = demo.DemoSegmentation().plan()
    contrast = []
    for index in range(1, 41, 2):
        record = plan.load("train", index)[0][0]
        image, mask = codec.decode_image(record.image, "x").astype(float), codec.decode_mask(record.label, "x")
        if (mask == 4).any():
            gap = image[mask == 4].mean(0) - image[mask != 4].mean(0)
            contrast.append(np.abs(gap) / image[mask != 4].std(0))
    thermal, rgb = np.array(contrast)[:, 3], np.array(contrast)[:, :3].max(1)
    assert record.file_name.endswith("N.png") and np.median(thermal) > 3 * np.median(rgb)


def test_all_classes_are_drawn():
    records, _plan = drawn(demo.DemoSegmentation(), "train", 30)
    shares = np.bincount(np.concatenate([codec.decode_mask(r.label, "x").ravel() for r in records]), minlength=5)
    shares = shares / shares.sum()
    assert len(shares) == 5 and shares.min() > 0.01 and shares.max() < 0.75
    assert codec.decode_image(records[0].image, "x").shape == (64, 64, 4)


def test_too_few_images():
    with pytest.raises(UserError, match="at least 8"):
        demo.DemoClassification(train_images=3).plan()
    with pytest.raises(UserError, match="at least 2"):
        demo.DemoSegmentation(val_images=0).plan()
