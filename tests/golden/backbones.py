"""Golden numbers of timm's backbones, without shipping weights: every parameter and image is filled by a formula that
tests/backbones.rs computes too, and timm runs in float64. Writes backbones.json beside itself.

    python tests/golden/backbones.py [NAME ..]        # torch 2.15, timm 1.0.31; a few minutes on one core

With names, the others' numbers stay as they are.
"""

import functools
import hashlib
import json
import pathlib
import sys

import numpy as np
import timm
import torch
import torch.nn.functional as F

NAMES = ["resnet18", "resnet34", "resnet50", "resnet26d", "resnet50d", "seresnet50", "ecaresnet50d"]
NAMES += [f"efficientnet_b{i}" for i in range(5)] + ["mobilenetv3_small_100", "mobilenetv3_large_100"]
NAMES += [f"convnext_{size}" for size in ("atto", "femto", "pico", "nano", "tiny")]
NAMES += [f"vit_{size}_patch16_224" for size in ("tiny", "small", "base")]
NAMES += ["deit_tiny_patch16_224", "deit_small_patch16_224", "vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224"]
NAMES += ["resnet18@3+vit_tiny_patch16_224", "efficientnet_b0@2+deit_tiny_patch16_224"]
CLASSES, BATCH = 5, 4


def sizes(name):
    """Image sizes: of evaluation, the last also of training; patches must divide them."""
    if "patch16" in name and "@" not in name:
        return [96, 64]
    return [64, 93] if name == "vit_tiny_r_s16_p8_224" else [64, 97]


def make(name, size=224, **options):
    """timm's model; `cnn@stage+vit` is its HybridEmbed of the CNN's features in front of the vision transformer."""
    if "@" in name:
        cnn, (stage, vit) = name.split("@")[0], name.split("@")[1].split("+")
        features = timm.create_model(cnn, features_only=True, out_indices=[int(stage)])
        if hasattr(features, "_stage_out_idx"):  # timm's EfficientNet keeps what lies behind
            features.blocks = features.blocks[: max(features._stage_out_idx)]
        embed = functools.partial(timm.layers.HybridEmbed, backbone=features)
        return timm.create_model(vit, embed_layer=embed, patch_size=1, img_size=size, **options)
    return timm.create_model(name, **(dict(img_size=size) if "it_" in name else {}), **options)


