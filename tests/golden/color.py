"""torchvision's colour, filter and codec transforms on PIL images made by a formula: tests/golden/color.json.

Run: python tests/golden/color.py
"""
import hashlib, io, json, pathlib
import numpy as np
import PIL, torch, torchvision
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.transforms.v2 import functional as F2
from timm.data import auto_augment

from pictures import dim, picture

torch.set_num_threads(1)


def plain(width, height):
    return Image.new("RGB", (width, height), (10, 20, 30))


PICTURES = {"picture": picture, "dim": dim, "plain": plain}


def saved(image, format, quality):
    file = io.BytesIO()
    image.save(file, format, quality=quality)
    return Image.open(file).convert("RGB")


EXACT = {
    "grayscale": (lambda image, _: F.rgb_to_grayscale(image, 3), [0]),
    "invert": (lambda image, _: F.invert(image), [0]),
    "posterize": (lambda image, bits: F.posterize(image, int(bits)), range(1, 9)),
    "solarize": (F.solarize, [0.0, 1.0, 100.0, 127.5, 128.0, 255.0]),
    "solarize_add": (lambda image, add: auto_augment.solarize_add(image, int(add)), [0, 33, 110]),
    "autocontrast": (lambda image, _: F.autocontrast(image), [0]),
    "equalize": (lambda image, _: F.equalize(image), [0]),
    "sharpness": (F.adjust_sharpness, [0.0, 0.3, 1.0, 1.77, 2.0, 9.0]),
    "jpeg": (lambda image, quality: saved(image, "JPEG", int(quality)), [1, 10, 30, 49, 50, 75, 95, 100]),
    "jpeg_torchvision": (lambda image, quality: F2.jpeg(image, int(quality)), [10, 75, 95]),
    "webp": (lambda image, quality: saved(image, "WEBP", int(quality)), [0, 10, 30, 50, 80, 95, 100]),
}
exact = []
for name, (function, arguments) in EXACT.items():
    for argument in arguments:
        for kind in PICTURES:
            for size in [(24, 20), (37, 29), (2, 3), (1, 1)]:
                data = function(PICTURES[kind](*size), argument).tobytes()
                digest = hashlib.sha256(data).hexdigest()[:16]
                exact.append({"function": name, "argument": argument, "picture": kind, "size": size, "sha256": digest})

FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
downscale = []
for down, up in [("nearest", "nearest"), ("bilinear", "bilinear"), ("bicubic", "lanczos"), ("lanczos", "nearest")]:
    for scale in [0.01, 0.25, 0.5, 0.77, 1.0]:
        for size in [(24, 20), (37, 29)]:
            small = [max(1, round(side * scale)) for side in size]
            data = picture(*size).resize(small, FILTERS[down]).resize(size, FILTERS[up]).tobytes()
            digest = hashlib.sha256(data).hexdigest()[:16]
            downscale.append({"down": down, "up": up, "scale": scale, "size": size, "sha256": digest})

blur = []
for size, kernel_size, sigma in [((24, 20), 5, 0.1), ((24, 20), 9, 1.3), ((24, 20), 23, 4.0), ((37, 29), 3, 0.8), ((5, 9), 9, 2.0)]:
    data = F.gaussian_blur(picture(*size), kernel_size, sigma).tobytes()
    blur.append({"size": size, "kernel_size": kernel_size, "sigma": sigma, "pixels": data.hex()})

# What v2.GaussianNoise adds for these standard normal numbers.
noise = []
normals = torch.tensor([-3.0, -1.0, -0.04, -0.01, 0.0, 0.02, 0.5, 1.0, 4.0])
for mean, sigma in [(0.0, 0.1), (0.2, 0.05), (-0.1, 0.5)]:
    for level in [0, 17, 128, 250, 255]:
        randn, torch.randn_like = torch.randn_like, lambda *a, **k: normals
        out = F2.gaussian_noise(torch.full((9,), level, dtype=torch.uint8), mean=mean, sigma=sigma)
        torch.randn_like = randn
        noise.append({"mean": mean, "sigma": sigma, "level": level, "out": out.tolist()})

out = pathlib.Path(__file__).with_suffix(".json")
versions = {"torchvision": torchvision.__version__, "pillow": PIL.__version__}
golden = {**versions, "exact": exact, "downscale": downscale, "blur": blur, "normals": normals.tolist(), "noise": noise}
out.write_text(json.dumps(golden, separators=(",", ":")))
