"""Stored images and masks to a training batch: scale 0.5 to 2, crop, mirror, padding, in one thread.

genseg reads its prepared records, the peers the PNG files that data sets come in (TIFF with deflate beyond four bands).
mmsegmentation's steps are written out with OpenCV as its transforms call it (RandomResize, RandomCrop with cat_max_ratio 0.75,
RandomFlip, Pad); albumentations has no such limit on a crop's largest class, which spares it tries. Shrinking, genseg
averages areas where the two skip pixels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import cv2
import measure
import numpy as np

from genseg.data.augment.resizing import resize
from genseg.data.augment.transforms import segmentation_train
from genseg.data.card import Band, DatasetCard
from genseg.data.files import codec, tiles

COUNT, IGNORE = 12, 255
Record = tuple[np.ndarray, np.ndarray]  # image [h w c], mask uint8 [h w]
NOTES: list[str] = []
# What is cut: name -> stored height and width, bands, dtype, crop.
KINDS = {
    "iSAID patches, 896 crops": ((896, 896), 3, "uint8", (896, 896)),
    "RGB-T, 480 x 640": ((480, 640), 4, "uint8", (480, 640)),
    "5 bands, 512 crops": ((768, 768), 5, "uint16", (512, 512)),
}


def drawn(size: tuple[int, int], bands: int, dtype: str) -> list[Record]:
    """Images and masks with smooth regions and a little noise."""
    rng, records = np.random.default_rng(0), []
    top = np.iinfo(dtype).max // 2
    for _ in range(COUNT):
        planes = [cv2.resize(rng.random((14, 14)).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
                  for _ in range(bands)]  # fmt: skip
        pixels = np.dstack(planes) + rng.normal(0, 0.01, (*size, bands)).astype(np.float32)
        mask = np.digitize(planes[0], (0.3, 0.5, 0.7)).astype(np.uint8)
        records.append((np.clip(pixels * top, 0, 2 * top).astype(dtype), mask))
    return records


def real_patches(size: int) -> list[Record]:
    """896 x 896 patches of an iSAID scene beside the checkout, with regions of brightness for a mask; none without one."""
    files = sorted((measure.SHARED / "isaid-sample" / "train" / "images").glob("P????.png"))
    records = []
    for path in files:
        scene = codec.decode_image(codec.read(path), str(path))[..., :3]
        scene = np.pad(scene, [(0, max(size - side, 0)) for side in scene.shape[:2]] + [(0, 0)], mode="reflect")
        for row in range(0, scene.shape[0] - size + 1, 8):  # scenes there are small: overlapping patches
            for column in range(0, scene.shape[1] - size + 1, 8):
                patch = np.ascontiguousarray(scene[row : row + size, column : column + size])
                mask = np.digitize(cv2.blur(patch, (31, 31)).mean(2), (80, 110, 140)).astype(np.uint8)
                records.append((patch, mask))
                if len(records) == COUNT:
                    return records
    return records


def card_of(bands: int, dtype: str) -> DatasetCard:
    return DatasetCard(
        "bench", "segmentation", tuple(Band(f"b{i}", mean=100.0, low=0, high=255) for i in range(bands)),
        ("a", "b", "c", "d"), (), IGNORE, (0, 1, 2, 3), {}, "none", True, dtype,
    )  # fmt: skip


def decoded(record: tuple[bytes, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """As the peers would: OpenCV where it can, the same TIFF reader where it cannot."""
    image, mask = record
    if image[:4] == b"\x89PNG":
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    else:
        pixels = codec.decode_image(image, "image")
    return pixels, cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)


def as_mmseg(crop: tuple[int, int], fill: float) -> Callable:
    rng = np.random.default_rng(0)

    def transform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale = rng.uniform(0.5, 2.0)
        size = (int(image.shape[1] * scale + 0.5), int(image.shape[0] * scale + 0.5))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        for _ in range(10):
            top = rng.integers(max(image.shape[0] - crop[0], 0) + 1)
            left = rng.integers(max(image.shape[1] - crop[1], 0) + 1)
            part = mask[top : top + crop[0], left : left + crop[1]]
            labels, counts = np.unique(part, return_counts=True)
            counts = counts[labels != IGNORE]
            if len(counts) > 1 and np.max(counts) / np.sum(counts) < 0.75:
                break
        image, mask = image[top : top + crop[0], left : left + crop[1]], part
        if rng.random() < 0.5:
            image, mask = np.flip(image, 1), np.flip(mask, 1)
        below, right = crop[0] - image.shape[0], crop[1] - image.shape[1]
        if below or right:
            image = np.pad(image, ((0, below), (0, right), (0, 0)), constant_values=fill)
            mask = np.pad(mask, ((0, below), (0, right)), constant_values=IGNORE)
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    return transform


def as_albumentations(crop: tuple[int, int], fill: float) -> Callable:
    import albumentations as A

    steps = A.Compose(
        [
            A.RandomScale((-0.5, 1.0), interpolation=cv2.INTER_LINEAR, p=1.0),
            A.PadIfNeeded(*crop, position="top_left", border_mode=cv2.BORDER_CONSTANT, fill=fill, fill_mask=IGNORE),
            A.RandomCrop(*crop),
            A.HorizontalFlip(p=0.5),
        ],
        seed=0,
    )

    def transform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = steps(image=image, mask=mask)
        return out["image"], out["mask"]

    return transform


def case(what: str, size: tuple[int, int], bands: int, dtype: str, crop: tuple[int, int]) -> measure.Case:
    records = real_patches(size[0]) if what.startswith("iSAID") else []
    NOTES.append(f"{what}: {'patches of iSAID' if records else 'drawn images'}, {COUNT} a batch.")
    pairs = records or drawn(size, bands, dtype)
    masks = [codec.encode_png(mask) for _, mask in pairs]
    records = [(codec.encode_image(image), codec.encode_mask(mask)) for image, mask in pairs]
    file = codec.encode_png if bands <= 4 else codec.encode_tiff
    files = [(file(image), mask) for (image, _), mask in zip(pairs, masks, strict=True)]
    transform, rng = segmentation_train(card_of(bands, dtype), crop), np.random.default_rng(0)

    def ours() -> None:
        batch = []
        for image, mask in records:
            record = {"image": tiles.opened(image, "image"), "label": codec.decode_mask(mask, "mask"), "name": ""}
            batch.append(transform(record, rng))
        np.stack([example["image"] for example in batch]), np.stack([example["label"] for example in batch])

    def theirs(transform: Callable) -> Callable[[], None]:
        def run() -> None:
            batch = [transform(*decoded(record)) for record in files]
            np.stack([image for image, _ in batch]), np.stack([mask for _, mask in batch])

        return run

    def same() -> str:
        image, mask = decoded(files[0])
        if bands <= 4:
            image = image[..., [2, 1, 0, 3][: image.shape[2]]]  # OpenCV's order
        assert np.array_equal(codec.decode_image(records[0][0], "image"), image)
        assert np.array_equal(codec.decode_mask(records[0][1], "mask"), mask)
        grown = resize(image, image.shape[0] * 3 // 2, image.shape[1] * 3 // 2, "bilinear")
        reference = cv2.resize(image, grown.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        assert np.abs(grown.astype(int) - reference).max() <= 1
        return "decoded pixels and masks are equal, enlarged ones within 1"

    paths = {"genseg": ours, "mmsegmentation's steps": theirs(as_mmseg(crop, 100.0))}
    if importlib.util.find_spec("albumentations"):
        paths["albumentations"] = theirs(as_albumentations(crop, 100.0))
    else:
        NOTES.append("albumentations is not installed, so not timed.")
    return measure.Case(what, paths, "images a CPU-second", "cpu", same, amount=COUNT, reach="2")


def cases() -> Iterator[measure.Case]:
    for what, form in KINDS.items():
        yield case(what, *form)
