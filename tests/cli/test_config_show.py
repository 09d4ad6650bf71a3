from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "COLUMNS": "40"}


@pytest.fixture
def show(tmp_path: Path):
    def show(*arguments: str) -> subprocess.CompletedProcess[str]:
        before = sorted(tmp_path.rglob("*"))
        command = [sys.executable, "-m", "ddpm_cli", "config", "show", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        assert sorted(tmp_path.rglob("*")) == before
        return done

    return show


def test_the_output_is_a_config_that_says_where_each_value_came_from(show, tmp_path):
    (tmp_path / "recipe.toml").write_text('preset = "quick"\n[optimizer]\nlr = 0.5\n')
    first = show("--config", "recipe.toml", "--set", "schedule=linear")
    assert (first.returncode, first.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in first.stdout.splitlines()]
    assert "lr = 0.5 # recipe.toml" in lines
    assert 'kind = "linear" # --set' in lines
    assert "stem = 2 # preset quick" in lines
    assert "dropout = 0.0 # default" in lines
    assert "beta_end = 0.02 # default" in lines
    (tmp_path / "again.toml").write_text(first.stdout)
    second = show("--config", "again.toml")
    assert tomllib.loads(second.stdout) == tomllib.loads(first.stdout)


def test_json_has_the_config_and_the_origins(show):
    answer = json.loads(show("--json", "-s", "optimizer.lr=1e-3").stdout)
    assert answer["config"]["optimizer"]["lr"] == 1e-3
    assert answer["origins"]["optimizer.lr"] == "--set"
    assert answer["origins"]["schedule.kind"] == "default"


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (
            b"[optimizer]\nlrr = 1\n[train]\nbatch_size = 0\n",
            ['optimizer.lrr: unknown key; the nearest is "lr"', "train.batch_size: must be at least 1, not 0"],
        ),
        (b"[train]\n\nseed = = 1\n", ["recipe.toml: TOML syntax error", "line 3"]),
        (b'[schedule]\nkind = "cosin"\n', ['"cosine"', "schedule: unknown schedule"]),
        (b'preset = "quik"\n', ['unknown preset "quik"', "paper-cifar10"]),
        (b"a = '\xff'", ["recipe.toml: is not UTF-8 text"]),
    ],
    ids=["two faults", "syntax", "kind", "preset", "encoding"],
)
def test_a_bad_file_is_refused_with_its_reasons(show, tmp_path, text, reasons):
    (tmp_path / "recipe.toml").write_bytes(text)
    done = show("--config", "recipe.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert all(reason in done.stderr for reason in reasons)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--config", "absent.toml"], "absent.toml: no such file (--config)"),
        (["--preset", "none"], 'unknown preset "none"'),
        (["--set", "optimizer.lr"], '"optimizer.lr" is not of the form section.key=value'),
        (["--set", "sample.n=0", "--set", "sample.sampler=ddmp"], "2 faults in the configuration:"),
    ],
)
def test_a_bad_argument_is_refused_with_its_reason(show, arguments, reason):
    done = show(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
