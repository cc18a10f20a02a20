"""Pillow's resizing of formula-made pictures, as hashes: tests/golden/resize.json. Run: python tests/golden/resize.py"""

import json
import pathlib

import numpy as np
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# The last rows of targets lie on both sides of where Pillow begins with the height.
SIZES = {
    (1, 1): [(1, 1), (5, 3), (64, 64)],
    (7, 5): [(3, 2), (32, 32), (7, 31), (30, 5)],
    (1, 40): [(1, 13), (9, 9)],
    (64, 64): [(64, 64), (32, 32), (96, 57), (60, 30), (63, 62), (60, 55), (60, 56), (60, 57)],
    (90, 160): [(32, 32), (48, 48), (64, 64), (64, 107), (64, 108), (64, 109)],
    (160, 90): [(32, 32), (120, 9), (120, 10), (200, 89), (200, 91)],
    (123, 211): [(128, 128), (96, 96), (224, 224)],
}


def fnv(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def picture(width: int, height: int) -> np.ndarray:
    """Bytes of a linear congruential generator: the high byte of each 32-bit state, from the sides' sum as seed."""
    state, values = width * 1000 + height, []
    for _ in range(width * height * 3):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append(state >> 24)
    return np.array(values, dtype=np.uint8).reshape(height, width, 3)


rows = []
for (width, height), targets in SIZES.items():
    image = Image.fromarray(picture(width, height))
    for target in targets:
        for name, resample in FILTERS.items():
            resized = image.resize(target, resample)
            corner = list(resized.getpixel((0, 0)))
            rows.append({"from": [width, height], "to": target, "filter": name, "corner": corner, "hash": fnv(resized.tobytes())})
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
