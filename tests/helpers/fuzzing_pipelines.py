"""Attacks on folders of diffusers that `ddpm import` reads; see fuzzing.py."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from foreign_models import pipeline_folder
from fuzzing import Attack, mutated_file

from ddpm_cli.interop.import_model import import_model

UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


def pipeline_attacks(scratch: Path) -> dict[str, Attack]:
    """As `fuzzing.attacks`."""
    return {"pipeline": _on_pipeline(scratch)}


def _on_pipeline(scratch: Path) -> Attack:
    folder = _sharded(pipeline_folder(scratch / "pipeline", UNET, num_train_timesteps=20))
    good = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    runs = scratch / "imported"

    def one(dice: random.Random) -> None:
        path = dice.choice(list(good))
        try:
            path.write_bytes(mutated_file(path.name, good[path], dice))
            import_model(folder, "new", runs=runs, size=dice.choice((None, None, (8, 8), (16, 8))))
        finally:
            path.write_bytes(good[path])
            shutil.rmtree(runs, ignore_errors=True)

    return one


def _sharded(folder: Path) -> Path:
    """The same with its weights as the only one of its shards, beside an index."""
    unet = folder / "unet"
    shard = unet / "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"
    (unet / "diffusion_pytorch_model.safetensors").rename(shard)
    index = {"metadata": {"total_size": 1}, "weight_map": {"conv_in.weight": shard.name, "conv_in.bias": shard.name}}
    (unet / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(index))
    return folder
