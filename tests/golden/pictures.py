"""Pictures made by a formula, the same as in the Rust tests that read the goldens."""
import numpy as np
from PIL import Image


def picture(width, height):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    value = (x * (3 + 2 * c) + y * (5 - c) + ((x * y) >> (2 + c)) + c * 40) & 255
    return Image.fromarray(value.astype(np.uint8))


def dim(width, height):
    """The picture in a part of the levels, another part for each channel."""
    c = np.arange(3)
    value = 30 + 10 * c + ((np.asarray(picture(width, height), dtype=np.int64) * (3 + c)) >> 3)
    return Image.fromarray(value.astype(np.uint8))
