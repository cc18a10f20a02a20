"""Each parameter's learning-rate factor in timm's `param_groups_layer_decay`: tests/golden/layers.json.

Run: python tests/golden/layers.py
"""
import json, pathlib
import timm
from timm.optim import param_groups_layer_decay

MODELS = ["resnet18", "efficientnet_b0", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"]
cases = []
for name in MODELS:
    model = timm.create_model(name, num_classes=2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=0.75)
    scales = {names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}
    # Shorter than one line a parameter: names by factor.
    by_scale = {}
    for parameter, scale in scales.items():
        by_scale.setdefault(repr(scale), []).append(parameter)
    cases.append({"model": name, "names": by_scale})
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"timm": timm.__version__, "layer_decay": 0.75, "cases": cases}, separators=(",", ":")))
