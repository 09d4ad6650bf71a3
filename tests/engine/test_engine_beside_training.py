"""Loading a model from a run in which another process trains."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from ddpm_cli.engine import generate
from ddpm_cli.engine.generate import load_trained
from ddpm_cli.errors import RunError
from ddpm_cli.runs.checkpoints import Checkpoint

CPU = torch.device("cpu")


def test_a_checkpoint_that_goes_while_it_is_loaded_gives_way_to_the_newer_one(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_folder / "runs" / "tiny", run)
    find = generate.find_checkpoint

    def then_it_goes(path: Path | None, runs: Path) -> Checkpoint:
        found = find(path, runs)
        if found.path.name == "step-00000006":
            os.rename(found.path, found.path.with_name("step-00000008"))
        return found

    monkeypatch.setattr(generate, "find_checkpoint", then_it_goes)
    assert load_trained(run, CPU).origin.name == "step-00000008"


def test_a_run_that_goes_while_it_is_loaded_is_missed(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_folder / "runs" / "tiny", run)
    find = generate.find_checkpoint

    def then_it_goes(path: Path | None, runs: Path) -> Checkpoint:
        found = find(path, runs)
        shutil.rmtree(run)
        return found

    monkeypatch.setattr(generate, "find_checkpoint", then_it_goes)
    with pytest.raises(RunError, match="There is no run"):
        load_trained(run, CPU)
