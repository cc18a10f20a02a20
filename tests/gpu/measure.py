"""On a machine with a GPU: runs the device tests, then measures against PyTorch in the same run. Builds nothing.

    python tests/gpu/measure.py --runner target/release/runner --tests target/release/deps/gpu-<hash> [--quick]

Needs torch, torchvision and timm. The parts, each of which --parts can name alone:

    tests          the device tests: every operation, augmentation and optimizer on the GPU against the CPU
    steps          images per second of a training step (forward, backward, Adam in bf16) and peaks of device memory, as
                   ratios to eager PyTorch (AMP, channels last)
    sweep          wall time of the baseline and strong-baseline sweep against a plain PyTorch script of the same two
                   experiments (DataLoader with 4 workers)
    deterministic  what `deterministic = true` costs, and whether two runs with it are the same bit for bit
    sharing        throughput of a small sweep with runs_per_gpu = 1, 2 and "auto"
    curves         learning curves on CUDA in bf16 and on the CPU in f32, over seeds
    compiled       the ratios of `steps` to torch.compile (max-autotune), which takes minutes for each network

Every figure is printed as soon as it is there, and appended to --log as a line of JSON; a part that fails does not end
the others. --quick takes less than 25 minutes, or --minutes: what is slow comes last and is cut off there, and the table at
the end says what was not measured. Where a machine is lent for minutes at a time, name --parts, --backbones and --batches
call by call: each call's table speaks for everything in --log. `--tiny` tries the script itself, on the CPU or, with
tests/gpu/software/run.sh in front, on a device in software; PyTorch is on the CPU then, and the figures mean nothing.
"""
import argparse, collections, json, pathlib, sqlite3, statistics, subprocess, sys, tempfile, time, traceback

