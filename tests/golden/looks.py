"""Perceptual hashes of imagehash on images made by a formula: tests/golden/looks.json. The Rust test makes the same
images. Run: python tests/golden/looks.py
"""
import json, pathlib
import imagehash
import numpy as np
from PIL import Image


def picture(width, height, seed):
    """Waves of whole numbers: smooth in some channels, rough in others."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    channels = [(x * x + seed * y) // 7 % 256, (x * y + 31 * seed) // 5 % 256, (x * 3 + y * y * seed) // 11 % 256]
    return np.stack(channels, -1).astype(np.uint8)


cases = []
for width, height, seed in [(64, 64, 1), (48, 80, 2), (130, 97, 3), (20, 20, 4), (9, 8, 5), (256, 256, 6), (300, 31, 7)]:
    image = Image.fromarray(picture(width, height, seed))
    number = lambda found: f"{int(str(found), 16):016x}"
    cases.append({"width": width, "height": height, "seed": seed, "gradient": number(imagehash.dhash(image)),
                  "frequencies": number(imagehash.phash(image))})
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps({"imagehash": imagehash.__version__, "cases": cases}, indent=1))
