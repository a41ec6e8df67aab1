"""What reading a stored image or mask costs, by the form that it is stored in.

    python benchmarks/records.py            # a minute

Milliseconds of processor time in one thread, median of 30, and KiB, of drawn images with a little noise: 480 x 640 in four bands of
uint8, and 768 x 768 in five of uint16 (PNG holds four at most). "part": what a crop of 480 x 640 or 512 x 512 needs of an image
enlarged 1.5 times, from the middle.
"""

from __future__ import annotations

import time
from collections.abc import Callable

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
    print("| what | stored as | KiB | whole, ms | part, ms |\n|---|---|--:|--:|--:|")
    for name, (size, bands, dtype, part) in KINDS.items():
        image, mask = crops.drawn(size, bands, dtype)[0]
        forms = {"PNG": codec.encode_png(image)} if bands <= 4 else {}
        forms |= {"TIFF, deflate": codec.encode_tiff(image)}
        forms |= {f"TIFF, zstd {level}": codec.encode_tiff(image, "zstd", level=level) for level in (3, 9)}
        forms |= {
            f"TIFF, zstd 3, tiles of {t}": codec.encode_tiff(image, "zstd", tile=t, level=3) for t in (64, 128, 256)
        }
        for form, data in forms.items():
            row = f"| {name} | {form} | {len(data) / 1024:.0f} | {milliseconds(lambda d=data: codec.decode_image(d, 'x')):.2f} |"
            top, left = ((side - need) // 2 for side, need in zip(size, part, strict=True))
            found = tiles.opened(data, "x")
            cost = (
                "" if found is None else f"{milliseconds(lambda d=data, t=top, n=left, p=part: read(d, t, n, p)):.2f}"
            )
            print(f"{row} {cost} |", flush=True)
        for form, data in {"PNG": codec.encode_png(mask), "TIFF, zstd": codec.encode_mask(mask)}.items():
            cost = milliseconds(lambda d=data: codec.decode_mask(d, "x"))
            print(f"| its mask | {form} | {len(data) / 1024:.0f} | {cost:.2f} | |", flush=True)


def read(data: bytes, top: int, left: int, part: tuple[int, int]) -> np.ndarray:
    return tiles.opened(data, "x").read(top, left, *part)


if __name__ == "__main__":
    main()
