"""Run folders that were made to do harm; see test_hostile_files.py."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import files_below
from fake_runs import add_figure, fake_run
from hostile import ESCAPE

from ddpm_cli.cli.app import app
from ddpm_cli.errors import RequestError, RunError
from ddpm_cli.runs.figures import figure_of
from ddpm_cli.runs.metrics_log import read_rows

pytestmark = pytest.mark.usefixtures("cost")


@pytest.mark.parametrize("make", [os.symlink, lambda target, path: os.mkfifo(path)], ids=["link", "pipe"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "lock"])
def test_resume_writes_into_no_link_and_no_pipe(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path, Path], None]
) -> None:
    run = Path(shutil.copytree(trained_folder / "runs" / "tiny", tmp_path / "runs" / "tiny"))
    (run / name).unlink()
    target = tmp_path / "mine"
    target.write_text("mine")
    make(target, run / name)
    before = files_below(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=name):
        app(["resume", "tiny", "--steps=7"], standalone_mode=False)
    assert target.read_text() == "mine"
    assert files_below(tmp_path).keys() - {"runs/tiny/lock"} == before.keys() - {"runs/tiny/lock"}


@pytest.mark.parametrize("name", ["evaluations", "evaluations/work"])
@pytest.mark.parametrize("asked", ["tiny", "runs/tiny/checkpoints/step-00000006"])
def test_evaluate_writes_into_no_link(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, asked: str
) -> None:
    run = Path(shutil.copytree(trained_folder / "runs" / "tiny", tmp_path / "runs" / "tiny"))
    (tmp_path / "mine").mkdir()
    (run / name).parent.mkdir(exist_ok=True)
    os.symlink(tmp_path / "mine", run / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="symbolic link"):
        app(["evaluate", asked, "--metrics=fcd", "--n=200", "--set=sample.sampler.steps=1"], standalone_mode=False)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("number", [10**400, 10**20, -1, 1.5, True, "6", None])
def test_rows_of_a_log_have_a_step(tmp_path: Path, number: Any) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": number, "loss": 1.0}) + "\n" + '{"step": 3}\n')
    assert [row["step"] for row in read_rows(path)] in ([3], [True, 3])


def test_a_figure_edited_by_hand_is_none(tmp_path: Path) -> None:
    run = fake_run(tmp_path, "one")
    add_figure(run, 1.0)
    (row,) = read_rows(run.evaluations_folder / "figures.jsonl")
    assert figure_of(row) is not None
    wrong: list[dict[str, Any]] = [
        *({"value": value} for value in ("1", None, 10**400, float("nan"))),
        *({"n": n} for n in (1.5, "1", 10**400)),
        *({"details": details} for details in ([], {"sampler": "ddim"}, row["details"] | {"steps": "x"})),
        *({"rows": rows} for rows in ([1], [{}], [{"t_first": 1, "t_last": "x", "loss": 1, "standard_error": 1}])),
        *({"terms": terms} for terms in ([], {"a": "x"})),
        *({"floor_n": None}, {"metric": 3}, {"notes": 3}),
    ]
    assert [change for change in wrong if figure_of(row | change) is not None] == []
    told = figure_of(row | {"metric": ESCAPE, "data": ESCAPE, "notes": [ESCAPE], "terms": {ESCAPE: 1.0}})
    assert told is not None
    assert (told.metric + told.data + told.notes[0] + next(iter(told.terms))).isprintable()
