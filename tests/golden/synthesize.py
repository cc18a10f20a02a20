"""One step of the GAN's two players, DiffAugment and the blend's filters, by torch: writes synthesize.json beside this file.

Parameters are sines of their index, scaled, so that the test sets the same ones by the same names. The discriminator's
weights are under torch's own `parametrizations.spectral_norm`. Images are (N, H, W, C) in the file, as in the library.
"""
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

torch.set_num_threads(1)

SIZE, WIDTH, NOISE, CLASSES, BATCH = 16, 4, 5, 3, 4
COARSEST = 4


def wave(shape, phase):
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + phase).float().reshape(shape)


def channels(side):
    return WIDTH * min(SIZE // side, 4)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.classes = nn.Embedding(CLASSES, NOISE)
        self.project = nn.Linear(2 * NOISE, COARSEST * COARSEST * channels(COARSEST))
        self.first = nn.BatchNorm2d(channels(COARSEST))
        self.blocks = nn.ModuleList()
        side = COARSEST
        while side < SIZE:
            conv = nn.Conv2d(channels(side), channels(2 * side), 3, padding=1, bias=False)
            self.blocks.append(nn.ModuleDict({"conv": conv, "norm": nn.BatchNorm2d(channels(2 * side))}))
            side *= 2
        self.paint = nn.Conv2d(WIDTH, 3, 3, padding=1)

    def forward(self, z, y):
        x = self.project(torch.cat([z, self.classes(y)], 1))
        x = x.view(-1, COARSEST, COARSEST, channels(COARSEST)).permute(0, 3, 1, 2)
        x = F.relu(self.first(x))
        for block in self.blocks:
            x = F.relu(block["norm"](block["conv"](F.interpolate(x, scale_factor=2, mode="nearest"))))
        return torch.tanh(self.paint(x))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        layers, side = [nn.Conv2d(3, WIDTH, 3, padding=1)], SIZE
        while side > COARSEST:
            layers.append(nn.Conv2d(channels(side), channels(side // 2), 4, stride=2, padding=1))
            side //= 2
        self.layers = nn.ModuleList(layers)
        self.score = nn.Linear(channels(COARSEST), 1)
        self.classes = nn.Embedding(CLASSES, channels(COARSEST))

    def forward(self, x, y):
        for layer in self.layers:
            x = 2 * F.leaky_relu(layer(x), 0.2)
        features = x.sum((2, 3))
        return self.score(features).squeeze(1) + (self.classes(y) * features).sum(1)


def fill(module, prefix):
    """Every trained parameter a scaled wave, by its own phase; norms start at one as usual."""
    for index, (name, parameter) in enumerate(sorted(module.named_parameters())):
        scale = 0.1 if parameter.dim() > 1 else 0.05
        value = wave(parameter.shape, index + 0.3) * scale
        if ".norm.weight" in name or name == "first.weight":
            value = value + 1
        parameter.data.copy_(value)


def rounded(tensor):
    return [round(value, 7) for value in tensor.detach().flatten().tolist()]


def norm(parameters):
    return torch.sqrt(sum((p.grad ** 2).sum() for p in parameters if p.grad is not None)).item()


def game():
    generator, discriminator = Generator(), Discriminator()
    fill(generator, "generator")
    fill(discriminator, "discriminator")
    vectors = {}
    modules = [(f"layers.{i}", layer) for i, layer in enumerate(discriminator.layers)]
    for name, module in modules + [("score", discriminator.score), ("classes", discriminator.classes)]:
        # Embeddings have output rows first as well: dim = 0.
        parametrizations.spectral_norm(module, dim=0)
        norm_of = module.parametrizations.weight[0]
        u, v = (wave(vector.shape, phase) for vector, phase in [(norm_of._u, 0.1), (norm_of._v, 0.2)])
        norm_of._u.copy_(F.normalize(u, dim=0))
        norm_of._v.copy_(F.normalize(v, dim=0))
        vectors[name] = module
    real = wave((BATCH, SIZE, SIZE, 3), 0.7).permute(0, 3, 1, 2)
    z = wave((BATCH, NOISE), 0.9)
    real_y, made_y = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 1, 0, 1])
    adam = lambda module: torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0.0, 0.9))
    of_d, of_g = adam(discriminator), adam(generator)
    made = generator(z, made_y)
    scores = discriminator(torch.cat([real, made.detach()]), torch.cat([real_y, made_y]))
    loss_d = F.relu(1 - scores[:BATCH]).mean() + F.relu(1 + scores[BATCH:]).mean()
    loss_d.backward()
    norm_d = norm(discriminator.parameters())
    of_d.step()
    for parameter in discriminator.parameters():
        parameter.requires_grad_(False)
    loss_g = -discriminator(made, made_y).mean()
    loss_g.backward()
    norm_g = norm(generator.parameters())
    of_g.step()
    sigma = {}
    for name, module in vectors.items():
        weight = module.parametrizations.weight.original.flatten(1)
        vector = module.parametrizations.weight[0]
        sigma[name] = torch.dot(vector._u, weight @ vector._v).item()
    return {
        "discriminator_loss": loss_d.item(),
        "generator_loss": loss_g.item(),
        "norms": [norm_d, norm_g],
        "scores": rounded(scores),
        "made": rounded(made.permute(0, 2, 3, 1)[0]),
        "sigma": sigma,
        "project": rounded(generator.project.weight[:4]),
        "first_layer": rounded(discriminator.layers[0].parametrizations.weight.original),
    }


