"""What writing and reading a stored image or mask costs, by the form that it is stored in.

    python benchmarks/records.py                       # drawn images; a minute
    python benchmarks/records.py IMAGE IMAGE ...       # files of one size, such as those of your own data

Milliseconds of processor time in one thread, median of 30, and KiB, of drawn images with a little noise: 480 x 640 in four bands of
uint8, and 768 x 768 in five of uint16 (PNG holds four at most). "part": what a crop of 480 x 640 or 512 x 512 needs of an image
enlarged 1.5 times, from the middle.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rows import crops

from genseg.data.files import codec, tiles

KINDS = {"480 x 640 x 4": ((480, 640), 4, "uint8", (320, 427)), "768 x 768 x 5": ((768, 768), 5, "uint16", (342, 342))}


def milliseconds(call: Callable[[], object]) -> float:
    call()
    found = []
    for _ in range(30):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return 1e3 * float(np.median(found))


def main() -> None:
    print("| what | stored as | KiB | written, ms | whole, ms | part, ms |\n|---|---|--:|--:|--:|--:|")
    if len(sys.argv) > 1:
        images = [codec.decode_image(Path(name).read_bytes(), name) for name in sys.argv[1:]]
        height, width = images[0].shape[:2]
        show(f"{len(images)} files, a file", images, (height // 2, width // 2))
        return
    for name, (size, bands, dtype, part) in KINDS.items():
        image, mask = crops.drawn(size, bands, dtype)[0]
        show(name, [image], part)
        for form, write in {"PNG": codec.encode_png, "TIFF, zstd": codec.encode_mask}.items():
            data = write(mask)
            cost = [
                milliseconds(call) for call in (lambda w=write, m=mask: w(m), lambda d=data: codec.decode_mask(d, "x"))
            ]
            print(f"| its mask | {form} | {len(data) / 1024:.0f} | {cost[0]:.2f} | {cost[1]:.2f} | |", flush=True)


def show(name: str, images: list[np.ndarray], part: tuple[int, int]) -> None:
    """A line for each form; means over the images."""
    size, bands = images[0].shape[:2], images[0].shape[2]
    forms: dict[str, Callable] = {"PNG": codec.encode_png} if bands <= 4 else {}
    forms |= {"TIFF, deflate": codec.encode_tiff}
    forms |= {f"TIFF, zstd {level}": tiff(0, level) for level in (1, 3, 9)}
    forms |= {f"TIFF, zstd {level}, tiles of 128": tiff(128, level) for level in (1, 3)}
    forms |= {f"TIFF, zstd 1, tiles of {t}": tiff(t, 1) for t in (64, 256)}
    top, left = ((side - need) // 2 for side, need in zip(size, part, strict=True))
    for form, write in forms.items():
        stored = [write(image) for image in images]
        calls = [lambda w=write: [w(i) for i in images], lambda s=stored: [codec.decode_image(d, "x") for d in s]]
        if tiles.opened(stored[0], "x") is not None:
            calls.append(lambda s=stored: [tiles.opened(d, "x").read(top, left, *part) for d in s])
        cost = " | ".join(f"{milliseconds(call) / len(images):.2f}" for call in calls)
        kib = sum(map(len, stored)) / len(stored) / 1024
        print(f"| {name} | {form} | {kib:.0f} | {cost} |{' |' * (3 - len(calls))}", flush=True)


def tiff(tile: int, level: int) -> Callable[[np.ndarray], bytes]:
    return lambda image: codec.encode_tiff(image, "zstd", tile=tile, level=level)


if __name__ == "__main__":
    main()
