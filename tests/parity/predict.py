"""Class probabilities of `runner predict` beside timm + torchvision + Pillow, same weights file, same images.

    python tests/parity/predict.py IMAGES [--runner target/release/runner] [--size 224] [--limit 200]
"""
import argparse, csv, os, subprocess, sys, tempfile

import timm, torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

BACKBONES = ["resnet18", "resnet50", "efficientnet_b0", "efficientnet_b1"]


def weights(name, path):
    """A model whose batch norms have seen data: random statistics would hide nothing, fresh ones hide everything."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
    model.train()
    with torch.no_grad():
        for _ in range(8):
            model(torch.randn(8, 3, 224, 224, generator=generator))
    save_file(model.state_dict(), path)
    return model.eval()


def reference(model, files, size):
    config = model.pretrained_cfg
    prepare = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(),
                                  transforms.Normalize(config["mean"], config["std"])])
    rows = {}
    with torch.no_grad():
        for file in files:
            image = prepare(Image.open(file).convert("RGB"))[None]
            rows[os.path.basename(file)] = model(image).softmax(1)[0].tolist()
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("--runner", default="target/release/runner")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--limit", type=int, default=200)
    args = parser.parse_args()
    files = sorted(os.path.join(args.images, f) for f in os.listdir(args.images))[: args.limit]
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        labels = os.path.join(folder, "labels.txt")
        with open(labels, "w") as out:
            out.write("img_name,target\n" + "".join(f"{os.path.basename(f)},0\n" for f in files))
        for name in BACKBONES:
            path, scores = os.path.join(folder, f"{name}.safetensors"), os.path.join(folder, "scores.csv")
            expected = reference(weights(name, path), files, args.size)
            subprocess.run([args.runner, "predict", "--backbone", name, "--weights", path, "--input-size", str(args.size),
                            "--images", args.images, "--labels", labels, "--all-classes", "--out", scores],
                           check=True, stdout=subprocess.DEVNULL)
            with open(scores, newline="") as rows:
                got = {r["img_name"]: [float(r["y_0"]), float(r["y_1"])] for r in csv.DictReader(rows)}
            assert list(got) == list(expected), "rows are not in the order of the labels"
            difference = max(abs(a - b) for f in expected for a, b in zip(expected[f], got[f]))
            spread = max(p[1] for p in expected.values()) - min(p[1] for p in expected.values())
            worst = max(worst, difference)
            print(f"{name:<16} {len(files)} images, largest difference {difference:.2e} (probabilities spread over {spread:.2f})")
    sys.exit(worst > 1e-4)


if __name__ == "__main__":
    main()
