"""The operations of torchvision's and timm's automatic policies on PIL images made by a formula, their magnitudes, and the
pairs of AutoAugment: tests/golden/policies.json.

Run: python tests/golden/policies.py
"""
import hashlib, json, pathlib
import numpy as np
import PIL, timm, torch, torchvision
from PIL import Image
from timm.data import auto_augment
from torchvision.transforms import InterpolationMode, autoaugment as A
from torchvision.transforms import functional as F

from pictures import dim, picture

torch.set_num_threads(1)


def linspace(start, end, steps, original=torch.linspace):
    """The last bit of torch.linspace depends on the machine's vector width, and a pixel of TranslateX on that bit: the exact
    values instead."""
    exact = torch.from_numpy(np.linspace(start, end, steps)).float()
    assert torch.allclose(exact, original(start, end, steps), rtol=1e-6, atol=1e-6)
    return exact


torch.linspace = linspace
SIZES = [(24, 20), (37, 29)]


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def argument(name, magnitude):
    """What the operation itself gets, see _apply_op."""
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return 1.0 + magnitude
    return int(magnitude) if name in ("TranslateX", "TranslateY", "Posterize") else magnitude


def arguments(space):
    """Of each operation: at each bin, and whether it has two sides."""
    return {
        name: {"values": [argument(name, m) for m in magnitudes.reshape(-1).tolist()], "signed": signed}
        for name, (magnitudes, signed) in space.items()
    }


spaces, results = [], []
for width, height in SIZES:
    size = (height, width)
    for policy, space in [
        ("rand_augment", A.RandAugment()._augmentation_space(31, size)),
        ("rand_augment_7", A.RandAugment()._augmentation_space(7, size)),
        ("auto_augment", A.AutoAugment()._augmentation_space(10, size)),
        ("trivial_augment_wide", A.TrivialAugmentWide()._augmentation_space(31)),
        ("aug_mix", A.AugMix()._augmentation_space(10, size)),
    ]:
        spaces.append({"policy": policy, "size": [width, height], "ops": arguments(space)})
        if policy == "rand_augment_7":
            continue
        for name, (magnitudes, signed) in space.items():
            for bin, magnitude in enumerate(magnitudes.reshape(-1).tolist()):
                for sign in [1, -1] if signed else [1]:
                    # Every magnitude, each on one of the sizes and one of the filters.
                    if (width == 24) != (bin % 2 == 0):
                        continue
                    if name == "Posterize" and magnitude == 0:
                        continue  # Pillow refuses to keep no bits.
                    mode = [InterpolationMode.NEAREST, InterpolationMode.BILINEAR][(bin // 2) % 2]
                    fill = [0, 0, 0] if sign == 1 else [9, 80, 200]
                    image = A._apply_op(dim(width, height), name, sign * magnitude, mode, fill)
                    results.append([policy, name, bin, sign, [width, height], mode.value, digest(image)])

policies = {}
for name in A.AutoAugmentPolicy:
    pairs = A.AutoAugment(name).policies
    policies[name.value] = [[[op, p, bin] for op, p, bin in pair] for pair in pairs]

# timm: the argument that each level becomes, and the operation on the image, at the three filters.
RENAMED = {"TranslateXRel": "TranslateX", "TranslateYRel": "TranslateY"}
levels = []
for increasing, names in [(False, auto_augment._RAND_TRANSFORMS), (True, auto_augment._RAND_INCREASING_TRANSFORMS)]:
    for name in names:
        for level in [0.0, 0.4, 3.0, 5.55, 9.0, 10.0]:
            for negative in [False, True]:
                auto_augment.random.random = lambda: 0.9 if negative else 0.1
                function = auto_augment.LEVEL_TO_ARG[name]
                arguments_ = function(level, {}) if function else ()
                filter = ["nearest", "bilinear", "bicubic"][int(level) % 3]
                resample = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[filter]
                op = name.removesuffix("Increasing")
                op = RENAMED.get(op, op)
                hash = None
                if not (op == "Posterize" and arguments_[0] == 0):
                    image = auto_augment.NAME_TO_OP[name](dim(37, 29), *arguments_, fillcolor=(128, 128, 128), resample=resample)
                    hash = digest(image)
                argument_ = float(arguments_[0]) if arguments_ else 0.0
                levels.append([op, increasing, level, negative, argument_, filter, hash])

# AugMix's average of chains, with weights and operations given.
weights, chains = [0.25, 0.35, 0.4], [[("Invert", 0.0)], [("Solarize", 100.0), ("Equalize", 0.0)]]
image = dim(24, 20)
mix = torch.tensor(weights[0]) * F.pil_to_tensor(image)
for weight, chain in zip(weights[1:], chains):
    changed = image
    for name, magnitude in chain:
        changed = A._apply_op(changed, name, magnitude, InterpolationMode.BILINEAR, None)
    mix.add_(torch.tensor(weight) * F.pil_to_tensor(changed))
mixed = digest(F.to_pil_image(mix.to(dtype=torch.uint8)))

out = pathlib.Path(__file__).with_suffix(".json")
versions = {"torchvision": torchvision.__version__, "timm": timm.__version__, "pillow": PIL.__version__}
golden = {**versions, "spaces": spaces, "results": results, "policies": policies, "levels": levels, "mixed": mixed}
out.write_text(json.dumps(golden, separators=(",", ":")))
