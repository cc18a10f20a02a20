"""30 training steps of `runner sweep` beside torch: same weights, same batches, no augmentation.

A fresh EfficientNet amplifies rounding so fast that torch disagrees with itself within ten steps (NCHW against
channels-last): no second implementation can be held to anything there. So training starts from weights that torch has
trained a little, at rates at which torch agrees with itself, and each row says how well it does.

    python tests/parity/train.py [--runner target/release/runner] [--size 64] [--batch 16]
"""
import argparse, copy, csv, os, sqlite3, subprocess, sys, tempfile

import timm, torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import transforms

BACKBONES = ["resnet18", "efficientnet_b1.ft_in1k"]
OPTIMIZERS = {
    "adam": ("optimizer.adam = { lr = 0.00002, weight_decay = 0.001 }",
             lambda p: torch.optim.Adam(p, lr=2e-5, weight_decay=0.001)),
    "adamw": ("optimizer.adamw = { lr = 0.00002, weight_decay = 0.05 }",
              lambda p: torch.optim.AdamW(p, lr=2e-5, weight_decay=0.05)),
    "sgd": ("optimizer.sgd = { lr = 0.0001, momentum = 0.9, nesterov = true, weight_decay = 0.0005 }",
            lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, nesterov=True, weight_decay=0.0005)),
}
STEPS = 30
WARM_UP = 60
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
            for name, (text, make) in OPTIMIZERS.items():
                here = os.path.join(folder, f"{backbone}-{name}")
                os.makedirs(here)
                model, other = copy.deepcopy(start), copy.deepcopy(start)
                expected = torch_losses(model, make(model.parameters()), data)
                itself = torch_losses(other, make(other.parameters()), data, torch.channels_last)
                floor = max(abs(a - b) for a, b in zip(expected, itself))
                got, saved = runner_losses(args, here, root, backbone, weights, text)
                assert len(got) == len(expected) == STEPS, (len(got), len(expected))
                gaps = [abs(a - b) for a, b in zip(expected, got)]
                timm_weights = load_file(saved)
                assert set(timm_weights) == set(model.state_dict()), "parameter names differ from timm's"
                theirs = probabilities_in_timm(backbone, saved, data[0][0])
                saved_gap = (theirs - runner_probabilities(args, here, root, backbone, saved, args.batch)).abs().max().item()
                ok = max(gaps[:10]) <= 1e-3 and max(gaps) <= 2e-2 and saved_gap <= 1e-4
                bad |= not ok
                print(f"{backbone:<24} {name:<6} loss {expected[0]:.4f} -> {expected[-1]:.4f}; largest gap {max(gaps[:10]):.1e} "
                      f"in 10 steps, {max(gaps):.1e} in {STEPS} "
                      f"(torch with itself {floor:.1e}); saved weights in timm: {saved_gap:.1e} {'ok' if ok else 'FAIL'}", flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    main()
