"""Images per CPU-second from JPEG bytes to a 224 x 224 uint8 training crop, ours beside Pillow's and DALI's CPU path.

    python benchmarks/input_pipeline.py                       # drawn images of ImageNet's usual size
    python benchmarks/input_pipeline.py --images DIR          # a folder of real JPEGs
    pip install timm torchvision nvidia-dali-cuda120          # optional: the peers that are installed are timed too

Every path decodes the same bytes in memory, takes a random resized crop (area 8 to 100 %) by bicubic interpolation, as
published, and mirrors half of the images; "+ RandAugment" adds `rand-m9-mstd0.5-inc1`. "genseg, area" is
`config.augment.interpolation="area"`. Each runs in one thread, and what is counted is the processor time of this whole
process, so that a busy machine changes the figures little. Repetitions are interleaved: all paths once, then all again.
"320-pixel copy" reads copies whose shorter side is limited to 320 pixels, as `genseg.data.prepare imagenet2012
--short_side 320` writes them.
"""

import argparse
import importlib.util
import io
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from genseg.data.augment.randaugment import RandAugment, with_rand_augment
from genseg.data.augment.transforms import classification_train, crop_box
from genseg.data.files import codec
from genseg.data.sets.imagenet import limit_short_side

SIZE = 224
BATCH = 32
FILL = (124, 116, 104)  # ImageNet's mean colour


def drawn_images(count: int) -> list[bytes]:
    """JPEGs of 375 x 500 pixels and about 110 kB, ImageNet's mean."""
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        coarse = cv2.resize(rng.random((12, 16, 3)).astype(np.float32), (500, 375), interpolation=cv2.INTER_CUBIC)
        fine = cv2.resize(rng.normal(0, 0.1, (188, 250, 3)).astype(np.float32), (500, 375))
        pixels = np.clip((coarse + fine) * 255, 0, 255).astype(np.uint8)
        encoded.append(simplejpeg.encode_jpeg(pixels, quality=92, colorspace="RGB", colorsubsampling="420"))
    return encoded


def ours(images: list[bytes], transform: Callable) -> Callable[[int], int]:
    def run(repetition: int) -> int:
        rng = np.random.default_rng(repetition)
        for start in range(0, len(images), BATCH):
            batch = [
                transform({"image": codec.decode_rgb(data, "image"), "label": 0}, rng)["image"]
                for data in images[start : start + BATCH]
            ]
            np.stack(batch)
        return len(images)

    return run


def pillow(images: list[bytes], after: Callable[[Image.Image], Image.Image] | None = None) -> Callable[[int], int]:
    """timm's steps (timm/data/transforms_factory.py, transforms_imagenet_train), bicubic, to a uint8 batch."""

    def run(repetition: int) -> int:
        rng = np.random.default_rng(repetition)
        random.seed(repetition)
        for start in range(0, len(images), BATCH):
            batch = []
            for data in images[start : start + BATCH]:
                with Image.open(io.BytesIO(data)) as opened:
                    picture = opened.convert("RGB")
                top, left, height, width = crop_box(picture.height, picture.width, rng, (0.08, 1.0), (3 / 4, 4 / 3))
                box = (left, top, left + width, top + height)
                picture = picture.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
                if rng.random() < 0.5:
                    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                batch.append(np.asarray(after(picture) if after else picture))
            np.stack(batch)
        return len(images)

    return run


def timm_rand_augment() -> Callable[[Image.Image], Image.Image]:
    from timm.data.auto_augment import rand_augment_transform

    options = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC, "translate_const": 100}
    # Magnitude 9 without its spread: at 10, timm asks Pillow for an image of 0 bits, which Pillow 13 refuses.
    return rand_augment_transform("rand-m9-mstd0-inc1", options)


def dali(images: list[bytes], folder: Path) -> Callable[[int], int]:
    """decoders.image_random_crop and resize on the CPU, one thread, antialiased cubic as Pillow's."""
    from nvidia.dali import fn, pipeline_def, types

    files = []
    for number, data in enumerate(images):
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(data)

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1, seed=0)
    def crops():
        encoded, _ = fn.readers.file(files=[str(f) for f in files])
        image = fn.decoders.image_random_crop(
            encoded, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3], num_attempts=10
        )
        image = fn.resize(image, resize_x=SIZE, resize_y=SIZE, interp_type=types.INTERP_CUBIC, antialias=True)
        return fn.flip(image, horizontal=fn.random.coin_flip(probability=0.5))

    pipe = crops()
    pipe.build()

    def run(repetition: int) -> int:
        steps = max(1, len(images) // BATCH)
        for _ in range(steps):
            pipe.run()[0].as_array()
        return steps * BATCH

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder of JPEG files; without it images are drawn")
    parser.add_argument("--limit", type=int, default=200, help="how many images are used")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    if options.images:
        files = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[: options.limit]
        if not files:
            print(f"There is no JPEG file in {options.images}: give a folder that holds some.", file=sys.stderr)
            return 2
        images = [path.read_bytes() for path in files]
    else:
        images = drawn_images(options.limit)
    small = [limit_short_side(data, "image", 320, 90) for data in images]
    plain = classification_train(SIZE, interpolation="bicubic")
    augmented = with_rand_augment(plain, RandAugment(), fill=FILL, interpolation="bicubic")

    paths: dict[str, Callable[[int], int]] = {
        "genseg": ours(images, plain),
        "genseg, area": ours(images, classification_train(SIZE, interpolation="area")),
        "Pillow, as timm": pillow(images),
        "genseg, 320-pixel copy": ours(small, plain),
        "genseg + RandAugment": ours(images, augmented),
        "genseg, 320-pixel copy + RandAugment": ours(small, augmented),
    }
    absent = []
    if importlib.util.find_spec("timm") and importlib.util.find_spec("torchvision"):  # timm's transforms import it
        paths["Pillow + timm's RandAugment"] = pillow(images, timm_rand_augment())
    else:
        absent.append("timm with torchvision")
    with tempfile.TemporaryDirectory() as folder:
        if importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali"):
            paths["DALI, CPU, cubic"] = dali(images, Path(folder))
        else:
            absent.append("DALI")
        rates: dict[str, list[float]] = {name: [] for name in paths}
        for repetition in range(-1, options.repetitions):  # the first round warms up
            for name, run in paths.items():
                start = time.process_time()
                count = run(repetition + 1)
                if repetition >= 0:
                    rates[name].append(count / (time.process_time() - start))

    size = statistics.mean(len(data) for data in images) / 1e3, statistics.mean(len(data) for data in small) / 1e3
    print(f"{len(images)} images of {size[0]:.0f} kB on average ({size[1]:.0f} kB limited to 320 pixels), "
          f"{options.repetitions} interleaved repetitions; images per CPU-second")  # fmt: skip
    base = statistics.median(rates["Pillow, as timm"])
    print(f"{'path':<38}{'median':>8}{'lowest':>8}{'highest':>9}{'x Pillow':>10}")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:<38}{middle:>8.0f}{min(values):>8.0f}{max(values):>9.0f}{middle / base:>10.2f}")
    if absent:
        print(f"Not installed, so not timed: {', '.join(absent)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
