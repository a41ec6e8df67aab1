"""JPEG bytes to a 224 x 224 uint8 training crop, without and with RandAugment (`rand-m9-mstd0-inc1`), in one thread.

Every path decodes the same bytes in memory, takes a random resized crop (area 8 to 100 %, bicubic with antialiasing, as
published) and mirrors half of the images. "as timm" is timm's own transform; torchvision's RandAugment has other operations
and magnitudes, so that its line says little of one like ours. "area" is `config.augment.interpolation="area"`, "320-pixel
copy" reads what `genseg.data.prepare imagenet2012 --short_side 320` writes.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import measure
import numpy as np
import simplejpeg
from PIL import Image

from genseg.data.augment.randaugment import RandAugment, with_rand_augment
from genseg.data.augment.resizing import resize
from genseg.data.augment.transforms import classification_train
from genseg.data.files import codec
from genseg.data.sets.imagenet import limit_short_side

SIZE, COUNT, BATCH = 224, 96, 32
FILL = (124, 116, 104)  # ImageNet's mean colour
BOX = (20, 30, 200, 240)  # top, left, height, width: the crop on which the paths are compared
NOTES: list[str] = []


def photographs() -> list[bytes]:
    """ImageNet's own JPEGs where they lie beside the checkout, else drawn ones of 375 x 500 pixels and about 110 kB."""
    files = sorted((measure.SHARED / "imagenet-native-jpeg" / "images").glob("*.JPEG"))[:COUNT]
    if files:
        NOTES.append(
            f"{len(files)} original JPEGs of ImageNet, {np.mean([f.stat().st_size for f in files]) / 1e3:.0f} kB."
        )
        return [path.read_bytes() for path in files]
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(COUNT):
        coarse = cv2.resize(rng.random((12, 16, 3)).astype(np.float32), (500, 375), interpolation=cv2.INTER_CUBIC)
        fine = cv2.resize(rng.normal(0, 0.1, (188, 250, 3)).astype(np.float32), (500, 375))
        pixels = np.clip((coarse + fine) * 255, 0, 255).astype(np.uint8)
        encoded.append(simplejpeg.encode_jpeg(pixels, quality=92, colorspace="RGB", colorsubsampling="420"))
    NOTES.append(f"{COUNT} drawn JPEGs, {np.mean([len(e) for e in encoded]) / 1e3:.0f} kB.")
    return encoded


def batched(images: list[bytes], example: Callable[[bytes], np.ndarray]) -> Callable[[], None]:
    def run() -> None:
        for start in range(0, len(images), BATCH):
            np.stack([example(data) for data in images[start : start + BATCH]])

    return run


def ours(images: list[bytes], transform: Callable) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    return batched(images, lambda data: transform({"image": codec.decode_rgb(data, "image"), "label": 0}, rng)["image"])


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")


def as_timm(images: list[bytes], policy: str | None) -> Callable[[], None]:
    from timm.data.transforms_factory import transforms_imagenet_train

    # Magnitude 9 without its spread: at 10, timm asks Pillow for an image of 0 bits, which Pillow 13 refuses.
    transform = transforms_imagenet_train(
        SIZE, interpolation="bicubic", auto_augment=policy, color_jitter=None, use_prefetcher=True
    )
    return batched(images, lambda data: transform(opened(data)))


def torchvision_v2(images: list[bytes], augmented: bool) -> Callable[[], None]:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandAugment(2, 9, fill=list(FILL))] if augmented else []),
        ]
    )

    def run() -> None:
        for start in range(0, len(images), BATCH):
            encoded = (torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in images[start : start + BATCH])
            torch.stack([transform(decode_jpeg(data, mode=ImageReadMode.RGB)) for data in encoded])

    return run


