"""Position embeddings resampled by timm: writes positions.json beside this file. Inputs are sines of their index."""
import json
import pathlib

import torch
from timm.layers import resample_abs_pos_embed

cases = []
for old, new in [(3, 2), (2, 5), (7, 4), (5, 5), (4, 7), (6, 1)]:
    count = (1 + old * old) * 3
    x = torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + 1.0).float().reshape(1, -1, 3)
    y = resample_abs_pos_embed(x, [new, new], [old, old], num_prefix_tokens=1)
    cases.append({"from": old, "to": new, "y": [round(value, 7) for value in y.flatten().tolist()]})
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
