"""What Tab offers, asked for as a shell does; and what every command has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command import environment
from fake_runs import fake_run

from ddpm_cli.cli.app import app
from ddpm_cli.cli.parsing.completion import config_keys, config_names, kinds, preset_names, run_names


def test_names_that_go_on_from_what_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_names("") == []
    fake_run(tmp_path / "runs", "quick-001", checkpoint=False)
    fake_run(tmp_path / "runs" / "sweep", "linear-s0", checkpoint=False)
    (tmp_path / "runs" / "quick-002").mkdir()
    assert run_names("qui") == ["quick-001"]
    assert run_names("sweep/") == ["sweep/linear-s0"]
    assert run_names("runs/q") == ["runs/quick-001"]
    assert run_names("zzz") == []
    assert preset_names("pa") == ["paper-cifar10"]
    assert config_names("quick") == ["quick", "quick-001"]
    assert kinds("sample.sampler")("d") == ["ddpm", "ddim", "dpm-solver++", "deis"]
    assert "optimizer.lr=" in config_keys("optimizer.")


@pytest.mark.parametrize(
    ("command", "option", "typed", "offered"),
    [
        ("export", "--format", "o", ["onnx"]),
        ("evaluate", "--metrics", "fid,pre", ["fid,precision-recall"]),
        ("inspect-schedule", "--compare", "linear,co", ["linear,cosine"]),
        ("bench", "--against", "d", ["diffusers"]),
        *[(command, "--run", "qu", ["quick-001"]) for command in ("img2img", "inpaint", "interpolate")],
    ],
)
def test_options_that_take_names_offer_them(
    command: str, option: str, typed: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "runs", "quick-001", checkpoint=False)
    (parameter,) = [found for found in COMMANDS[command].params if option in found.opts]
    found = parameter.shell_complete(COMMANDS[command].make_context("ddpm", [], resilient_parsing=True), typed)
    assert [item.value for item in found] == offered


def test_bash_is_offered_runs_without_torch(tmp_path: Path) -> None:
    fake_run(tmp_path / "runs", "quick-001", checkpoint=False)
    code = (
        "import sys, atexit; atexit.register(lambda: sys.stderr.write(f\"torch {'torch' in sys.modules}\")); "
        "from ddpm_cli.cli.app import main; main()"
    )
    asked = {"_DDPM_COMPLETE": "complete_bash", "COMP_WORDS": "ddpm sample qu", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment() | asked, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["quick-001"], "torch False")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_in_json(name: str) -> None:
    assert "--json" in [option for parameter in COMMANDS[name].params for option in parameter.opts]


@pytest.mark.parametrize("arguments", [["ls"], ["info", "one"], ["config", "diff", "default", "quick"], ["ls", "samplers"]])
def test_no_colour_where_none_is_wanted(arguments: list[str], tmp_path: Path) -> None:
    fake_run(tmp_path / "runs", "one")
    command = [sys.executable, "-m", "ddpm_cli", *arguments]

    def shown(**more: str) -> str:
        kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
        done = subprocess.run(command, cwd=tmp_path, env=kept | more, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    assert "\x1b" not in shown()
    assert "\x1b[3" not in shown(FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color", COLUMNS="100")
