"""Values and gradients of the operations by torch: writes ops.json beside this file.

Inputs are sines of their index (`wave`), so that the test makes the same ones; each gradient is that of sum(y * wave).
Images are (N, H, W, C) in the file, as in the library.
"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def wave(shape, phase):
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + phase).float().reshape(shape)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def case(shapes, function):
    inputs = [wave(shape, i + 1.0).requires_grad_() for i, shape in enumerate(shapes)]
    y = function(*inputs)
    (y * wave(y.shape, 0.5)).sum().backward()
    flat = lambda tensor: [round(value, 8) for value in tensor.detach().flatten().tolist()]
    return {"y": flat(y), "gradients": [flat(x.grad) for x in inputs]}


def batch_norm(activation):
    def function(x, weight, bias, residual):
        y = F.batch_norm(nchw(x), None, None, weight, bias, training=True) + nchw(residual)
        return nhwc(activation(y))

    return case([(2, 3, 3, 5), (5,), (5,), (2, 3, 3, 5)], function)


def statistics():
    norm = torch.nn.BatchNorm2d(5)
    norm(nchw(wave((2, 3, 3, 5), 1.0)))
    return {"y": norm.running_mean.tolist(), "gradients": [norm.running_var.tolist()]}


def attention(qkv):
    images, tokens, width = qkv.shape
    q, k, v = (3 * qkv).reshape(images, tokens, 3, 2, width // 6).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def group_norm(x, weight, bias):
    return nhwc(F.relu(F.group_norm(nchw(x), 3, weight, bias, 1e-5)))


IMAGE = (2, 5, 7, 3)
CASES = {
    "batch_norm_relu": batch_norm(F.relu),
    "batch_norm_silu": batch_norm(F.silu),
    "running": statistics(),
    "layer_norm": case([(3, 5, 19), (19,), (19,)], lambda x, w, b: F.layer_norm(x, (19,), w, b, 1e-6)),
    "layer_norm_plain": case([(3, 5, 19)], lambda x: F.layer_norm(x, (19,), eps=1e-5)),
    "attention": case([(2, 5, 24)], attention),
    "group_norm_relu": case([(2, 3, 4, 6), (6,), (6,)], group_norm),
    "silu": case([IMAGE], F.silu),
    "gelu": case([IMAGE], F.gelu),
    "sigmoid": case([IMAGE], torch.sigmoid),
    "max_pool": case([IMAGE], lambda x: nhwc(F.max_pool2d(nchw(x), 3, 2, 1))),
    "avg_pool": case([IMAGE], lambda x: nhwc(F.avg_pool2d(nchw(x), 3, 2, 1))),
    "global_avg_pool": case([IMAGE], lambda x: x.mean((1, 2))),
    "linear_gelu": case([(4, 6), (3, 6), (3,)], lambda x, w, b: F.gelu(F.linear(x, w, b))),
    "cross_entropy": case(
        [(4, 6)], lambda x: F.cross_entropy(8 * x, wave((4, 6), 3.0).abs(), wave((6,), 4.0).abs(), reduction="none")
    ),
    "bce": case([(4, 6)], lambda x: F.binary_cross_entropy_with_logits(8 * x, wave((4, 6), 3.0).abs(), reduction="none")),
}

out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps(CASES) + "\n")
print(f"{out}: {out.stat().st_size} bytes, torch {torch.__version__}")
