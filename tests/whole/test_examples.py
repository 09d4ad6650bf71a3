"""The experiments in `examples/`: their sweeps are valid, and each has its record."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_runs import fake_run
from repository import ROOT

from ddpm_cli.experiments.sweep_file import load_sweep

EXPERIMENTS = ROOT / "examples" / "experiments"
FOLDERS = sorted(path for path in EXPERIMENTS.iterdir() if path.is_dir())
SWEEPS = sorted(EXPERIMENTS.glob("*/*.toml"))


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.stem)
def test_every_run_of_a_sweep_is_valid_and_repeated(file: Path, tmp_path: Path) -> None:
    fake_run(tmp_path, "clothes")  # which an arm may start from
    sweep = load_sweep(file, runs=tmp_path)
    assert sweep.evaluate is not None
    seeds = {run.config.train.seed for run in sweep.runs}
    assert len(seeds) > 1


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_experiment_has_its_sweep_and_its_record(folder: Path) -> None:
    assert list(folder.glob("*.toml"))
    record = (folder / "README.md").read_text()
    for heading in ("## Objective", "## Configuration", "## Outcome", "## Interpretation"):
        assert heading in record
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", record)
    assert pictures
    assert all((folder / picture).stat().st_size < 1_000_000 for picture in pictures)
