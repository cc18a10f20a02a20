"""Outputs and gradients of torch's conv2d on numbers made by a rule: tests/golden/conv.json.

Element i of a tensor is (i * step % 257 - 128) / 128, counted in our order (NHWC for images, OIHW for weights), with step
37 for x, 59 for the weight and 83 for the output's gradient; all are exact in f32. What is kept are the first values and
the sum of squares of the output, the input's gradient and the weight's.
Run: python tests/golden/conv.py
"""
import json, pathlib
import torch

torch.set_num_threads(1)
# name, x (N, H, W, C), outputs, groups, kernel, stride, padding, dilation ([height, width] each)
CASES = [
    ("resnet stem", [2, 32, 32, 3], 64, 1, [7, 7], [2, 2], [3, 3], [1, 1]),
    ("3x3", [2, 8, 8, 64], 96, 1, [3, 3], [1, 1], [1, 1], [1, 1]),
    ("3x3 on 2x2 pixels", [3, 2, 2, 128], 128, 1, [3, 3], [1, 1], [1, 1], [1, 1]),
    ("1x1 with stride", [2, 9, 8, 40], 24, 1, [1, 1], [2, 2], [0, 0], [1, 1]),
    ("patches", [2, 32, 32, 3], 48, 1, [16, 16], [16, 16], [0, 0], [1, 1]),
    ("uneven", [2, 11, 14, 6], 10, 2, [3, 5], [2, 3], [1, 2], [2, 1]),
    ("depthwise 5x5 with stride", [2, 15, 16, 48], 48, 48, [5, 5], [2, 2], [2, 2], [1, 1]),
    ("depthwise 3x3", [2, 7, 7, 30], 30, 30, [3, 3], [1, 1], [1, 1], [1, 1]),
]


def numbers(shape, step):
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * step % 257 - 128) / 128).double().reshape(shape)


def kept(values):
    values = values.contiguous().flatten()
    return {"first": values[:12].tolist(), "squares": (values**2).sum().item()}


cases = []
for name, x, outputs, groups, kernel, stride, padding, dilation in CASES:
    image = numbers(x, 37).permute(0, 3, 1, 2).requires_grad_()
    weight = numbers([outputs, x[3] // groups, *kernel], 59).requires_grad_()
    y = torch.conv2d(image, weight, None, stride, padding, dilation, groups)
    n, c, h, w = y.shape
    dy = numbers([n, h, w, c], 83).permute(0, 3, 1, 2)
    dx, dw = torch.autograd.grad(y, [image, weight], dy)
    nhwc = lambda t: t.detach().permute(0, 2, 3, 1)
    window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    results = [kept(nhwc(y)), kept(nhwc(dx)), kept(dw.detach())]
    cases.append({"name": name, "x": x, "outputs": outputs, "groups": groups, **window, "results": results})
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(cases, indent=1) + "\n")