def diff_augment():
    """The formulas of DiffAugment_pytorch.py under given numbers: brightness, saturation, contrast, shift."""
    x = wave((2, 3, 8, 8), 0.4).requires_grad_()
    brightness, saturation, contrast = [0.2, -0.3], [1.6, 0.4], [0.7, 1.2]
    per = lambda values: torch.tensor(values).view(2, 1, 1, 1)
    y = x + per(brightness)
    mean = y.mean(dim=1, keepdim=True)
    y = (y - mean) * per(saturation) + mean
    mean = y.mean(dim=[1, 2, 3], keepdim=True)
    y = (y - mean) * per(contrast) + mean
    out = []
    for image, (right, down) in [(y[0], (1, -1)), (y[1], (-1, 0))]:
        padded = F.pad(image, (1, 1, 1, 1))
        out.append(padded[:, 1 - down : 9 - down, 1 - right : 9 - right])
    y = torch.stack(out)
    (y * wave(y.shape, 0.5)).sum().backward()
    nhwc = lambda tensor: rounded(tensor.permute(0, 2, 3, 1))
    return {"x": nhwc(x), "y": nhwc(y), "weight": nhwc(wave(y.shape, 0.5)), "gradient": nhwc(x.grad)}


def image():
    y, x, c = np.mgrid[0:9, 0:11, 0:3]
    return ((x * 23 + y * 31 + c * 57 + x * y * 7) % 256).astype(np.uint8)


def sharpen(alpha, lightness):
    """albumentations' Sharpen: the kernel through a mirrored border."""
    kernel = (1 - alpha) * np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]) + alpha * np.array(
        [[-1, -1, -1], [-1, 8 + lightness, -1], [-1, -1, -1]]
    )
    padded = torch.from_numpy(np.pad(image().astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="reflect"))
    planes = padded.permute(2, 0, 1)[:, None]
    out = F.conv2d(planes, torch.from_numpy(kernel)[None, None])[:, 0].permute(1, 2, 0).numpy()
    return np.clip(np.rint(out), 0, 255).astype(int).flatten().tolist()


def downscale(factor):
    """Every `factor`th pixel (cv2's INTER_NEAREST), stretched again (INTER_LINEAR)."""
    from PIL import Image

    whole = image()
    h, w = whole.shape[0] // factor, whole.shape[1] // factor
    small = whole[(np.arange(h) * whole.shape[0]) // h][:, (np.arange(w) * whole.shape[1]) // w]
    planes = torch.from_numpy(small.astype(np.float64)).permute(2, 0, 1)[None]
    large = F.interpolate(planes, size=whole.shape[:2], mode="bilinear", align_corners=False)
    return large[0].permute(1, 2, 0).flatten().tolist()


cases = {
    "game": game(),
    "diff_augment": diff_augment(),
    "sharpen": sharpen(0.3, 0.7),
    "downscale": [round(value, 4) for value in downscale(2)],
}
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
print(f"{out}: {out.stat().st_size} bytes, torch {torch.__version__}")
print({key: cases["game"][key] for key in ["discriminator_loss", "generator_loss", "norms", "sigma"]})