def dali(files: list[str], box: bool = False):
    """DALI's CPU pipeline: decoding of the crop alone, antialiased cubic resize. box: BOX of each instead of random ones."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=min(BATCH, len(files)), num_threads=1, device_id=None, prefetch_queue_depth=1, seed=0)
    def crops():
        encoded, _ = fn.readers.file(files=files)
        if box:
            top, left, height, width = BOX
            image = fn.decoders.image_slice(
                encoded, device="cpu", start=(top, left), shape=(height, width), axis_names="HW"
            )
        else:
            image = fn.decoders.image_random_crop(
                encoded, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3], num_attempts=10
            )
        image = fn.resize(image, resize_x=SIZE, resize_y=SIZE, interp_type=types.INTERP_CUBIC, antialias=True)
        return image if box else fn.flip(image, horizontal=fn.random.coin_flip(probability=0.5))

    pipe = crops()
    pipe.build()
    return pipe


def same_crop(images: list[bytes], files: list[str]) -> str:
    """Differences of one fixed crop from Pillow's, in grey levels."""
    top, left, height, width = BOX
    chosen = [n for n, data in enumerate(images) if np.all(np.subtract(opened(data).size[::-1], BOX[:2]) >= BOX[2:])][
        :8
    ]
    box = (left, top, left + width, top + height)
    reference = [np.asarray(opened(images[n]).crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for n in chosen]
    found = {
        "genseg": [
            resize(codec.decode_rgb(images[n], "")[top : top + height, left : left + width], SIZE, SIZE, "bicubic")
            for n in chosen
        ]
    }
    if importlib.util.find_spec("torchvision"):
        import torch
        from torchvision.transforms.v2 import InterpolationMode, functional

        def theirs(data: bytes) -> np.ndarray:
            pixels = torch.from_numpy(codec.decode_rgb(data, "")).permute(2, 0, 1)
            cropped = functional.resized_crop(pixels, *BOX, [SIZE, SIZE], InterpolationMode.BICUBIC, antialias=True)
            return cropped.permute(1, 2, 0).numpy()

        found["torchvision"] = [theirs(images[n]) for n in chosen]
    if importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali"):
        made = dali([files[n] for n in chosen], box=True).run()[0]
        found["DALI"] = [np.asarray(made.at(i)) for i in range(len(chosen))]
    said = []
    for name, pictures in found.items():
        apart = np.abs(np.asarray(pictures, int) - np.asarray(reference, int))
        assert apart.mean() < 1.0, (name, apart.mean())
        said.append(f"{name} {apart.mean():.2f} on average, {np.percentile(apart, 99.9):.0f} for 99.9 %")
    return f"a crop of {height} x {width} differs from Pillow's, of 255 grey levels, by: {'; '.join(said)}"


def cases() -> Iterator[measure.Case]:
    images = photographs()
    small = [limit_short_side(data, "image", 320, 90) for data in images]
    folder = tempfile.TemporaryDirectory()
    files = []
    for number, data in enumerate(images):
        files.append(f"{folder.name}/{number}.jpg")
        Path(files[-1]).write_bytes(data)
    plain = classification_train(SIZE, interpolation="bicubic")
    policy = RandAugment(magnitude_std=0.0)
    augmented = with_rand_augment(plain, policy, fill=FILL, interpolation="bicubic")
    paths = {"genseg": ours(images, plain)}
    more = {"genseg": ours(images, augmented)}
    if importlib.util.find_spec("timm") and importlib.util.find_spec("torchvision"):
        paths |= {"Pillow, as timm": as_timm(images, None), "torchvision v2": torchvision_v2(images, False)}
        more |= {
            "Pillow, as timm": as_timm(images, "rand-m9-mstd0-inc1"),
            "torchvision v2, its own policy, nearest": torchvision_v2(images, True),
        }
    else:
        NOTES.append("timm with torchvision is not installed, so not timed.")
    if importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali"):
        pipe = dali(files)
        paths["DALI"] = lambda: [pipe.run() for _ in range(COUNT // BATCH)]
    else:
        NOTES.append("DALI is not installed, so not timed.")
    paths |= {
        "genseg, area": ours(images, classification_train(SIZE, interpolation="area")),
        "genseg, 320-pixel copy": ours(small, plain),
    }
    common = dict(unit="images a CPU-second", clock="cpu", amount=len(images))
    yield measure.Case(
        "JPEG to 224 crop", paths, same=functools.partial(same_crop, images, files),
        reach="1.8 of Pillow, 1.2 of DALI", **common,
    )  # fmt: skip
    yield measure.Case(
        "the same, RandAugment", more, same=lambda: "operations are Pillow's, shears and shifts within 1 (tests/test_data_randaugment.py)",
        reach="1.6", **common,
    )  # fmt: skip
    folder.cleanup()
