"""Small formula-made files of every kind we read, with Pillow's pixels as hashes: tests/golden/decode.json.
Run: python tests/golden/decode.py"""

import base64
import io
import json
import pathlib
import struct

import numpy as np
from PIL import Image


def fnv(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def wave(width: int, height: int, channels: int) -> np.ndarray:
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    return (127.5 + 80 * np.sin(x / 3 + c) + 47 * np.cos(y / 5 - 2 * c + x / 11)).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bmp(bits: int, data: bytes, width: int, height: int, compression: int = 0, extra: bytes = b"", colors: int = 0) -> bytes:
    offset = 14 + 40 + len(extra)
    head = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, colors, 0)
    return head + info + extra + data


rgb, grey, rgba = (Image.fromarray(wave(37, 21, n).squeeze()) for n in (3, 1, 4))
cmyk = Image.fromarray(wave(19, 17, 4), "CMYK")
palette = rgb.quantize(13)
deep = Image.fromarray((wave(9, 8, 1).squeeze().astype(np.uint16) * 257 - 12_345) & 0xFFFF)
bits = Image.fromarray(wave(19, 7, 1).squeeze() > 127)
exif = Image.Exif()
exif[0x0112] = 6
noise = np.random.default_rng(0).integers(0, 256, 64, dtype=np.uint8).tobytes()
ramp16 = bytes(range(256)) + b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(16))
palette16 = b"".join(bytes([i * 16, 255 - i * 9, i * 3, 0]) for i in range(16))

files = {
    "jpeg_420": saved(rgb, "JPEG", quality=90),
    "jpeg_422": saved(rgb, "JPEG", quality=75, subsampling="4:2:2"),
    "jpeg_444": saved(rgb, "JPEG", quality=40, subsampling="4:4:4"),
    "jpeg_progressive": saved(rgb, "JPEG", quality=80, progressive=True),
    "jpeg_grey": saved(grey, "JPEG"),
    "jpeg_cmyk": saved(cmyk, "JPEG", quality=95),
    "jpeg_exif_rotated": saved(rgb, "JPEG", exif=exif),
    "jpeg_restarts": saved(rgb, "JPEG", restart_marker_blocks=2),
    "jpeg_keep_rgb": saved(rgb, "JPEG", keep_rgb=True),
    "jpeg_without_end": saved(rgb, "JPEG")[:-2],
    "jpeg_cut": saved(rgb, "JPEG")[:-60],
    "png_rgb": saved(rgb, "PNG"),
    "png_rgba": saved(rgba, "PNG"),
    "png_grey": saved(grey, "PNG"),
    "png_grey_alpha": saved(Image.fromarray(wave(9, 5, 2)), "PNG"),
    "png_palette": saved(palette, "PNG"),
    "png_palette_transparent": saved(palette, "PNG", transparency=3),
    "png_1_bit": saved(bits, "PNG"),
    "png_16_bit": saved(deep, "PNG"),
    "png_cut": saved(rgb, "PNG")[:-40],
    "webp_lossy": saved(rgb, "WEBP", quality=70),
    "webp_lossless": saved(rgb, "WEBP", lossless=True),
    "webp_alpha": saved(rgba, "WEBP", lossless=True, exact=True),
    "webp_cut": saved(rgb, "WEBP", quality=70)[:-50],
    "bmp_24": saved(rgb, "BMP"),
    "bmp_8": saved(palette, "BMP"),
    "bmp_grey": saved(grey, "BMP"),
    "bmp_1": saved(bits, "BMP"),
    "bmp_32": saved(rgba, "BMP"),
    "bmp_16_555": bmp(16, noise[:48], 6, 4),
    "bmp_16_565": bmp(16, noise[:48], 6, -4, 3, struct.pack("<III", 0xF800, 0x7E0, 0x1F)),
    "bmp_4": bmp(4, noise[:48], 13, 6, 0, palette16, 16),
    "bmp_rle8": bmp(8, bytes([3, 2, 0, 3, 7, 9, 1, 0, 0, 0, 0, 2, 1, 1, 5, 15, 0, 1, 6, 4, 0, 0, 6, 3, 0, 1]), 6, 4, 1, palette16, 16),
    "bmp_rle4": bmp(4, bytes([6, 0x2A, 0, 0, 0, 5, 0x12, 0x34, 0x50, 0, 1, 0x70, 0, 0, 6, 0xF0, 0, 0, 6, 0x3C, 0, 1]), 6, 4, 2, palette16, 16),
    "bmp_cut": saved(rgb, "BMP")[:-9],
    "bmp_bomb": bmp(24, b"", 100_000, 100_000),
    "gif": saved(palette, "GIF"),
}


def pillow(data: bytes) -> dict:
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "BMP"]).convert("RGB")
        return {"size": image.size, "hash": fnv(image.tobytes())}
    except Exception:
        return {"size": None, "hash": None}


rows = [{"name": name, "file": base64.b64encode(data).decode(), **pillow(data)} for name, data in files.items()]
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
