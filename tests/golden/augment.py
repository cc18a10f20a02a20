"""torchvision's colour functions on PIL images made by a formula, mixup and cutmix: tests/golden/augment.json.

Run: python tests/golden/augment.py
"""
import hashlib, json, pathlib
import numpy as np
import PIL, torch, torchvision
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.transforms import v2

from pictures import picture

torch.set_num_threads(1)


def all_colours():
    i = np.arange(1 << 24, dtype=np.uint32)
    return Image.fromarray(np.stack([i >> 16, (i >> 8) & 255, i & 255], -1).astype(np.uint8).reshape(4096, 4096, 3))


def record(image):
    data = image.tobytes()
    spots = [0, len(data) // 3, len(data) // 2, len(data) - 3]
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": {str(at): list(data[at : at + 3]) for at in spots}}


FUNCTIONS = {"brightness": F.adjust_brightness, "contrast": F.adjust_contrast, "saturation": F.adjust_saturation, "hue": F.adjust_hue}
FACTORS = {
    "brightness": [0.0, 0.3, 0.5, 0.77, 1.0, 1.2345, 1.5, 3.0],
    "contrast": [0.0, 0.3, 0.5, 0.77, 1.0, 1.2345, 1.5, 3.0],
    "saturation": [0.0, 0.3, 0.5, 0.77, 1.0, 1.2345, 1.5, 3.0],
    "hue": [-0.5, -0.3, -0.1234, -0.001, 0.0, 0.1, 0.3, 0.5],
}
colour = []
for size in [(64, 48), (37, 53)]:
    for name, factors in FACTORS.items():
        for factor in factors:
            colour.append({"function": name, "factor": factor, "size": size, **record(FUNCTIONS[name](picture(*size), factor))})
for name, factor in [("hue", 0.0), ("hue", -0.3), ("hue", 0.21), ("saturation", 1.37), ("saturation", 0.61), ("contrast", 0.9), ("brightness", 1.7)]:
    colour.append({"function": name, "factor": factor, "size": None, **record(FUNCTIONS[name](all_colours(), factor))})

# ToTensor and Normalize.
tensor = F.normalize(F.to_tensor(picture(8, 6)), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
normalized = tensor.permute(1, 2, 0).contiguous().flatten().tolist()


def batch(n, h, w):
    """Images (n, 3, h, w) and one-hot targets of 3 classes."""
    images = torch.arange(n * h * w * 3, dtype=torch.float32).reshape(n, h, w, 3).permute(0, 3, 1, 2) / 64 - 3
    return images, torch.eye(3)[torch.arange(n) % 3]


def nhwc(images):
    return images.permute(0, 2, 3, 1).contiguous().flatten().tolist()


mixed = []
for n, lam in [(4, 0.3), (5, 0.75), (1, 0.5)]:
    images, targets = batch(n, 4, 6)
    mix = v2.MixUp(num_classes=3)
    params = {"labels": targets, "batch_size": n, "lam": lam}
    out, label = mix.transform(images, params), mix.transform(targets, params)
    mixed.append({"samples": n, "share": lam, "images": nhwc(out), "targets": label.flatten().tolist()})

cut = []
for n, lam, center in [(4, 0.3, (2, 1)), (3, 0.5, (0, 0)), (3, 0.1, (5, 3)), (2, 0.999, (3, 2))]:
    images, targets = batch(n, 4, 6)
    mix = v2.CutMix(num_classes=3)
    answers = iter([torch.tensor([center[0]]), torch.tensor([center[1]])])
    randint, torch.randint = torch.randint, lambda *a, **k: next(answers)
    mix._dist = type("Fixed", (), {"sample": lambda self, shape: torch.tensor(lam, dtype=torch.float64)})()
    params = mix.make_params([images])
    torch.randint = randint
    params |= {"labels": targets, "batch_size": n}
    out, label = mix.transform(images, params), mix.transform(targets, params)
    cut.append({"samples": n, "share": lam, "center": center, "box": params["box"], "images": nhwc(out), "targets": label.flatten().tolist()})

out = pathlib.Path(__file__).with_suffix(".json")
versions = {"torchvision": torchvision.__version__, "pillow": PIL.__version__}
out.write_text(json.dumps({**versions, "colour": colour, "normalized": normalized, "mixup": mixed, "cutmix": cut}))
