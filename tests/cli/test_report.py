"""`ddpm report` as a person meets it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from command import assert_refused, files_below, run_ddpm
from report_pages import whole_run

from ddpm_cli.cli.app import app
from ddpm_cli.errors import RequestError


def test_a_trained_run(trained_folder: Path, tmp_path: Path) -> None:
    before = files_below(trained_folder)
    run, out = trained_folder / "runs" / "tiny", tmp_path / "tiny.html"
    done = run_ddpm("report", str(run), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts == {
        "run": str(run),
        "step": 6,
        "file": "tiny.html",
        "bytes": out.stat().st_size,
        "grids": 1,
        "moments": 41,
        "figures": 0,
        "incidents": 0,
    }
    assert "wrote: tiny.html (" in done.stderr
    content = out.read_text()
    assert content.startswith("<!doctype html>")
    assert "DDIM, 40 steps, seeds 0 to 15, EMA weights of step 6." in content
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.html"]
    assert files_below(trained_folder) == before


def test_without_a_denoising_no_checkpoint_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_run(tmp_path / "runs")  # its weights are those of no network
    monkeypatch.chdir(tmp_path)
    app(["report", "--no-trajectory", "--out", "here.htm"], standalone_mode=False)
    assert "Not drawn, as --no-trajectory asks." in (tmp_path / "here.htm").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["whle"], ("There is no run 'whle'", "Did you mean whole?")),
        (["--out=report.pdf"], ("report.pdf: a report is an HTML page", ".html")),
        (["--out=none/report.html"], ("none/report.html", "folder does not exist")),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: list[str], words: tuple[str, ...]) -> None:
    whole_run(tmp_path / "runs")
    before = files_below(tmp_path)
    assert_refused(run_ddpm("report", *arguments, cwd=tmp_path), *words)
    assert files_below(tmp_path) == before


def test_a_missing_library_is_named_with_its_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_run(tmp_path / "runs")
    found = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "plotly" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"needs plotly, which is not installed\. Install it: pip install 'ddpm-cli\[report\]'"):
        app(["report"], standalone_mode=False)
    assert not list(tmp_path.glob("*.html"))
