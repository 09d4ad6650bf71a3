"""Fixtures that every test may use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import TINY, Ddpm, run_ddpm
from limits import within_limits


@pytest.fixture
def ddpm(tmp_path: Path) -> Ddpm:
    """Run the command in a folder of its own."""

    def run(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return run_ddpm(*arguments, cwd=cwd)

    return run


@pytest.fixture
def cost() -> Iterator[None]:
    """Hold a test to what a hostile file may cost."""
    with within_limits():
        yield


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run `runs/tiny` of 6 steps; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_ddpm("train", *TINY, "--steps=6", "--name=tiny", "--set=schedule.timesteps=50", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder
