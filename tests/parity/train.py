"""30 training steps of `runner sweep` beside torch: same weights, same batches, no augmentation.

A fresh EfficientNet amplifies rounding so fast that torch disagrees with itself within ten steps (NCHW against
channels-last): no second implementation can be held to anything there. So training starts from weights that torch has
trained a little, at rates at which torch agrees with itself and the loss still moves by well over what the comparison
allows. Each row says how well torch does and how far the loss moved; a row where either is not so fails as well.

    python tests/parity/train.py [--runner target/release/runner] [--size 64] [--batch 16]
"""
import argparse, copy, csv, os, sqlite3, subprocess, sys, tempfile

import timm, torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import transforms

# Learning rates: those at which the loss moves and torch agrees with itself.
BACKBONES = {
    "resnet18": {"adam": 2e-4, "adamw": 2e-4, "sgd": 1e-3},
    "efficientnet_b1.ft_in1k": {"adam": 2e-5, "adamw": 2e-5, "sgd": 1e-5},
}
OPTIMIZERS = {
    "adam": ("optimizer.adam = {{ lr = {lr:f}, weight_decay = 0.001 }}",
             lambda p, lr: torch.optim.Adam(p, lr=lr, weight_decay=0.001)),
    "adamw": ("optimizer.adamw = {{ lr = {lr:f}, weight_decay = 0.05 }}",
              lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.05)),
    "sgd": ("optimizer.sgd = {{ lr = {lr:f}, momentum = 0.9, nesterov = true, weight_decay = 0.0005 }}",
            lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True, weight_decay=0.0005)),
}
STEPS = 30
WARM_UP = 60
# How far a loss may be from torch's in the first 10 steps and in all of them. Training must have moved the loss by at
# least MOVES, or agreeing would prove little: the forward pass of the same weights agrees by itself.
TOLERANCES = (1e-3, 2e-2)
MOVES = (1e-2, 4e-2)
FILE = """name = "parity"
data.ffdi = {{ root = "{root}" }}
[defaults]
epochs = 1
batch_size = {batch}
shuffle = false
log_every = 1
keep = "all"
input = {{ size = {size} }}
backbone = {{ name = "{backbone}", weights = "{weights}" }}
{optimizer}
[[experiment]]
name = "parity"
"""


def batches(root, size, batch, config):
    prepare = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(),
                                  transforms.Normalize(config["mean"], config["std"])])
    with open(os.path.join(root, "trainset_label.txt")) as rows:
        rows = [row.strip().split(",") for row in list(rows)[1:]]
    for at in range(0, len(rows), batch):
        part = rows[at : at + batch]
        images = [prepare(Image.open(os.path.join(root, "trainset", name)).convert("RGB")) for name, _ in part]
        yield torch.stack(images), torch.tensor([int(target) for _, target in part])


def torch_losses(model, optimizer, data, layout=torch.contiguous_format):
    model.train().to(memory_format=layout)
    losses = []
    for images, targets in data:
        images = images.to(memory_format=layout)
        loss = torch.nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def largest(one, other):
    """The largest difference in the first 10 steps and in all of them."""
    gaps = (torch.tensor(one, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)).abs()
    return gaps[:10].max().item(), gaps.max().item()


def runner_losses(args, folder, root, backbone, weights, optimizer):
    path, out = os.path.join(folder, "parity.toml"), os.path.join(folder, "results")
    with open(path, "w") as file:
        file.write(FILE.format(root=root, batch=args.batch, size=args.size, backbone=backbone, weights=weights,
                               optimizer=optimizer))
    subprocess.run([args.runner, "sweep", path, "--out", out, "--jobs", "1"], check=True, capture_output=True)
    db = sqlite3.connect(os.path.join(out, "runner.sqlite"))
    run = db.execute("select run_id from sweep_runs").fetchone()[0]
    rows = db.execute("select value from metrics where run_id = ? and name = 'loss' and split = 'train' and step is not null "
                      "order by step", (run,))
    return [row[0] for row in rows], os.path.join(out, "parity", "runs", run, "checkpoints", "best.safetensors")


def probabilities_in_timm(backbone, weights, images):
    model = timm.create_model(backbone, num_classes=2, checkpoint_path=weights).eval()
    with torch.no_grad():
        return model(images).softmax(1)[:, 1]


def runner_probabilities(args, folder, root, backbone, weights, count):
    """P(class 1) of the first training images, by `runner predict` with the saved weights."""
    labels, out = os.path.join(folder, "labels.txt"), os.path.join(folder, "prediction.csv")
    with open(os.path.join(root, "trainset_label.txt")) as rows, open(labels, "w") as few:
        few.writelines(list(rows)[: count + 1])
    subprocess.run([args.runner, "predict", "--backbone", backbone, "--weights", weights, "--input-size", str(args.size),
                    "--images", os.path.join(root, "trainset"), "--labels", labels, "--out", out], check=True, capture_output=True)
    with open(out, newline="") as rows:
        return torch.tensor([float(row["y_pred"]) for row in csv.DictReader(rows)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/runner")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, "data")
        subprocess.run([args.runner, "data", "synth", root, "--train", str(STEPS * args.batch), "--val", "16"], check=True,
                       stdout=subprocess.DEVNULL)
        for backbone in BACKBONES:
            torch.manual_seed(0)
            start = timm.create_model(backbone, num_classes=2)
            data = list(batches(root, args.size, args.batch, start.pretrained_cfg))
            torch_losses(start, torch.optim.AdamW(start.parameters(), lr=1e-3), (data * WARM_UP)[:WARM_UP])
            weights = os.path.join(folder, "start.safetensors")
            save_file(start.state_dict(), weights)
            model = copy.deepcopy(start)
            untrained = torch_losses(model, torch.optim.SGD(model.parameters(), lr=0.0), data)
            for name, (text, make) in OPTIMIZERS.items():
                lr = BACKBONES[backbone][name]
                here = os.path.join(folder, f"{backbone}-{name}")
                os.makedirs(here)
                model, other = copy.deepcopy(start), copy.deepcopy(start)
                expected = torch_losses(model, make(model.parameters(), lr), data)
                itself = torch_losses(other, make(other.parameters(), lr), data, torch.channels_last)
                floor, moved = largest(expected, itself), largest(expected, untrained)
                got, saved = runner_losses(args, here, root, backbone, weights, text.format(lr=lr))
                assert len(got) == len(expected) == STEPS, (len(got), len(expected))
                gaps = largest(expected, got)
                timm_weights = load_file(saved)
                assert set(timm_weights) == set(model.state_dict()), "parameter names differ from timm's"
                theirs = probabilities_in_timm(backbone, saved, data[0][0])
                saved_gap = (theirs - runner_probabilities(args, here, root, backbone, saved, args.batch)).abs().max().item()
                fair = all(f <= t for f, t in zip(floor, TOLERANCES)) and all(m >= least for m, least in zip(moved, MOVES))
                ok = fair and all(gap <= t for gap, t in zip(gaps, TOLERANCES)) and saved_gap <= 1e-4
                bad |= not ok
                verdict = "ok" if ok else "FAIL" if fair else "FAIL: this setting says nothing"
                print(f"{backbone:<24} {name:<6} loss {expected[0]:.4f} -> {expected[-1]:.4f}; in 10 and {STEPS} steps: "
                      f"largest gap {gaps[0]:.1e} {gaps[1]:.1e}, torch with itself {floor[0]:.1e} {floor[1]:.1e}, moved by training "
                      f"{moved[0]:.1e} {moved[1]:.1e}; saved weights in timm: {saved_gap:.1e} {verdict}", flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    main()
