"""Weighted choice of records and crops: shares as defined, and any place taken up without what came before."""

import numpy as np
import pytest

from genseg.data.augment import resizing, transforms
from genseg.data.batches.sampling import EVERY_RECORD, Shared, class_balanced, shared_out

PIXELS = np.array([[90, 10, 0, 0], [100, 0, 0, 0], [100, 0, 0, 0], [0, 50, 0, 0], [0, 0, 0, 0], [80, 0, 20, 0]])


def test_classes_are_drawn_evenly_and_then_their_records():
    # Three classes occur, in 4, 2 and 1 records.
    expected = np.array([1 / 4 + 1 / 2, 1 / 4, 1 / 4, 1 / 2, 0, 1 / 4 + 1]) / 3
    sampling = class_balanced(PIXELS)
    np.testing.assert_allclose(sampling.probability, expected)
    stream = sampling.stream(6, seed=3)
    drawn = np.bincount([stream[i] for i in range(4000)], minlength=6) / 4000
    np.testing.assert_allclose(drawn, expected, atol=0.03)
    line = sampling.describe(PIXELS, ("ground", "road", "car", "sea"))
    assert "0.00 to 2.50 times" in line and "car 4.44 to" in line and "sea 0.00 to 0.00 %" in line


def test_a_place_is_a_function_of_the_seed_alone():
    sampling = class_balanced(PIXELS)
    one, again, other = (sampling.stream(6, seed) for seed in (0, 0, 1))
    places = [0, 5, 2**40, 17]
    assert [one[i] for i in places] == [again[i] for i in reversed(places)][::-1]
    assert [one[i] for i in range(50)] != [other[i] for i in range(50)]
    even = EVERY_RECORD.stream(6, seed=0)
    assert sorted(even[i] for i in range(6, 12)) == list(range(6))


def test_class_crops_hold_the_class_and_reach_every_class_evenly():
    mask = np.zeros((60, 80), np.uint8)
    mask[3, 70] = 1
    mask[50:55, 2:9] = 2
    mask[:, 40] = 255
    image, seen = np.dstack([mask, mask]), np.zeros(3)
    for seed in range(300):
        crop, part = transforms.class_crop(
            resizing.Scaled(image, mask, *mask.shape), np.random.default_rng(seed), 16, 20, 255
        )
        assert part.shape == (16, 20) and (crop[..., 0] == part).all()
        seen += [(part == c).any() for c in range(3)]
    assert seen[1] / 300 == pytest.approx(1 / 3, abs=0.1) and seen[2] / 300 == pytest.approx(1 / 3, abs=0.1)
    ignored = np.full((8, 8), 255, np.uint8)
    assert transforms.class_crop(
        resizing.Scaled(ignored[..., None], ignored, *ignored.shape), np.random.default_rng(0), 16, 4, 255
    )[1].shape == (8, 4)


def test_a_smaller_share_of_the_records_is_part_of_a_larger_one():
    records = [bytes([i]) for i in range(67)]
    kept = {share: list(Shared(records, share)) for share in (0.01, 0.05, 0.25, 1.0)}
    assert [len(part) for part in kept.values()] == [1, 3, 17, 67]
    assert set(kept[0.01]) < set(kept[0.05]) < set(kept[0.25]) < set(kept[1.0]) == set(records)
    assert kept[1.0] == records and kept[0.25] == sorted(kept[0.25]) == list(Shared(records, 0.25))
    assert [shared_out(67, share) for share in (0.001, 0.05, 0.5)] == [1, 3, 34]
