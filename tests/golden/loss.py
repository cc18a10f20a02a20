"""Losses and their logit gradients, of torch, torchvision and timm: tests/golden/loss.json.

Run: python tests/golden/loss.py
"""
import json, pathlib
import torch, torch.nn.functional as F
import timm, torchvision
from timm.loss import AsymmetricLossSingleLabel, BinaryCrossEntropy
from torchvision.ops import sigmoid_focal_loss

torch.set_num_threads(1)
torch.manual_seed(0)
N = 6


def softmax_focal(z, t, gamma, alpha):
    """Written from the paper's formula; with two classes checked against torchvision below."""
    p = F.softmax(z, 1)
    terms = -t * (1 - p) ** gamma * F.log_softmax(z, 1)
    return (terms * (torch.tensor(alpha, dtype=z.dtype) if alpha else 1.0)).sum() / len(z)


def reference(loss, z, classes, soft):
    (name, p), = loss.items()
    count = z.shape[1]
    onehot = F.one_hot(classes, count).to(z.dtype)
    if name == "cross_entropy":
        weight = torch.tensor(p["class_weights"], dtype=z.dtype) if "class_weights" in p else None
        target = classes if soft is None else soft
        return F.cross_entropy(z, target, weight=weight, label_smoothing=p.get("label_smoothing", 0.0))
    if name == "focal":
        gamma, alpha = p.get("gamma", 2.0), p.get("alpha")
        value = softmax_focal(z, onehot if soft is None else soft, gamma, alpha)
        if count == 2 and soft is None:
            a = alpha or [1.0, 1.0]
            assert abs(sum(a) - 1) < 1e-9 or a == [1.0, 1.0]
            other = sigmoid_focal_loss(z[:, 1] - z[:, 0], classes.to(z.dtype), alpha=a[1] if alpha else -1, gamma=gamma, reduction="mean")
            assert torch.allclose(value, other), (value, other)
        return value
    if name == "asymmetric":
        gamma_pos, gamma_neg, eps = p.get("gamma_pos", 1), p.get("gamma_neg", 4), p.get("eps", 0.1)
        if soft is None:
            return AsymmetricLossSingleLabel(gamma_pos=gamma_pos, gamma_neg=gamma_neg, eps=eps)(z, classes)
        # timm takes classes only: each class's weight is mixed as the targets are.
        prob = F.softmax(z, 1)
        weight = soft * (1 - prob) ** gamma_pos + (1 - soft) * prob ** gamma_neg
        return -((soft * (1 - eps) + eps / count) * weight * F.log_softmax(z, 1)).sum(1).mean()
    smoothing, threshold = p.get("label_smoothing", 0.0), p.get("target_threshold")
    pos = torch.tensor(p["pos_weight"], dtype=z.dtype) if "pos_weight" in p else None
    module = BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold, pos_weight=pos)
    # timm leaves smoothing of mixed targets to its Mixup, which does what this line does.
    return module(z, classes if soft is None else soft * (1 - smoothing) + smoothing / count)


LOSSES = [
    {"cross_entropy": {}},
    {"cross_entropy": {"label_smoothing": 0.1}},
    {"cross_entropy": {"class_weights": "C"}},
    {"cross_entropy": {"class_weights": "C", "label_smoothing": 0.2}},
    {"focal": {}},
    {"focal": {"gamma": 0.0}},
    {"focal": {"gamma": 0.5}},
    {"focal": {"gamma": 1.5, "alpha": "A"}},
    {"bce": {}},
    {"bce": {"label_smoothing": 0.1}},
    {"bce": {"target_threshold": 0.2}},
    {"bce": {"label_smoothing": 0.1, "pos_weight": "C"}},
    {"asymmetric": {}},
    {"asymmetric": {"gamma_pos": 0.0, "gamma_neg": 2.0, "eps": 0.0}},
]
cases = []
for count in (2, 4):
    values = {"C": [0.5, 2.0, 1.5, 0.25][:count], "A": {2: [0.25, 0.75], 4: [0.1, 0.2, 0.3, 0.4]}[count]}
    logits = (torch.randn(N, count) * 3).float()
    classes = torch.arange(N) % count
    mixed = 0.7 * F.one_hot(classes, count) + 0.3 * F.one_hot(classes.roll(1), count)
    for loss in LOSSES:
        (name, p), = loss.items()
        loss = {name: {key: values.get(value, value) if isinstance(value, str) else value for key, value in p.items()}}
        for soft in (None, mixed):
            z = logits.double().requires_grad_()
            value = reference(loss, z, classes, None if soft is None else soft.double())
            value.backward()
            case = {"loss": loss, "logits": logits.tolist(), "classes": classes.tolist(), "mixed": None if soft is None else soft.tolist()}
            cases.append({**case, "value": value.item(), "gradient": z.grad.tolist()})


def supervised_contrastive(features, classes, temperature):
    """L_out of the paper, as HobbitLong/SupContrast computes it with one view: means over the others of the class."""
    z = F.normalize(features, dim=1)
    logits = z @ z.T / temperature
    others = ~torch.eye(len(z), dtype=torch.bool)
    log_prob = logits - torch.logsumexp(logits.masked_fill(~others, -torch.inf), 1, keepdim=True)
    positives = (classes[:, None] == classes[None]) & others
    anchors = positives.any(1)
    return -((log_prob * positives).sum(1)[anchors] / positives.sum(1)[anchors]).mean()


terms = []
for classes, temperature in (([0, 1, 0, 1, 1, 0], 0.07), ([0, 1, 2, 0, 1, 1], 0.5), ([0, 0, 0, 0, 0, 1], 0.1)):
    features = torch.randn(N, 5).float()
    x = features.double().requires_grad_()
    value = supervised_contrastive(x, torch.tensor(classes), temperature)
    value.backward()
    terms.append({"features": features.tolist(), "classes": classes, "temperature": temperature, "value": value.item(), "gradient": x.grad.tolist()})
distilled = []
for count, temperature in ((2, 4.0), (4, 1.0), (3, 2.5)):
    student, teacher = (torch.randn(N, count) * 3).float(), (torch.randn(N, count) * 3).float()
    z = student.double().requires_grad_()
    value = F.kl_div(F.log_softmax(z / temperature, 1), F.softmax(teacher.double() / temperature, 1), reduction="batchmean") * temperature**2
    value.backward()
    distilled.append({"student": student.tolist(), "teacher": teacher.tolist(), "temperature": temperature, "value": value.item(), "gradient": z.grad.tolist()})
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"torch": torch.__version__, "timm": timm.__version__, "torchvision": torchvision.__version__, "cases": cases, "supcon": terms, "distill": distilled}))