BACKBONES = ["resnet18", "efficientnet_b1", "vit_small_patch16_224", "vit_small_r26_s32_224"]
# Those of which torch.compile is asked when time is short.
FIRST = ["resnet18", "efficientnet_b1"]
QUICK_MINUTES = 25
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", default="target/release/runner")
    parser.add_argument("--tests", help="the test program of tests/gpu, built with --features cuda")
    parser.add_argument("--parts", default=",".join(PARTS), help="which parts, in their order, separated by commas")
    parser.add_argument("--backbones", default=",".join(BACKBONES), help="those of steps and compiled")
    parser.add_argument("--batches", help="those of steps and compiled [default: 40, and without --quick 256]")
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK_MINUTES} minutes in all")
    parser.add_argument("--minutes", type=float, help="at most so many minutes in all")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="tries the script itself, on tiny sizes")
    parser.add_argument("--log", default="measure.jsonl", help="where figures go as well")
    parser.add_argument("--torch", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        what, *values = args.torch
        return {"step": torch_step, "sweep": torch_sweep}[what](args, *values)
    unknown = set(args.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--parts: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    measures = Measures(args)
    measures.call([args.runner, "doctor"], show=True)
    for part in args.parts.split(","):
        measures.part(part)
    sys.exit(measures.verdicts())


class Measures:
    """What is measured, how much time is left for it, and what came out."""

    def __init__(self, args):
        self.args, self.began = args, time.monotonic()
        self.gpu = args.device != "cpu"
        self.tiny = args.tiny or not self.gpu
        self.size = 64 if self.tiny else 256
        self.backbones = args.backbones.split(",")
        usual = "4" if self.tiny else "40" if args.quick else "40,256"
        self.batches = [int(batch) for batch in (args.batches or usual).split(",")]
        self.minutes = args.minutes or (QUICK_MINUTES if args.quick else 24 * 60)
        self.precision = "bf16" if self.gpu else "f32"
        self.figures = collections.defaultdict(dict)
        self.log = open(args.log, "a+")
        self.log.seek(0)
        for line in map(json.loads, self.log):
            if line["device"] == args.device and line["name"] != "failed":
                self.figures[line["part"]][line["name"]] = line["value"]

    def left(self):
        """Seconds that are left; a part is cut off there."""
        return self.minutes * 60 - (time.monotonic() - self.began)

    def part(self, name):
        print(f"\n== {name} ({time.monotonic() - self.began:.0f} s in)", flush=True)
        if self.left() < 20:
            return print("no time is left for this part")
        try:
            PARTS[name](self)
        except Exception as error:
            said = getattr(error, "stderr", None) or getattr(error, "output", None)
            print(f"FAILED {name}: {error}\n{(said or '')[-3000:]}" if said else f"FAILED {name}: {traceback.format_exc()}", flush=True)
            self.keep(name, "failed", str(error))

    def keep(self, part, name, value):
        self.figures[part][name] = value
        self.log.write(json.dumps({"part": part, "name": name, "value": value, "device": self.args.device}) + "\n")
        self.log.flush()

    def call(self, command, show=False, timeout=None):
        """Runs a command within the time that is left; its output is in the error where it fails."""
        command = [str(word) for word in command]
        timeout = min(self.left(), timeout or self.left())
        done = subprocess.run(command, check=True, text=True, timeout=max(timeout, 1), stdout=subprocess.PIPE, stderr=None if show else subprocess.PIPE)
        if show:
            print(done.stdout, end="", flush=True)
        return done

    def last_json(self, command, timeout=None):
        return json.loads(self.call(command, timeout=timeout).stdout.splitlines()[-1])

    def attempt(self, what, work):
        """A figure that may fail alone: `None` then."""
        try:
            return work()
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            said = (getattr(error, "stderr", None) or b"")
            said = said.decode(errors="replace") if isinstance(said, bytes) else said
            print(f"FAILED {what}: {error}\n{said[-1500:]}", flush=True)
            return None

    def bench(self, backbone, batch, *more):
        steps = ["--steps", "2"] if self.tiny else ["--steps", "100"]
        return self.last_json([self.args.runner, "bench", "--backbone", backbone, "--size", self.size, "--batch", batch,
                               "--device", self.args.device, "--precision", self.precision, *steps, "--json", *more])

    def torch(self, *words):
        return [sys.executable, __file__, "--device", "cpu" if self.tiny else self.args.device, "--torch", *words]

    def sweep(self, file, out, device=None):
        """A sweep's seconds and what it said."""
        began = time.perf_counter()
        done = self.call([self.args.runner, "sweep", file, "--out", out, "--device", device or self.args.device])
        return time.perf_counter() - began, done.stderr

    def verdicts(self):
        """What was to be shown, and whether it was; the exit code."""
        print("\n== what was to be shown", flush=True)
        bad = False
        for name, verdict in checks(self.figures):
            print(f"{'not measured' if verdict is None else 'yes' if verdict else 'NO':<13} {name}")
            bad |= verdict is False
        failed = [part for part, figures in self.figures.items() if "failed" in figures]
        if failed:
            print(f"failed parts: {', '.join(failed)}")
        print(f"{time.monotonic() - self.began:.0f} s in all", flush=True)
        return int(bad or bool(failed))


def checks(figures):
    """Every claim with True, False or None."""
    steps = figures["steps"]

    def ratio(backbone, mode):
        row = steps.get(f"{backbone} 40", {})
        return row["runner"] / row[mode] if row.get("runner") and row.get(mode) else None

    yield "the device tests pass", figures["tests"].get("passed")
    for backbone in FIRST:
        for mode, least in [("eager", 1.2), ("compiled", 1.0)]:
            got = ratio(backbone, mode)
            yield f"{backbone}, batch 40: at least {least} x {mode} (got {got and f'{got:.2f}'})", None if got is None else got >= least
    memory = [(name, row["runner_mib"], row["eager_mib"]) for name, row in steps.items() if isinstance(row, dict) and row.get("eager_mib")]
    over = [name for name, ours, theirs in memory if ours > theirs]
    yield f"device memory is at most PyTorch's{', but not of ' + ', '.join(over) if over else ''}", not over if memory else None
    got = figures["sweep"].get("ratio")
    yield f"the two-experiment sweep is at least 5 x as fast (got {got and f'{got:.2f}'})", None if got is None else got >= 5
    yield "two deterministic runs are the same bit for bit", figures["deterministic"].get("same")
    yield "final AUC of bf16 on CUDA lies within the spread over seeds of f32 on the CPU", figures["curves"].get("within")


def device_tests(measures):
    if not measures.args.tests:
        return print("--tests names no test program")
    done = subprocess.run([measures.args.tests], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=min(measures.left(), 600))
    print("\n".join(done.stdout.splitlines()[-40:]), flush=True)
    measures.keep("tests", "passed", done.returncode == 0)


def steps(measures):
    """Eager first for every network, since torch.compile takes minutes for each."""
    print(f"{'backbone':<24} {'batch':>5} {'runner':>9} {'eager':>9} {'ratio':>6}   memory, MiB: runner, eager", flush=True)
    for batch, backbone in [(batch, backbone) for batch in measures.batches for backbone in measures.backbones]:
        ours = measures.attempt(f"runner {backbone}", lambda: measures.bench(backbone, batch))
        theirs = measures.attempt(f"eager {backbone}", lambda: measures.last_json(measures.torch("step", backbone, batch, "eager")))
        row = {
            "runner": ours and ours["images_per_second"], "runner_mib": ours and ours["peak_memory_mib"],
            "eager": theirs and theirs["images_per_second"], "eager_mib": theirs and theirs["peak_memory_mib"]}
        measures.keep("steps", f"{backbone} {batch}", row)
        if ours and theirs:
            print(f"{backbone:<24} {batch:>5} {row['runner']:>9.1f} {row['eager']:>9.1f} {row['runner'] / row['eager']:>6.2f}"
                  f"   {row['runner_mib']:.0f}, {row['eager_mib']:.0f}", flush=True)


def compiled(measures):
    """torch.compile, those first that are asked for; in a hurry no others."""
    print(f"{'backbone':<24} {'batch':>5} {'runner':>9} {'compiled':>9} {'ratio':>6}", flush=True)
    names = [name for name in FIRST if name in measures.backbones]
    if not measures.args.quick:
        names += [name for name in measures.backbones if name not in names]
    for batch in measures.batches:
        for backbone in names:
            words = measures.torch("step", backbone, batch, "compiled")
            theirs = measures.attempt(f"compiled {backbone}", lambda: measures.last_json(words, timeout=600))
            row = measures.figures["steps"].get(f"{backbone} {batch}") or {}
            ours = measures.attempt(f"runner {backbone}", lambda: measures.bench(backbone, batch)) if theirs else None
            if ours:
                row["runner"] = ours["images_per_second"]
                row["compiled"] = theirs["images_per_second"]
                measures.keep("steps", f"{backbone} {batch}", row)
                print(f"{backbone:<24} {batch:>5} {row['runner']:>9.1f} {row['compiled']:>9.1f} {row['runner'] / row['compiled']:>6.2f}", flush=True)


def torch_step(args, backbone, batch, mode):
    import timm, torch

    cuda, batch = args.device != "cpu", int(batch)
    size = 256 if cuda else 64
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    more = {"img_size": size} if "vit" in backbone else {}
    model = timm.create_model(backbone, num_classes=2, **more).train().to(args.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=cuda)
    images = torch.randn(batch, 3, size, size, device=args.device).to(memory_format=torch.channels_last)
    targets = torch.arange(batch, device=args.device) % 2
    run = torch.compile(model, mode="max-autotune" if cuda else "default") if mode == "compiled" else model
    wait = torch.cuda.synchronize if cuda else lambda: None

    def step():
        with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=cuda):
            loss = torch.nn.functional.cross_entropy(run(images), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    warm_up, rounds, together = (20, 10, 10) if cuda else (1, 2, 1)
    for _ in range(warm_up):
        step()
    wait()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(together):
            step()
        wait()
        times.append((time.perf_counter() - began) / together)
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0
    print(json.dumps({"images_per_second": batch / statistics.median(times), "peak_memory_mib": peak}))


EXPERIMENTS = """
name = "{name}"
[data.ffdi]
root = "{root}"
limit = 1000
[defaults]
epochs = {epochs}
batch_size = {batch}
log_every = 1000
deterministic = {deterministic}
input = {{ size = {size}, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }}
backbone = {{ name = "resnet18", pretrained = false }}
optimizer.adam = {{ lr = {lr} }}
scheduler.step = {{ step_size = 4, gamma = 0.85 }}
augment = [{{ random_horizontal_flip = {{}} }}, {{ random_vertical_flip = {{}} }}]
[[experiment]]
name = "baseline"
"""
STRONG = """
[[experiment]]
name = "strong-baseline"
backbone.name = "efficientnet_b1"
optimizer.adam = { lr = 0.007 }
augment.append = [{ color_jitter = { brightness = 0.5, hue = 0.3 } }]
"""
TRANSFORMER = """
[[experiment]]
name = "transformer"
backbone.name = "vit_tiny_patch16_224"
optimizer.adam = { lr = 0.0003 }
"""


class Bed:
    """A folder with images, experiment files and results, gone afterwards."""

    def __init__(self, measures, images, side):
        self.measures, self.holder = measures, tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.holder.name)
        self.root = self.folder / "data"
        measures.call([measures.args.runner, "data", "synth", self.root, "--train", images, "--val", images, "--size", side])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.cleanup()

    def file(self, name, more="", sweep="", **changes):
        values = dict(name=name, root=self.root, epochs=4, batch=40, size=self.measures.size, lr=0.005, deterministic="false")
        path = self.folder / f"{name}.toml"
        path.write_text(EXPERIMENTS.format(**{**values, **changes}) + more + "[sweep]\n" + sweep)
        return path

    def rows(self, out, query):
        with sqlite3.connect(self.folder / out / "runner.sqlite") as db:
            return db.execute(query).fetchall()


def sweep(measures):
    images, epochs = (16, 1) if measures.tiny else (1000, 4)
    with Bed(measures, images, 320) as bed:
        batch = 4 if measures.tiny else 40
        ours, _ = measures.sweep(bed.file("measure", STRONG, epochs=epochs, batch=batch), bed.folder / "results")
        measures.keep("sweep", "runner", ours)
        print(f"runner {ours:.1f} s", flush=True)
        began = time.perf_counter()
        measures.call(measures.torch("sweep", bed.root, epochs, batch), show=True)
        theirs = time.perf_counter() - began
    measures.keep("sweep", "torch", theirs)
    measures.keep("sweep", "ratio", theirs / ours)
    print(f"baseline and strong-baseline, {epochs} epochs of {images} images: runner {ours:.1f} s, PyTorch {theirs:.1f} s, "
          f"ratio {theirs / ours:.2f}", flush=True)


class Listed:
    """The first images of a split, as the tutorial's data set class reads them."""

    def __init__(self, root, split, transform, limit=1000):
        lines = (pathlib.Path(root) / f"{split}_label.txt").read_text().splitlines()[1 : limit + 1]
        self.rows = [line.rsplit(",", 1) for line in lines]
        self.folder, self.transform = pathlib.Path(root) / split, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        from PIL import Image

        name, target = self.rows[index]
        return self.transform(Image.open(self.folder / name).convert("RGB")), int(target)


def torch_sweep(args, root, epochs, batch):
    import timm, torch
    from torchvision import transforms as t

    cuda = args.device != "cpu"
    size = 256 if cuda else 64
    torch.backends.cudnn.benchmark = True
    normalize = [t.ToTensor(), t.Normalize(MEAN, STD)]
    flips = [t.RandomHorizontalFlip(), t.RandomVerticalFlip()]
    jitter = [t.ColorJitter(brightness=0.5, hue=0.3)]
    autocast = lambda: torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=cuda)
    for backbone, lr, augment in [("resnet18", 0.005, flips), ("efficientnet_b1", 0.007, flips + jitter)]:
        loader = lambda split, extra, shuffle: torch.utils.data.DataLoader(
            Listed(root, split, t.Compose([t.Resize((size, size)), *extra, *normalize])),
            batch_size=int(batch), shuffle=shuffle, num_workers=4, pin_memory=cuda)
        train, val = loader("trainset", augment, True), loader("valset", [], False)
        model = timm.create_model(backbone, num_classes=2).to(args.device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.85)
        for _ in range(int(epochs)):
            model.train()
            for images, targets in train:
                images = images.to(args.device, non_blocking=True).to(memory_format=torch.channels_last)
                with autocast():
                    loss = torch.nn.functional.cross_entropy(model(images), targets.to(args.device, non_blocking=True))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            model.eval()
            right = 0
            with torch.no_grad(), autocast():
                for images, targets in val:
                    logits = model(images.to(args.device).to(memory_format=torch.channels_last))
                    right += (logits.argmax(1).cpu() == targets).sum().item()
        print(f"PyTorch {backbone}: accuracy {right / len(val.dataset):.3f}", flush=True)


