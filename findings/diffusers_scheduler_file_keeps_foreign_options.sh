#!/usr/bin/env bash
# What a scheduler_config.json of diffusers says is not what its scheduler does.
#
# Versions: diffusers 0.42.1, torch 2.14.1, Python 3.11.
# Expected: a scheduler's file holds the options of its class, and `_class_name` says which class will sample.
# Seen: (1) a DPMSolverMultistepScheduler made of the config of a DDPMScheduler that says clip_sample = true, the documented way, is
#       saved with clip_sample = true, a parameter that it does not have: it does not clip, and samples leave [-1, 1]. (An option that
#       the first scheduler was not given explicitly, but has by default, is dropped.)
#       (2) model_index.json decides: with "DDIMScheduler" there, a scheduler_config.json of the class DDPMScheduler samples by DDIM.
# So who reads such a file for another program has to know which keys each class reads, and to look at model_index.json first.
# Output seen:
#   saved clip_sample: True; a parameter of the class: False
#   largest value after one step to the end: 3.00
#   _class_name in the file: DDPMScheduler; loaded: DDIMScheduler
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 2>"$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import inspect
import json
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel

solver = DPMSolverMultistepScheduler.from_config(DDPMScheduler(clip_sample=True).config)
solver.save_pretrained("solver")
stored = json.loads(Path("solver/scheduler_config.json").read_text())
parameter = "clip_sample" in inspect.signature(DPMSolverMultistepScheduler.__init__).parameters
print(f"saved clip_sample: {stored.get('clip_sample')}; a parameter of the class: {parameter}")
assert stored.get("clip_sample") is True
assert not parameter

loaded = DPMSolverMultistepScheduler.from_pretrained("solver")
loaded.set_timesteps(1)
(t,) = loaded.timesteps
alpha_bar = loaded.alphas_cumprod[t]
x_0 = torch.full((1, 1, 2, 2), 3.0)  # what the network takes the image for, beyond the range
x_t, eps = alpha_bar.sqrt() * x_0, torch.zeros(1, 1, 2, 2)
largest = float(loaded.step(eps, t, x_t).prev_sample.abs().max())
print(f"largest value after one step to the end: {largest:.2f}")
assert largest > 2.9

unet = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 32),
    down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
)
DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained("pipeline")
index = Path("pipeline/model_index.json")
index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", "DDIMScheduler"]}))
named = json.loads(Path("pipeline/scheduler/scheduler_config.json").read_text())["_class_name"]
found = type(DDPMPipeline.from_pretrained("pipeline").scheduler).__name__
print(f"_class_name in the file: {named}; loaded: {found}")
assert (named, found) == ("DDPMScheduler", "DDIMScheduler")
PYTHON
