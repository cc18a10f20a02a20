"""On a machine with a GPU: runs the device tests, then measures against PyTorch in the same run. Builds nothing.

    python tests/gpu/measure.py --runner target/release/runner --tests target/release/deps/gpu-<hash> [--quick]

Needs torch, torchvision and timm. Prints a table of images per second of a training step (forward, backward, Adam in
bf16) as ratios to eager PyTorch (AMP, channels last) and to torch.compile (max-autotune), with the peaks of device
memory, then the wall time of the baseline and strong-baseline sweep against a plain PyTorch script of the same two
experiments (DataLoader with 4 workers).
"""
import argparse, json, pathlib, statistics, subprocess, sys, tempfile, time

BACKBONES = ["resnet18", "efficientnet_b1", "vit_small_patch16_224", "vit_small_r26_s32_224"]
BATCHES = [40, 256]
SIZE = 256


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", default="target/release/runner")
    parser.add_argument("--tests", help="the test program of tests/gpu, built with --features cuda")
    parser.add_argument("--quick", action="store_true", help="batch 40 alone, no torch.compile, no sweep")
    parser.add_argument("--torch-step", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--torch-sweep", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch_step:
        backbone, batch, mode = args.torch_step
        return torch_step(backbone, int(batch), mode)
    if args.torch_sweep:
        return torch_sweep(pathlib.Path(args.torch_sweep))
    if args.tests:
        subprocess.run([args.tests], check=True)
    subprocess.run([args.runner, "doctor"], check=True)
    steps(args)
    if not args.quick:
        sweep(args)


def last_json(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def steps(args):
    modes = ["eager"] if args.quick else ["eager", "compiled"]
    print(f"{'backbone':<24} {'batch':>5} {'runner':>9} {'eager':>9} {'ratio':>6} {'compiled':>9} {'ratio':>6} {'memory, MiB: runner, eager':>28}")
    for backbone in BACKBONES:
        for batch in BATCHES[:1] if args.quick else BATCHES:
            ours = last_json([args.runner, "bench", "--backbone", backbone, "--size", str(SIZE), "--batch", str(batch),
                              "--device", "cuda:0", "--precision", "bf16", "--steps", "100", "--json"])
            theirs = {mode: last_json([sys.executable, __file__, "--torch-step", backbone, str(batch), mode]) for mode in modes}
            row = [f"{backbone:<24} {batch:>5} {ours['images_per_second']:>9.0f}"]
            for mode in ["eager", "compiled"]:
                speed = theirs.get(mode, {}).get("images_per_second")
                row.append(f"{speed:>9.0f} {ours['images_per_second'] / speed:>6.2f}" if speed else f"{'-':>9} {'-':>6}")
            row.append(f"{ours['peak_memory_mib']:>18.0f}, {theirs['eager']['peak_memory_mib']:.0f}")
            print(" ".join(row), flush=True)


def torch_step(backbone, batch, mode):
    import timm, torch

    torch.backends.cudnn.benchmark = True
    size = {"img_size": SIZE} if "vit" in backbone else {}
    model = timm.create_model(backbone, num_classes=2, **size).train().cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    images = torch.randn(batch, 3, SIZE, SIZE, device="cuda").to(memory_format=torch.channels_last)
    targets = torch.arange(batch, device="cuda") % 2
    run = torch.compile(model, mode="max-autotune") if mode == "compiled" else model

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(run(images), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    for _ in range(20):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(10):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - began) / 10)
    peak = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({"images_per_second": batch / statistics.median(times), "peak_memory_mib": peak}))


EXPERIMENTS = """
name = "measure"
[data.ffdi]
root = "{root}"
limit = 1000
[defaults]
epochs = {epochs}
batch_size = 40
input = {{ size = 256, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }}
backbone = {{ name = "resnet18", pretrained = false }}
optimizer.adam = {{ lr = 0.005 }}
scheduler.step = {{ step_size = 4, gamma = 0.85 }}
augment = [{{ random_horizontal_flip = {{}} }}, {{ random_vertical_flip = {{}} }}]
[[experiment]]
name = "baseline"
[[experiment]]
name = "strong-baseline"
backbone.name = "efficientnet_b1"
optimizer.adam = {{ lr = 0.007 }}
augment.append = [{{ color_jitter = {{ brightness = 0.5, hue = 0.3 }} }}]
"""
EPOCHS = 4


def sweep(args):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        root = folder / "data"
        subprocess.run([args.runner, "data", "synth", root, "--train", "1000", "--val", "1000", "--size", "320"], check=True)
        (folder / "measure.toml").write_text(EXPERIMENTS.format(root=root, epochs=EPOCHS))
        began = time.perf_counter()
        subprocess.run([args.runner, "sweep", folder / "measure.toml", "--out", folder / "results", "--device", "cuda:0"], check=True)
        ours = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([sys.executable, __file__, "--torch-sweep", root], check=True)
        theirs = time.perf_counter() - began
    print(f"baseline and strong-baseline, {EPOCHS} epochs of 1000 images: runner {ours:.1f} s, PyTorch {theirs:.1f} s, ratio {theirs / ours:.2f}")


class Listed:
    """The first images of a split, as the tutorial's data set class reads them."""

    def __init__(self, root, split, transform, limit=1000):
        lines = (root / f"{split}_label.txt").read_text().splitlines()[1 : limit + 1]
        self.rows = [line.rsplit(",", 1) for line in lines]
        self.folder, self.transform = root / split, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        from PIL import Image

        name, target = self.rows[index]
        return self.transform(Image.open(self.folder / name).convert("RGB")), int(target)


def torch_sweep(root):
    import timm, torch
    from torchvision import transforms as t

    torch.backends.cudnn.benchmark = True
    normalize = [t.ToTensor(), t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    flips = [t.RandomHorizontalFlip(), t.RandomVerticalFlip()]
    jitter = [t.ColorJitter(brightness=0.5, hue=0.3)]
    for backbone, lr, augment in [("resnet18", 0.005, flips), ("efficientnet_b1", 0.007, flips + jitter)]:
        loader = lambda split, extra, shuffle: torch.utils.data.DataLoader(
            Listed(root, split, t.Compose([t.Resize((SIZE, SIZE)), *extra, *normalize])),
            batch_size=40, shuffle=shuffle, num_workers=4, pin_memory=True)
        train, val = loader("trainset", augment, True), loader("valset", [], False)
        model = timm.create_model(backbone, num_classes=2).cuda().to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.85)
        for _ in range(EPOCHS):
            model.train()
            for images, targets in train:
                images = images.cuda(non_blocking=True).to(memory_format=torch.channels_last)
                with torch.autocast("cuda", torch.bfloat16):
                    loss = torch.nn.functional.cross_entropy(model(images), targets.cuda(non_blocking=True))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            model.eval()
            right = 0
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
                for images, targets in val:
                    right += (model(images.cuda().to(memory_format=torch.channels_last)).argmax(1).cpu() == targets).sum().item()
        print(f"{backbone}: accuracy {right / len(val.dataset):.3f}", flush=True)


if __name__ == "__main__":
    main()