def deterministic(measures):
    for backbone in FIRST:
        batch = measures.batches[0]
        free, fixed = [measures.bench(backbone, batch, *more)["images_per_second"] for more in [[], ["--deterministic"]]]
        measures.keep("deterministic", backbone, {"free": free, "deterministic": fixed})
        print(f"{backbone}, batch {batch}: {free:.1f} images/s, {fixed:.1f} with deterministic = true ({free / fixed:.2f} x the time)", flush=True)
    images, epochs = (16, 1) if measures.tiny else (200, 2)
    with Bed(measures, images, 320) as bed:
        batch = 4 if measures.tiny else 40
        file = bed.file("fixed", STRONG + TRANSFORMER, deterministic="true", epochs=epochs, batch=batch)
        numbers = []
        for out in ["once", "again"]:
            measures.sweep(file, bed.folder / out)
            metrics = "select run_id, split, name, epoch, step, value from metrics where name not in ('seconds', 'images_per_second')"
            scores = "select run_id, split, image, class, 0, score from predictions"
            numbers.append({tuple(row[:5]): row[5] for query in [metrics, scores] for row in bed.rows(out, query)})
    differ = [key for key in numbers[0] if numbers[0][key] != numbers[1].get(key)]
    same = not differ and numbers[0].keys() == numbers[1].keys()
    measures.keep("deterministic", "same", same)
    print(f"two runs each of three networks: {len(numbers[0])} numbers, {len(differ)} differ{': ' + str(differ[0]) if differ else ''}", flush=True)


