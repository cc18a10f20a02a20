"""Golden numbers of timm's backbones, without shipping weights: every parameter and image is filled by a formula that
tests/backbones.rs computes too, and timm runs in float64. Writes backbones.json beside itself.

    python tests/golden/backbones.py        # torch 2.15, timm 1.0.31; a few minutes on one core
"""

import hashlib
import json
import pathlib

import numpy as np
import timm
import torch
import torch.nn.functional as F

NAMES = ["resnet18", "resnet34", "resnet50", "resnet26d", "resnet50d", "seresnet50", "ecaresnet50d"]
NAMES += [f"efficientnet_b{i}" for i in range(5)] + ["mobilenetv3_small_100", "mobilenetv3_large_100"]
NAMES += [f"convnext_{size}" for size in ("atto", "femto", "pico", "nano", "tiny")]
CLASSES, BATCH, TRAIN_SIZE = 5, 4, 97
EVAL_SIZES = [64, 97]


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
            if kinked and name.endswith(".bias") and ".se." not in name:
                shift = (2 if name.startswith(relu_stages) else 0) if hard else 5
                u += np.where((u < 0) & name.endswith("bn1.bias"), -shift, shift)
        tensor.copy_(torch.from_numpy(u.astype(np.float32).astype(np.float64)).reshape(tensor.shape))


def images(size):
    count = BATCH * 3 * size * size
    return torch.from_numpy(2 * uniform(f"images {size}", count)).reshape(BATCH, 3, size, size)


def digits(values, count=7):
    return [float(f"{value:.{count}g}") for value in np.asarray(values, dtype=np.float64).reshape(-1)]


def run_eval(model, size):
    model.eval()
    with torch.no_grad():
        stages = []
        body = model.forward_features(images(size))
        features = model.forward_head(body, pre_logits=True)
        stages = [body.sum().item(), body.abs().sum().item(), features.sum().item()]
        return {"size": size, "logits": digits(model(images(size))), "sums": digits(stages)}


def run_train(model):
    model.train()
    logits = model(images(TRAIN_SIZE))
    loss = F.cross_entropy(logits, torch.arange(BATCH) % CLASSES)
    loss.backward()
    norms, dots = [], []
    for name, p in model.named_parameters():
        norms.append(p.grad.norm().item())
        dots.append((p.grad.reshape(-1) * torch.from_numpy(uniform(f"dot {name}", p.numel()))).sum().item())
    running = [b.sum().item() for name, b in model.named_buffers() if "running" in name]
    return {
        "size": TRAIN_SIZE,
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
    model = timm.create_model(name, drop_path_rate=0.2)
    blocks = [m for m in model.modules() if hasattr(m, "drop_path")]
    return digits([getattr(block.drop_path, "drop_prob", 0.0) for block in blocks])


def pretrained(name):
    default = timm.create_model(name).pretrained_cfg["tag"]
    tags = [full.split(".", 1)[1] for full in timm.list_models(f"{name}.*", pretrained=True)]
    tags.sort(key=lambda tag: (tag != default, tag))
    configurations = []
    for tag in tags:
        c = timm.models.get_pretrained_cfg(f"{name}.{tag}")
        assert c.hf_hub_id == f"timm/{name}.{tag}" and not c.custom_load
        configurations.append({
            "tag": tag, "mean": c.mean, "std": c.std, "size": c.input_size[1],
            "test_size": (c.test_input_size or c.input_size)[1], "crop": c.test_crop_pct or c.crop_pct,
            "interpolation": c.interpolation, "classes": c.num_classes, "license": c.license or "",
        })
    return configurations


def golden(name):
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=CLASSES)
    fresh = initial(model)
    model = model.double()
    state = model.state_dict()
    names = "".join(f"{key} {list(value.shape)}\n" for key, value in state.items())
    fill(model)
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tensors": len(state),
        "names_sha256": hashlib.sha256(names.encode()).hexdigest(),
        "classifier": model.pretrained_cfg["classifier"],
        "initial": fresh,
        "drop_paths": drop_paths(name),
        "eval": [run_eval(model, size) for size in EVAL_SIZES],
        "train": run_train(model),
        "pretrained": pretrained(name),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    models = [golden(name) for name in NAMES]
    path = pathlib.Path(__file__).with_suffix(".json")
    lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models)
    path.write_text(f'{{"timm":"{timm.__version__}","models":[\n{lines}\n]}}\n')