def uniform(name, count):
    """count numbers in [-1, 1): murmur3's finalizer over an index and a hash (FNV-1a) of the name."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    h = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + seed) & 0xFFFFFFFF
    for shift, factor in [(16, 0x85EBCA6B), (13, 0xC2B2AE35)]:
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (h.astype(np.float64) / 2**31 - 1).astype(np.float32).astype(np.float64)


def fill(model):
    # A pre-activation within rounding of ReLU's kink changes gradients by as much as a percent. Shifted far from it,
    # channels are on or off for certain (what a block adds to its shortcut: on) and gradients can be compared closely.
    # Squeeze-excite has too few values for such accidents, and its gates would only saturate.
    kinked = any(isinstance(module, torch.nn.ReLU) for module in model.modules())
    # Norms of a hybrid's own convolutional part alone: shifted attention would see one token only.
    hybrid = hasattr(model, "patch_embed")
    dark = ("bn1.bias", "norm1.bias", "stem.norm.bias", "backbone.norm.bias")
    # Hard-swish has kinks at +-3: small values in front of it stay between them.
    hard = any(isinstance(module, torch.nn.Hardswish) for module in model.modules())
    relu_stages = tuple(
        f"blocks.{i}."
        for i, stage in enumerate(getattr(model, "blocks", []))
        if any(type(getattr(m, "act", None)) is torch.nn.ReLU for m in stage.modules())
    )
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        u = uniform(name, tensor.numel())
        if tensor.dim() > 1:
            u *= float(np.float32((6 / (tensor.numel() // tensor.shape[0])) ** 0.5))
        elif name.endswith("running_var"):
            # Two keeps deep residual sums, and with them logits, of order one.
            u = (0.32 if hard else 2) * (1 + 0.125 * u)
        elif name.endswith(".weight"):
            u = (0.4 if hard else 1) * (1 + 0.25 * u)
        else:
            u *= 0.25
            if kinked and name.endswith(".bias") and ".se." not in name and (not hybrid or ".backbone." in name):
                shift = (2 if name.startswith(relu_stages) else 0) if hard else 5
                u += np.where((u < 0) & name.endswith(dark), -shift, shift)
        tensor.copy_(torch.from_numpy(u.astype(np.float32).astype(np.float64)).reshape(tensor.shape))


def images(size):
    count = BATCH * 3 * size * size
    return torch.from_numpy(2 * uniform(f"images {size}", count)).reshape(BATCH, 3, size, size)


def digits(values, count=7):
    return [float(f"{value:.{count}g}") for value in np.asarray(values, dtype=np.float64).reshape(-1)]


def filled(name, size):
    model = make(name, size, num_classes=CLASSES).double()
    fill(model)
    return model


def run_eval(name, size):
    model = filled(name, size).eval()
    with torch.no_grad():
        stages = []
        body = model.forward_features(images(size))
        features = model.forward_head(body, pre_logits=True)
        stages = [body.sum().item(), body.abs().sum().item(), features.sum().item()]
        return {"size": size, "logits": digits(model(images(size))), "sums": digits(stages)}


def run_train(name, size):
    model = filled(name, size).train()
    logits = model(images(size))
    loss = F.cross_entropy(logits, torch.arange(BATCH) % CLASSES)
    loss.backward()
    norms, dots = [], []
    for name, p in model.named_parameters():
        norms.append(p.grad.norm().item())
        dots.append((p.grad.reshape(-1) * torch.from_numpy(uniform(f"dot {name}", p.numel()))).sum().item())
    running = [b.sum().item() for name, b in model.named_buffers() if "running" in name]
    return {
        "size": size,
        "loss": loss.item(),
        "logits": digits(logits.detach()),
        "gradient_norms": digits(norms, 6),
        "gradient_dots": digits(dots, 6),
        "running_sums": digits(running, 6),
    }


def initial(model):
    """Standard deviation about zero and largest magnitude of every fresh parameter."""
    return [digits([p.square().mean().sqrt().item(), p.abs().max().item()], 4) for p in model.parameters()]


def drop_paths(name):
    """timm's stochastic depth, block by block, at a largest rate of 0.2; blocks without a shortcut do not drop."""
    model = make(name, drop_path_rate=0.2)
    blocks = [m for m in model.modules() if hasattr(m, "drop_path") or hasattr(m, "drop_path2")]
    last = lambda block: block.drop_path2 if hasattr(block, "drop_path2") else block.drop_path
    return digits([getattr(last(block), "drop_prob", 0.0) for block in blocks])


def pretrained(name):
    if "@" in name:
        return []
    default = timm.models.get_pretrained_cfg(name).tag
    tags = [full.split(".", 1)[1] for full in timm.list_models(f"{name}.*", pretrained=True)]
    tags.sort(key=lambda tag: (tag != default, tag))
    configurations = []
    for tag in tags:
        c = timm.models.get_pretrained_cfg(f"{name}.{tag}")
        # What else `custom_load` says is of the original files, not of the hub's.
        assert c.hf_hub_id == f"timm/{name}.{tag}" and c.custom_load != "hf"
        configurations.append({
            "tag": tag, "mean": c.mean, "std": c.std, "size": c.input_size[1],
            "test_size": (c.test_input_size or c.input_size)[1], "crop": c.test_crop_pct or c.crop_pct,
            "interpolation": c.interpolation, "classes": c.num_classes, "license": c.license or "",
        })
    return configurations


def golden(name):
    torch.manual_seed(1)
    model = make(name, num_classes=CLASSES)
    fresh = initial(model)
    state = model.state_dict()
    names = "".join(f"{key} {list(value.shape)}\n" for key, value in state.items())
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tensors": len(state),
        "names_sha256": hashlib.sha256(names.encode()).hexdigest(),
        "classifier": model.pretrained_cfg["classifier"],
        "initial": fresh,
        "drop_paths": drop_paths(name),
        "eval": [run_eval(name, size) for size in sizes(name)],
        "train": run_train(name, sizes(name)[-1]),
        "pretrained": pretrained(name),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    path, again = pathlib.Path(__file__).with_suffix(".json"), sys.argv[1:]
    known = {model["name"]: model for model in json.loads(path.read_text())["models"]} if again else {}
    models = [golden(name) if name in again or name not in known else known[name] for name in NAMES]
    lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models)
    path.write_text(f'{{"timm":"{timm.__version__}","models":[\n{lines}\n]}}\n')
