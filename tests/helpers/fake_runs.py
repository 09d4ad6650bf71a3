"""Run folders with figures that tests choose, written as training and evaluation write them, in milliseconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from tiny_configs import TINY, as_sets

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.results.figure import Figure
from ddpm_cli.runs.checkpoints import save_checkpoint
from ddpm_cli.runs.directory import create_run, write_info
from ddpm_cli.runs.figures import append_figures
from ddpm_cli.runs.metrics_log import MetricsLog
from ddpm_cli.runs.run_directory import RunDirectory

STEPS = 100
SMALL = as_sets(TINY | {"train.steps": STEPS, "train.batch_size": 10})
FCD = {
    "extractor": "small",
    "extractor_sha256": "e" * 64,
    "sampler": "ddim",
    "steps": 50,
    "evaluations": 50,
    "reference_images": 10_000,
    "sampler_options": "{}",
    "threshold": "clamp",
    "guidance": 1.0,
}


def fake_run(
    root: Path,
    name: str,
    *sets: str,
    held_out: float = 0.05,
    logged: dict[str, float] | None = None,
    step: int = STEPS,
    sha256: str = "d" * 64,
    checkpoint: bool = True,
) -> RunDirectory:
    """A run of SMALL and `sets` that stands at `step`; its losses fall to `held_out` at the end."""
    config = load_config(sets=[*SMALL, *sets]).config
    run = create_run(root, name, "run")
    atomic_write(run.config_path, to_toml(config))
    data = {"name": "fashion-mnist-10k", "train_images": 10_000, "test_images": 2_000, "sha256": sha256}
    write_info(run, {"created": time.time(), "device": "cpu", "device_name": "abacus", "data": data})
    with MetricsLog(run.metrics_log) as log:
        for at in range(10, step + 1, 10):
            row = {"step": at, "images": at * 10, "seconds": at / 10, "images_per_second": 100.0}
            log.append(row | {"loss": held_out + 1 / at, "held_out_loss": held_out + 1 / at - 1 / step} | (logged or {}))
    if checkpoint:
        state: dict[str, Any] = {"step": step, "seconds": step / 10, "image_shape": [1, 28, 28]}
        save_checkpoint(run, step, {"model": {"weight": torch.zeros(1)}}, state, to_toml(config), keep_last=1, best=False)
    return run


def add_figure(
    run: RunDirectory, value: float, metric: str = "fcd", *, n: int = 2000, step: int = STEPS, seed: int = 0, **details: Any
) -> None:
    """Store a figure as `ddpm evaluate` does."""
    run.evaluations_folder.mkdir(exist_ok=True)
    figure = Figure(
        metric=metric,
        unit="",
        value=value,
        standard_error=None,
        terms={},
        details=FCD | details,
        n=n,
        split="train",
        data="fashion-mnist-10k",
        sha256="a" * 64,
        seed=seed,
        floor=0.5,
        floor_n=n,
    )
    append_figures(run.evaluations_folder, [figure], f"{metric}-{n}-{details}", step, ema=True)
