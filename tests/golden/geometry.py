"""Geometric and erasing augmentations and batch mixing of torchvision, timm and papers, on images made by a formula: tests/golden/geometry.json.

Run: python tests/golden/geometry.py
"""
import hashlib, json, math, pathlib, random
import numpy as np
import PIL, timm, torch, torchvision
from PIL import Image
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import functional as F
from torchvision.transforms import InterpolationMode

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent


def picture(width, height):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    value = (x * (3 + 2 * c) + y * (5 - c) + ((x * y) >> (2 + c)) + c * 40) & 255
    return Image.fromarray(value.astype(np.uint8))


def record(image):
    data = image.tobytes()
    spots = [0, len(data) // 3, len(data) // 2, len(data) - 3]
    return {"sha256": hashlib.sha256(data).hexdigest(), "out": image.size, "bytes": [[at, list(data[at : at + 3])] for at in spots]}


SIZES = [(64, 48), (37, 53), (40, 40)]
FILTERS = ["nearest", "bilinear", "bicubic"]
FILL = [10, 200, 77]

affine = []
for size in SIZES:
    for filter in FILTERS:
        for case in [
            {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]},
            {"angle": 17.3, "translate": [3, -5], "scale": 1.2, "shear": [4.0, -7.5]},
            {"angle": -142.0, "translate": [0, 9], "scale": 0.6, "shear": [0.0, 20.0]},
            {"angle": 0.0, "translate": [-7, 4], "scale": 0.75, "shear": [0.0, 0.0]},
            {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [12.5, 0.0], "center": [0, 0]},
            {"angle": 90.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]},
        ]:
            arguments = {"center": None, **case}
            image = F.affine(picture(*size), interpolation=InterpolationMode(filter), fill=FILL, **arguments)
            affine.append({"size": size, "filter": filter, **arguments, **record(image)})

rotate = []
for size in SIZES:
    for filter in FILTERS:
        for angle, center in [
            (30.0, None), (-12.5, None), (90.0, None), (180.0, None), (270.0, None), (0.0, None), (45.0, [3, 9]), (0.0, [3, 9]),
        ]:
            image = F.rotate(picture(*size), angle, InterpolationMode(filter), False, center, FILL)
            rotate.append({"size": size, "filter": filter, "angle": angle, "center": center, **record(image)})

perspective = []
for size in SIZES:
    w, h = size[0] - 1, size[1] - 1
    start = [[0, 0], [w, 0], [w, h], [0, h]]
    for filter in FILTERS:
        for end in [start, [[4, 7], [w - 9, 2], [w - 1, h - 11], [6, h - 3]], [[9, 0], [w, 8], [w - 8, h], [0, h - 9]]]:
            image = F.perspective(picture(*size), start, end, InterpolationMode(filter), FILL)
            coefficients = F._get_perspective_coeffs(start, end)
            perspective.append({"size": size, "filter": filter, "start": start, "end": end, "coefficients": coefficients, **record(image)})

# Cropping and padding.
pad = []
for size in [(11, 7), (4, 3)]:
    for mode in ["constant", "edge", "reflect", "symmetric"]:
        for margin in [1, 5]:
            image = F.pad(picture(*size), margin, tuple(FILL), mode)
            pad.append({"size": size, "mode": mode, "margin": margin, **record(image)})

center = []
for size, side in [((11, 8), 4), ((10, 13), 5), ((9, 9), 9), ((12, 7), 6), ((13, 9), 4)]:
    center.append({"size": size, "side": side, **record(F.center_crop(picture(*size), side))})

resized = []
for size, (x, y, w, h), side in [((64, 48), (5, 7, 30, 21), 24), ((37, 53), (0, 11, 37, 40), 32), ((40, 40), (39, 0, 1, 40), 16)]:
    for filter in ["nearest", "bilinear", "bicubic"]:
        image = F.resized_crop(picture(*size), y, x, h, w, [side, side], InterpolationMode(filter))
        resized.append({"size": size, "part": [[x, y], [w, h]], "side": side, "filter": filter, **record(image)})

# RandomAffine's and RandomPerspective's calls are those above; what they draw has one known answer at the ends.
corners = []
for size, scale in [((64, 48), 0.5), ((37, 53), 1.0)]:
    draw = torch.randint
    for end in ["low", "high"]:
        torch.randint = lambda low, high, size, end=end: torch.tensor([low if end == "low" else high - 1])
        corners.append({"size": size, "scale": scale, "end": end, "corners": torchvision.transforms.RandomPerspective.get_params(*size, scale)[1]})
    torch.randint = draw


