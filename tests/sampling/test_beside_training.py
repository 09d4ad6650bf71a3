"""Loading a model from a run in which another process trains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_cli.errors import RunError
from ddpm_cli.runs.checkpoints import Checkpoint
from ddpm_cli.sampling import stored_model
from ddpm_cli.sampling.generate import load_trained

CPU = torch.device("cpu")


@pytest.fixture
def run(trained_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_folder / "runs" / "tiny", tmp_path / "run")


def after_each_is_found(monkeypatch: pytest.MonkeyPatch, happens: Callable[[Checkpoint], object]) -> None:
    """Have something happen between the moment when a checkpoint is found and the one when its tensors are read."""
    find = stored_model.find_checkpoint

    def then_it_happens(path: Path | None, runs: Path) -> Checkpoint:
        found = find(path, runs)
        happens(found)
        return found

    monkeypatch.setattr(stored_model, "find_checkpoint", then_it_happens)


def test_a_checkpoint_that_goes_while_it_is_loaded_gives_way_to_the_newer_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(found: Checkpoint) -> None:
        if found.path.name == "step-00000006":
            found.path.rename(found.path.with_name("step-00000008"))

    after_each_is_found(monkeypatch, renamed)
    assert load_trained(run, CPU).origin.name == "step-00000008"


def test_a_run_that_goes_while_it_is_loaded_is_missed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after_each_is_found(monkeypatch, lambda _: shutil.rmtree(run))
    with pytest.raises(RunError, match="There is no run"):
        load_trained(run, CPU)
