"""Reports of made-up runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from fake_runs import add_figure, fake_run

from ddpm_cli.experiments.report import gather_report
from ddpm_cli.render.pictures.images import save_grid
from ddpm_cli.runs.report import Moment, RunReport, Trajectory
from ddpm_cli.runs.run_directory import RunDirectory

WRITTEN = 1_700_000_000.0


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(4, 1, 8, 8), dtype=np.uint8)


def whole_run(folder: Path) -> RunDirectory:
    """A run with a metric in its log, pictures at three steps, an incident and two figures."""
    run = fake_run(
        folder, "whole", "schedule.timesteps=50", "sample.sampler.steps=20", "train.sampler.steps=20", logged={"fcd": 3.25}
    )
    for step in (100, 20, 60):
        save_grid(run.samples_folder / f"step-{step:08d}.png", images(step))
    run.incidents_log.write_text('{"kind": "spike", "step": 57, "loss": 3.5, "timesteps": [3], "images": [17], "affected": 1}\n')
    for steps in (50, 10):
        add_figure(run, 12.5 + steps, steps=steps)
    return run


def whole_report(folder: Path) -> RunReport:
    """What is told of it, with a denoising of three moments."""
    report = gather_report(whole_run(folder), device=None)
    moments = tuple(Moment(t, images(100 + t)) for t in (49, 20, -1))
    return replace(report, trajectory=Trajectory(100, "DDIM, 2 steps", moments))