def noise(size, axis):
    """The test's `noise`: -1..1, a value a pixel."""
    i = np.arange(size[0] * size[1], dtype=np.int64)
    value = (i * (7919 + 1013 * axis) + i * i * 31) % 2001
    return torch.tensor((value / 1000.0 - 1.0).reshape(1, 1, size[1], size[0]), dtype=torch.float32)


elastic = []
for size, alpha, sigma, fill in [((48, 40), 50.0, 3.0, [0, 0, 0]), ((37, 53), 400.0, 2.5, FILL), ((24, 31), 6.0, 0.0, FILL)]:
    transform = torchvision.transforms.ElasticTransform(alpha, sigma)
    answers = iter([(noise(size, axis) + 1) / 2 for axis in (0, 1)])
    draw, torch.rand = torch.rand, lambda *a, **k: next(answers)
    field = transform.get_params(transform.alpha, transform.sigma, [size[1], size[0]])
    torch.rand = draw
    image = F.elastic_transform(picture(*size), field, InterpolationMode.BILINEAR, fill)
    pixels = np.asarray(image).reshape(-1)
    elastic.append({"size": size, "alpha": alpha, "sigma": sigma, "fill": fill, "pixels": pixels[:: 7 if len(pixels) > 3000 else 1].tolist()})


