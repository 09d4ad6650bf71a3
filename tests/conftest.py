"""Fixtures that every test may use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import TINY, Ddpm, run_ddpm, run_ddpm_anew
from command_server import end_the_server
from limits import within_limits
from quicker import be_quicker

from ddpm_cli.cli.app import run

LONGEST = {"whole", "cli", "training"}
"""Folders of files that take longest. They come first, so that two workers end together; by itself xdist begins with many tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.isdisjoint(item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def shared_by_all_tests() -> Iterator[None]:
    """Spare trainings what they would do anew; in the end, end the process that commands are forked from, if any was asked for."""
    be_quicker()
    yield
    end_the_server()


@pytest.fixture
def ddpm(tmp_path: Path) -> Ddpm:
    """Run the command in a folder of its own."""

    def call(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return run_ddpm(*arguments, cwd=cwd)

    return call


@pytest.fixture
def ddpm_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ddpm:
    """As `ddpm`, but in this process: torch is imported once, and not for each of many commands."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        status = run(arguments, debug=False)
        stdout, stderr = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, stdout, stderr)

    return call


@pytest.fixture
def cost() -> Iterator[None]:
    """Hold a test to what a hostile file may cost."""
    with within_limits():
        yield


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run `runs/tiny` of 6 steps; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_ddpm_anew("train", *TINY, "--steps=6", "--name=tiny", "--set=schedule.timesteps=50", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder
