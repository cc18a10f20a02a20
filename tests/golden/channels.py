"""Golden numbers of the input channels: Pillow's YCbCr, the noise residuals by scipy.ndimage, the DCT bands by scipy.fft.
Writes channels.json beside this file.

    python tests/golden/channels.py        # Pillow 13, scipy 1.17; seconds
"""

import hashlib
import json
import pathlib

import numpy as np
from PIL import Image
from scipy import fft, ndimage

SIDE = 13


def picture():
    """A slope with a little noise; tests/channels.rs paints it too."""
    y, x, c = np.meshgrid(np.arange(SIDE), np.arange(SIDE), np.arange(3), indexing="ij")
    return ((9 * x + 5 * y + 40 * c + (3 * x * x + 5 * y * y + 7 * x * y + c) % 5) % 256).astype(np.uint8)


def every_colour():
    """The sha256 of Pillow's YCbCr of all 2**24 colours, blue fastest."""
    index = np.arange(1 << 24, dtype=np.uint32)
    colours = np.stack([index >> 16, index >> 8 & 255, index & 255], -1).astype(np.uint8).reshape(4096, 4096, 3)
    return hashlib.sha256(np.asarray(Image.fromarray(colours).convert("YCbCr")).tobytes()).hexdigest()


def residuals(image):
    """The three kernels of Zhou et al. 2018, arXiv:1805.04953, with the divisors 4, 12 and 2."""
    small = np.pad([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], 1)
    large = np.array([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]])
    line = np.pad([[1, -2, 1]], ((2, 2), (1, 1)))
    grey = image.astype(np.float64).mean(-1)
    maps = [ndimage.correlate(grey, k / q, mode="nearest") for k, q in [(small, 4), (large, 12), (line, 2)]]
    return np.clip(np.stack(maps, -1), -2, 2)


def bands(image):
    grey = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    rest = -SIDE % 8
    grey = np.pad(grey, ((0, rest), (0, rest)), mode="edge")
    diagonal = np.add.outer(np.arange(8), np.arange(8))
    out = np.empty(grey.shape + (3,))
    for y in range(0, grey.shape[0], 8):
        for x in range(0, grey.shape[1], 8):
            size = np.abs(fft.dctn(grey[y : y + 8, x : x + 8], norm="ortho"))
            sums = [size[(diagonal >= low) & (diagonal <= high)].sum() for low, high in [(1, 4), (5, 9), (10, 14)]]
            out[y : y + 8, x : x + 8] = np.log10(1 + np.array(sums))
    return out[:SIDE, :SIDE]



if __name__ == "__main__":
    image = picture()
    digits = lambda values: [round(float(value), 6) for value in values.flatten()]
    golden = {
        "ycbcr": np.asarray(Image.fromarray(image).convert("YCbCr")).flatten().tolist(),
        "ycbcr_of_every_colour_sha256": every_colour(),
        "srm": digits(residuals(image)),
        "dct": digits(bands(image)),
    }
    pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