def grid_mask(size, d, ratio, start, angle, mode):
    """The mask of the authors' code, github.com/dvlab-research/GridMask, imagenet_grid/utils/grid.py: 1 stays."""
    w, h = size
    hh, ww = int(1.5 * h), int(1.5 * w)
    bar = int(d * ratio + 0.5)
    mask = np.ones((hh, ww), np.float32)
    for axis, length in ((0, hh), (1, ww)):
        for i in range(-1, length // d + 1):
            s = d * i + start[axis]
            span = slice(max(min(s, length), 0), max(min(s + bar, length), 0))
            if axis == 0:
                mask[span, :] *= 0
            else:
                mask[:, span] *= 0
    mask = np.asarray(Image.fromarray(np.uint8(mask)).rotate(angle))
    mask = mask[(hh - h) // 2 : (hh - h) // 2 + h, (ww - w) // 2 : (ww - w) // 2 + w]
    return 1 - mask if mode == "squares" else mask


grid = []
for size, d, ratio, start, angle, mode in [
    ((64, 48), 16, 0.5, [3, 9], 0, "bars"), ((64, 48), 20, 0.6, [0, 19], 37, "squares"),
    ((40, 40), 9, 0.3, [8, 1], 90, "squares"), ((37, 53), 60, 0.6, [41, 12], 301, "bars"),
]:
    mask = grid_mask(size, d, ratio, start, angle, mode)
    image = np.where(mask[..., None] == 1, np.asarray(picture(*size)), np.uint8(FILL))
    grid.append({"size": size, "d": d, "ratio": ratio, "start": start, "angle": angle, "mode": mode, **record(Image.fromarray(image))})

cutout = []
for size, length, (cx, cy) in [((11, 8), 4, (5, 4)), ((11, 8), 6, (0, 0)), ((11, 8), 5, (10, 7)), ((9, 9), 16, (4, 4))]:
    # github.com/uoguelph-mlrg/Cutout, util/cutout.py.
    image = np.asarray(picture(*size)).copy()
    y1, y2 = (int(np.clip(cy + s * (length // 2), 0, size[1])) for s in (-1, 1))
    x1, x2 = (int(np.clip(cx + s * (length // 2), 0, size[0])) for s in (-1, 1))
    image[y1:y2, x1:x2] = FILL
    cutout.append({"size": size, "length": length, "center": [cx, cy], **record(Image.fromarray(image))})


# timm's RandomErasing with the draws of its random numbers given, on a normalized image and back to 8 bits.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
erasing = []
for size, area, ratio in [((40, 30), 0.02, 1.0), ((40, 30), 0.3, 0.4), ((31, 57), 1 / 3, 2.5)]:
    tensor = F.normalize(F.to_tensor(picture(*size)), MEAN, STD)
    answers = iter([area, math.log(ratio)])
    saved = random.random, random.uniform, random.randint
    random.random, random.uniform, random.randint = (lambda: 0.0), (lambda a, b: next(answers)), (lambda a, b: a)
    erased = RandomErasing(probability=1.0, device="cpu")(tensor.clone())
    random.random, random.uniform, random.randint = saved
    pixels = (erased * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    image = Image.fromarray(pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
    erasing.append({"size": size, "area": area, "ratio": ratio, **record(image)})


def batch(n, h, w):
    """Images (n, 3, h, w) and one-hot targets of 3 classes, as in augment.py."""
    images = torch.arange(n * h * w * 3, dtype=torch.float32).reshape(n, h, w, 3).permute(0, 3, 1, 2) / 64 - 3
    return images.clone(), torch.arange(n) % 3


def nhwc(images):
    return images.permute(0, 2, 3, 1).contiguous().flatten().tolist()


# timm's mixup and cutmix with the draws given: for each mix its lam, whether cutmix, and the box's centre (x, y).
mixup_cutmix = []
for mode, n, draws, correct in [
    ("batch", 4, [(0.3, False, None)], True), ("batch", 4, [(0.3, True, (2, 1))], True), ("batch", 4, [(0.3, True, (0, 0))], False),
    ("pair", 4, [(0.25, True, (5, 3)), (0.7, False, None)], True),
    ("elem", 4, [(0.25, True, (1, 2)), (0.7, False, None), (1.0, False, None), (0.5, True, (4, 0))], True),
]:
    images, labels = batch(n, 4, 6)
    mixup = Mixup(1.0, 1.0, mode=mode, correct_lam=correct, label_smoothing=0.0, num_classes=3)
    lam = np.array([draw[0] for draw in draws], dtype=np.float32)
    cut = np.array([draw[1] for draw in draws])
    mixup._params_per_batch = lambda: (draws[0][0], draws[0][1])
    mixup._params_per_elem = lambda size: (lam.copy(), cut.copy())
    answers = iter([at for draw in draws if draw[1] for at in (draw[2][1], draw[2][0])])
    randint, np.random.randint = np.random.randint, lambda *a, **k: next(answers)
    out, targets = mixup(images, labels)
    np.random.randint = randint
    mixup_cutmix.append({"mode": mode, "samples": n, "correct": correct, "draws": draws, "images": nhwc(out), "targets": targets.flatten().tolist()})

# The authors' arithmetic of ResizeMix: the partner, resized with the nearest pixels, in the box.
resizemix = []
for n, (x1, x2, y1, y2) in [(4, (1, 4, 0, 3)), (3, (0, 6, 2, 4)), (2, (3, 4, 1, 2))]:
    images, labels = batch(n, 4, 6)
    other, targets = images.roll(1, 0), torch.eye(3)[labels]
    images[:, :, y1:y2, x1:x2] = torch.nn.functional.interpolate(other, (y2 - y1, x2 - x1), mode="nearest")
    lam = 1 - (x2 - x1) * (y2 - y1) / 24
    targets = lam * targets + (1 - lam) * targets.roll(1, 0)
    resizemix.append({"samples": n, "x": [x1, x2], "y": [y1, y2], "images": nhwc(images), "targets": targets.flatten().tolist()})

# What the originals draw: mean and standard deviation of x, y, width and height.
def moments(rows):
    rows = np.array(rows, dtype=np.float64)
    return {"mean": rows.mean(0).round(4).tolist(), "std": rows.std(0).round(4).tolist()}


def erased_box(size, transform):
    out = transform(torch.ones(1, size[1], size[0]))[0] == 0
    y, x = torch.where(out)
    return [x.min().item(), y.min().item(), (x.max() - x.min()).item() + 1, (y.max() - y.min()).item() + 1]


torch.manual_seed(0)
random.seed(0)
COUNT = 20000
drawn = {}
for size in [(100, 80), (30, 90)]:
    image = picture(*size)
    parts = [torchvision.transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(COUNT)]
    drawn[f"resized {size[0]}x{size[1]}"] = moments([(x, y, w, h) for y, x, h, w in parts])
    erase = RandomErasing(probability=1.0, device="cpu")
    drawn[f"erasing {size[0]}x{size[1]}"] = moments([erased_box(size, erase) for _ in range(COUNT // 4)])

golden = {
    "affine": affine, "rotate": rotate, "perspective": perspective, "pad": pad, "center": center, "resized": resized, "corners": corners,
    "elastic": elastic, "grid": grid, "cutout": cutout, "erasing": erasing, "mixup_cutmix": mixup_cutmix, "resizemix": resizemix, "drawn": drawn,
}
(HERE / "geometry.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
print(PIL.__version__, timm.__version__, torch.__version__, torchvision.__version__)
