from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY, run_ddpm
from command_server import Server
from fake_runs import fake_run
from picture_files import write_folder

ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}


COMMANDS = (
    *(
        "train",
        "sample",
        "resume",
        "inspect-schedule",
        "evaluate",
        "compare",
        "sweep",
        "tune-sampler",
        "distill",
        "speedrun",
        "bench",
        "report",
        "export",
        "import",
    ),
    *("interpolate", "inpaint", "img2img", "ls", "info", "doctor", "config", "data"),
)


def ddpm(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddpm_cli", *arguments]
    return subprocess.run(command, cwd=cwd, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=120)


AFTER_EACH = """
import json, sys
from ddpm_cli.cli.app import run
for arguments in json.loads(sys.argv[1]):
    status = run(arguments, False)
    print("\\nMODULES", status, *sys.modules, flush=True)
"""
LIGHT = {
    "--help": "torch numpy pydantic PIL matplotlib",
    "train --help": "torch numpy PIL matplotlib",
    "interpolate --help": "torch numpy PIL matplotlib",
    "inpaint --help": "torch numpy PIL matplotlib",
    "img2img --help": "torch numpy PIL matplotlib",
    "bench --help": "torch numpy PIL matplotlib",
    "tune-sampler --help": "torch numpy PIL matplotlib",
    "distill --help": "torch numpy PIL matplotlib",
    "import --help": "torch numpy PIL matplotlib diffusers",
    "export --help": "torch numpy PIL matplotlib diffusers onnx",
    "config init": "torch numpy PIL matplotlib",
    "config show --preset quick": "torch PIL matplotlib",
    "config diff default own": "torch PIL matplotlib",
    "ls": "torch PIL matplotlib",
    "ls datasets": "torch PIL matplotlib",
    "info own": "torch PIL matplotlib",
    "inspect-schedule --kind linear": "torch PIL matplotlib",
    "inspect-schedule --kind linear --json": "torch PIL matplotlib",
    "data check pictures": "torch matplotlib",
    "inspect-schedule --on pictures/000.png": "torch matplotlib textual_image",
    "inspect-schedule --compare linear,cosine --out plot.png": "torch matplotlib.pyplot",
}
"""Command lines, and what they must not import; a later one may import more, because one process runs them in this order."""


def test_light_commands_import_nothing_heavy(tmp_path):
    write_folder(tmp_path / "pictures", 2)
    fake_run(tmp_path / "runs", "own")
    lines = json.dumps([line.split() for line in LIGHT])
    command = [sys.executable, "-c", AFTER_EACH, lines]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    after = [words.splitlines()[0].split() for words in done.stdout.split("\nMODULES ")[1:]]
    for (line, absent), (status, *modules) in zip(LIGHT.items(), after, strict=True):
        assert status == "0", (line, done.stderr)
        assert "ddpm_cli.cli.app" in modules
        assert sorted(set(modules) & set(absent.split())) == [], line


OF_DIFFUSERS = ("--set=model.stem=1", "--set=model.norm_groups=4")
KEPT = ("--steps=2", "--name=kept", "--set=ema.widths=[0.05,0.1]", "--set=checkpoint.every=1", *OF_DIFFUSERS)
IMPORTING = (
    " ".join(("train", *TINY, *KEPT)),
    "ema kept --width=0.1",
    "interpolate 1 2 --n=2 --steps=1",
    "tune-sampler tiny --steps=2 --n=2",
    "distill tiny --steps=1 --name=fast --set=train.sample_n=2",
    "compare tiny fast --n=1",
    "report tiny",
    "export tiny --format=onnx --out=model.onnx",
    "export kept --format=diffusers --out=pipeline",
    "import pipeline --name=theirs --data=fashion-mnist-10k",
    "bench --seconds=0.01 --batch-sizes=1 --set=model.base_channels=8 --set=model.norm_groups=4",
)
"""Of commands that need torch: those of test_windows, test_sample and test_commands are started anew there; one edits for all."""


def test_each_command_imports_what_it_needs(trained_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    server = Server(os.environ.get("PYTHONPATH", ""), bare=True)
    ended = {line: server.run(line.split(), tmp_path, {**ENVIRONMENT, "DDPM_CACHE": str(tmp_path / "cache")}) for line in IMPORTING}
    server.end()
    assert {line: done.stderr for line, done in ended.items() if done.returncode} == {}


def test_help_lists_every_command_and_each_has_examples(tmp_path):
    text = run_ddpm("--help", cwd=tmp_path).stdout
    for command in COMMANDS:
        assert f"\n  {command} " in text
        assert f"For example:\n\n    ddpm {command}" in run_ddpm(command, "--help", cwd=tmp_path).stdout


def test_version(tmp_path):
    from ddpm_cli import __version__

    done = ddpm("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"ddpm {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [["trian"], ["config", "shw"], ["inspect-schedule", "--kid", "linear"], ["inspect-schedule", "--rows", "x"]]
)
def test_usage_errors_exit_2_with_nothing_on_stdout(arguments, tmp_path):
    done = ddpm(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_a_message_and_a_remedy_unless_debugged(tmp_path):
    plain = ddpm("config", "show", "--preset", "quik", cwd=tmp_path)
    assert plain.returncode == 2
    assert plain.stderr.splitlines() == [
        'error: preset: unknown preset "quik"; '
        'the nearest of default, fashion-mnist-gpu, paper-cifar10, quick is "quick" (--preset)',
        "  `ddpm config show` prints every key with its value.",
    ]
    for arguments in (["--debug", "config", "show", "--preset", "quik"], ["config", "show", "--preset", "quik", "--debug"]):
        debugged = ddpm(*arguments, cwd=tmp_path)
        assert debugged.returncode == 2
        assert "Traceback" in debugged.stderr
        assert "unknown preset" in debugged.stderr.splitlines()[-2]


def run_with(broken: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose config loader does `broken`."""
    code = (
        "import sys, ddpm_cli.config.resolve.loader as loader\n"
        f"def load_config(**layers): {broken}\n"
        "loader.load_config = load_config\n"
        "from ddpm_cli.cli.app import main; main()"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def test_a_fault_of_ours_is_one_line_unless_debugged(tmp_path):
    plain = run_with("raise ValueError('oh [/bold] no')", "config", "show", cwd=tmp_path)
    assert plain.returncode == 1
    assert plain.stderr.splitlines() == [
        "error: internal error: ValueError: oh [/bold] no",
        "  Run again with --debug for the traceback.",
    ]
    debugged = run_with("raise ValueError('oh no')", "config", "show", "--debug", cwd=tmp_path)
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr


def test_ctrl_c_is_130_and_one_line(tmp_path):
    done = run_with("raise KeyboardInterrupt", "config", "show", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines() == ["error: Stopped by Ctrl-C."]


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    line = f"{sys.executable} -m ddpm_cli inspect-schedule --timesteps 50000 --csv | head -n 1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "kind,t,beta,alpha_bar,snr,posterior_variance\n"
    assert "error" not in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_no_color_is_respected(tmp_path):
    coloured = {"FORCE_COLOR": "1", "NO_COLOR": "", "TERM": "xterm-256color"}
    assert "\x1b[3" in ddpm("inspect-schedule", cwd=tmp_path, **coloured).stdout
    assert "\x1b[3" not in ddpm("inspect-schedule", cwd=tmp_path, **{**coloured, "NO_COLOR": "1"}).stdout