def sharing(measures):
    """The same sweep three times, each with seeds of its own; the first one, not counted, decodes the images."""
    images, epochs, runs = (16, 1, 2) if measures.tiny else (1000, 3, 8)
    size, batch = (64, 4) if measures.tiny else (128, 40)
    with Bed(measures, images, size) as bed:
        values = dict(size=size, batch=batch)
        measures.sweep(bed.file("warm", epochs=1, sweep="seeds = [999]\n", **values), bed.folder / "out")
        for place, rule in enumerate(["1", "2", '"auto"']):
            seeds = [100 * place + seed for seed in range(runs)]
            name = f"share{place}"
            file = bed.file(name, epochs=epochs, sweep=f"seeds = {seeds}\nruns_per_gpu = {rule}\n", **values)
            wall, said = measures.sweep(file, bed.folder / "out")
            spans = bed.rows("out", f"select started_at, finished_at from runs join sweep_runs on id = run_id where sweep = '{name}'")
            most = max(sum(a <= begin < b for a, b in spans) for begin, _ in spans)
            speed = runs * epochs * images / wall
            measures.keep("sharing", rule, {"images_per_second": speed, "seconds": wall, "at_once": most})
            notes = [line.split("] ", 1)[-1] for line in said.splitlines() if "runs run side" in line or "take turns" in line]
            print(f"runs_per_gpu = {rule}: {runs} runs in {wall:.1f} s, {speed:.0f} images/s, up to {most} at once; {'; '.join(notes)}", flush=True)
        memory = bed.folder / "out/cache/memory.json"
        known = json.loads(memory.read_text()).get("device_peak", {}) if memory.exists() else {}
        for kind, bytes_taken in known.items():
            print(f"a run takes {bytes_taken / 2**20:.0f} MiB of its GPU: {kind}", flush=True)


def curves(measures):
    """The same specification on both devices: small enough for the CPU."""
    images, epochs, seeds = (16, 1, 2) if measures.tiny else (800, 6, 3) if measures.args.quick else (1000, 8, 5)
    size, batch = 64, 4 if measures.tiny else 40
    finals = {}
    with Bed(measures, images, size) as bed:
        file = bed.file("curves", epochs=epochs, size=size, batch=batch, lr=0.001, sweep=f"seeds = {seeds}\n")
        for device in [measures.args.device, "cpu"]:
            out = "cpu" if device == "cpu" else "cuda"
            seconds, _ = measures.sweep(file, bed.folder / out, device)
            rows = bed.rows(out, "select seed, value from metrics join runs on id = run_id where split = 'val' and name = 'auc' "
                                 "and step is null order by seed, metrics.epoch")
            by_seed = collections.defaultdict(list)
            for seed, value in rows:
                by_seed[seed].append(value)
            for seed, curve in by_seed.items():
                print(f"{out:<5} seed {seed}: AUC {' '.join(f'{value:.4f}' for value in curve)}", flush=True)
            finals[out] = [curve[-1] for curve in by_seed.values()]
            measures.keep("curves", out, dict(by_seed))
            print(f"{out:<5} {seconds:.1f} s", flush=True)
    if "cuda" not in finals:
        return
    means = {device: statistics.mean(values) for device, values in finals.items()}
    spread = max(finals["cpu"]) - min(finals["cpu"])
    measures.keep("curves", "within", abs(means["cuda"] - means["cpu"]) <= spread)
    print(f"final AUC over {seeds} seeds: CUDA bf16 {means['cuda']:.4f} on average, CPU f32 {means['cpu']:.4f}, of which the seeds "
          f"spread over {spread:.4f}", flush=True)


PARTS = {"tests": device_tests, "steps": steps, "sweep": sweep, "deterministic": deterministic, "sharing": sharing,
         "curves": curves, "compiled": compiled}

if __name__ == "__main__":
    main()
