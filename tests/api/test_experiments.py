"""Comparing and sweeping from Python: what may be asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ddpm_cli


@pytest.fixture(scope="module")
def runs(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs."""
    folder = tmp_path_factory.mktemp("api-experiments") / "runs"
    for name in ("one", "two"):
        shutil.copytree(trained_folder / "runs" / "tiny", folder / name)
    return folder


def test_one_folder_of_runs_needs_no_list(runs: Path, tmp_path: Path) -> None:
    for number, alone in enumerate((runs, str(runs))):
        found = ddpm_cli.compare(alone, images=0, out=tmp_path / str(number), progress=False)
        assert {run.name for run in found.comparison.runs} == {"one", "two"}


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one run": (lambda runs: ddpm_cli.compare("one", root=runs), "There is one run to compare, .*one"),
    "an unknown run": (lambda runs: ddpm_cli.compare("oen", root=runs), "There is no run 'oen'"),
    "a run itself": (lambda runs: ddpm_cli.compare(ddpm_cli.find_run("one", runs=runs)), "There is one run to compare"),
    "no list": (lambda runs: ddpm_cli.compare(3), "runs must be a list, not 3"),  # type: ignore[arg-type]
    "no runs": (lambda runs: ddpm_cli.compare([3]), "runs must be a path, not 3"),  # type: ignore[list-item]
    "images": (lambda runs: ddpm_cli.compare(runs, images=5000), "images must be at most 1,000, not 5,000"),
    "half an image": (lambda runs: ddpm_cli.compare(runs, images=0.5), "images must be a whole number"),  # type: ignore[arg-type]
    "seed": (lambda runs: ddpm_cli.compare(runs, seed=-1), "seed must be at least 0"),
    "baseline": (lambda runs: ddpm_cli.compare(runs, baseline=3), "baseline must be a text, not 3"),  # type: ignore[arg-type]
    "device": (lambda runs: ddpm_cli.compare(runs, device=3), "device must be a text, not 3"),  # type: ignore[arg-type]
    "images of a sweep": (lambda runs: ddpm_cli.sweep("no.toml", images=5000), "images must be at most 1,000"),
    "file of a sweep": (lambda runs: ddpm_cli.sweep(3), "file must be a path, not 3"),  # type: ignore[arg-type]
    "name of a sweep": (lambda runs: ddpm_cli.sweep("no.toml", name=3), "name must be a text, not 3"),  # type: ignore[arg-type]
    "file of a record": (lambda runs: ddpm_cli.speedrun(3), "record must be a path, not 3"),  # type: ignore[arg-type]
    "clock of a record": (lambda runs: ddpm_cli.speedrun("no.toml", 5), "clock must be a text, not 5"),  # type: ignore[arg-type]
    "config": (lambda runs: ddpm_cli.train(3), "config must be a text, not 3"),  # type: ignore[arg-type]
    "name": (lambda runs: ddpm_cli.train(name=3, runs=runs), "name must be a text, not 3"),  # type: ignore[arg-type]
    "set": (lambda runs: ddpm_cli.train(set="a=b"), "set must map keys to values, not 'a=b'"),  # type: ignore[arg-type]
    "resumed": (lambda runs: ddpm_cli.resume(3), "run must be a path, not 3"),  # type: ignore[arg-type]
    "runs": (lambda runs: ddpm_cli.resume("one", runs=3), "runs must be a path, not 3"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_argument_is_named(name: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request, reason = REFUSED[name]
    with pytest.raises(ddpm_cli.DdpmError, match=reason) as refused:
        request(runs)
    assert "--" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
