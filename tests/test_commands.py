"""Every command line that README.md and the help of the commands show does what it says, at a size that takes a moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import reader_folder
from command_lines import Line, all_lines, helps, in_help
from command_server import Server, command_server

# What makes a command quick; of an option that is given twice the last counts.
APPENDED: dict[str, Sequence[str]] = {
    "train": (*reader_folder.TOY_TRAINING, "--steps=2"),
    "resume": ("--steps=4",),
    "sample": ("--steps=2",),
    "interpolate": ("--steps=2",),
    "inpaint": ("--steps=4", "--resample=2", "--jump=2"),
    "img2img": ("--steps=4",),
    "evaluate": ("--n=8", "--extractor-weights=inception.safetensors"),
    "bench": ("--seconds=0.05", "--batch-sizes=2", "--set=model.base_channels=8", "--set=model.norm_groups=4"),
    "compare": (),
    "sweep": (),
    "report": (),
    "export": (),
    "import": (),
    "inspect-schedule": (),
    "ls": (),
    "info": (),
    "doctor": (),
    "config": (),
    "data": (),
}
WRITTEN = ("--out", "--each", "--trajectory")
LINES = all_lines()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with command_server(DDPM_CACHE=str(tmp_path_factory.mktemp("cache"))) as server:
        yield server


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader; tests must not change it."""
    folder = tmp_path_factory.mktemp("reader")
    reader_folder.make(server, folder, tmp_path_factory.mktemp("logs"))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "reader", symlinks=True)


def option(words: Sequence[str], *names: str) -> str | None:
    """What stands behind one of these options."""
    return next((value for name, value in zip(words, words[1:], strict=False) if name in names), None)


def toy(words: Sequence[str]) -> list[str]:
    """The arguments of `ddpm` at a size that takes a moment, on a device that every machine has."""
    command = words[0]
    assert command in APPENDED, f"APPENDED in {Path(__file__).name} must say how `ddpm {command}` is made quick"
    appended = [*APPENDED[command]]
    if command == "train" and "--data" in words:
        appended = [flag for flag in appended if not flag.startswith("--set=data.")]
    return ["cpu" if word in ("mps", "cuda") else word for word in words] + appended


def remove_what_it_makes(words: Sequence[str], folder: Path) -> None:
    """What the folder has for other commands, and this one would not make again."""
    if words[0] in ("train", "import") and (name := option(words, "--name")):
        shutil.rmtree(folder / "runs" / name, ignore_errors=True)
    if words[0] == "sweep":
        shutil.rmtree(folder / "runs" / Path(words[1]).stem, ignore_errors=True)
    if words[:2] == ("config", "init"):
        (folder / "recipe.toml").unlink()


def assert_done(line: Line, done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """It ended well, had nothing to complain of, and has written all that the line names."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning:" not in done.stderr
    if "--json" in line.words:
        assert isinstance(json.loads(done.stdout), dict)
    if line.stdout:
        assert done.stdout
    for path in filter(None, (option(line.words, name) for name in WRITTEN)):
        written = folder / path
        assert any(written.iterdir()) if written.is_dir() else written.stat().st_size > 0


@pytest.mark.parametrize("line", [line for line in LINES if line.words[0] == "ddpm"], ids=str)
def test_the_command_does_what_it_says(line: Line, folder: Path, server: Server, tmp_path: Path) -> None:
    words = line.words[1:]
    remove_what_it_makes(words, folder)
    assert_done(line, server.run(toy(words), folder, tmp_path), folder)
