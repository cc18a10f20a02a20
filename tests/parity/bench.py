"""Images per second of a full f32 training step (forward, backward, Adam): `runner bench` and PyTorch in turn.

    python tests/parity/bench.py [--runner target/release/runner] [--rounds 3] [--threads 2]
"""
import argparse, json, resource, statistics, subprocess, sys, time

CASES = [("resnet18", 64, 32), ("efficientnet_b1", 128, 32)]


def torch_step(backbone, size, batch, threads, channels_last, steps):
    """Runs in a process of its own, so that its peak memory is its own."""
    import timm, torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = timm.create_model(backbone, num_classes=2).train().to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images = torch.randn(batch, 3, size, size).to(memory_format=layout)
    targets = torch.arange(batch) % 2
    times = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - began)
    median = statistics.median(times[2:])
    print(json.dumps({"images_per_second": batch / median, "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def run(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/runner")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--torch", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        backbone, size, batch, layout = args.torch
        return torch_step(backbone, int(size), int(batch), args.threads, layout == "nhwc", args.steps)
    for backbone, size, batch in CASES:
        got = {"runner": [], "nchw": [], "nhwc": []}
        for _ in range(args.rounds):
            common = ["--threads", str(args.threads), "--steps", str(args.steps)]
            got["runner"].append(run([args.runner, "bench", "--backbone", backbone, "--size", str(size), "--batch", str(batch),
                                      "--json", *common]))
            for layout in ["nchw", "nhwc"]:
                got[layout].append(run([sys.executable, __file__, "--torch", backbone, str(size), str(batch), layout, *common]))
        speed = {name: statistics.median(r["images_per_second"] for r in rows) for name, rows in got.items()}
        memory = {name: min(r["peak_memory_mib"] for r in rows) for name, rows in got.items()}
        best = max(["nchw", "nhwc"], key=speed.get)
        print(f"{backbone} {size} px batch {batch}, {args.threads} threads: runner {speed['runner']:.1f} images/s, "
              f"torch {speed['nchw']:.1f} (nchw) {speed['nhwc']:.1f} (nhwc), ratio {speed['runner'] / speed[best]:.2f}; "
              f"peak memory runner {memory['runner']:.0f} MiB, torch {memory[best]:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
