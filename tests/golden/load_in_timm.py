"""Loads weights that this program wrote through timm.create_model(.., checkpoint_path=..), strictly, and compares timm's
logits with the golden ones. By hand:

    RUNNER_WRITE=/tmp/weights cargo test --release --test backbones -- --ignored write_weights_for_timm
    python tests/golden/load_in_timm.py /tmp/weights
"""

import json
import pathlib
import sys

import timm
import torch

from backbones import CLASSES, images

for golden in json.loads(pathlib.Path(__file__).with_name("backbones.json").read_text())["models"]:
    path = pathlib.Path(sys.argv[1]) / f"{golden['name']}.safetensors"
    model = timm.create_model(golden["name"], num_classes=CLASSES, checkpoint_path=str(path)).eval()
    expected = golden["eval"][0]
    with torch.no_grad():
        logits = model(images(expected["size"]).float()).reshape(-1)
    difference = (logits - torch.tensor(expected["logits"])).abs().max().item()
    print(f"{golden['name']:<16} largest difference of a logit {difference:.1e}, of {logits.abs().max():.2f}")
