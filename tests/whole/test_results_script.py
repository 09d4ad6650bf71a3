"""The script in `examples/results/`: what it asks of the command exists, and it measures, reports and goes on."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from command import TINY
from repository import ROOT

from ddpm_cli.cli.app import app
from ddpm_cli.config.resolve.loader import load_config

RESULTS = ROOT / "examples" / "results"
sys.path.insert(0, str(RESULTS))

import fashion_mnist_gpu as script  # noqa: E402 # an example is no package
from fashion_mnist_gpu_report import write_report  # noqa: E402

SMALLEST = replace(
    script.TOY,
    train=("--preset=fashion-mnist-gpu", *TINY, *script.TINY, "--set=checkpoint.every=2", "--set=data.limit=64"),
    budgets={script.LONG: ("--steps=4",), script.SHORT: ("--steps=2",)},
    minutes=(60,),
    n=4,
    steps=(2,),
    metrics="fcd",
    curve_metrics="fcd",
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that are not run but listed here."""
    lines: list[list[str]] = []
    monkeypatch.setattr(script, "ddpm", lambda *arguments: lines.append(list(arguments)) or "{}")
    monkeypatch.setattr(script, "require_whole_set", lambda: None)
    return lines


def parse(line: list[str]) -> dict[str, object]:
    """What the command line means to the command."""
    command = typer.main.get_command(app).commands[line[0]]  # type: ignore[attr-defined]  # it is a group
    return command.make_context(line[0], list(line[1:])).params


def pretend_trained(study: script.Study) -> None:
    for name in script.FULL.budgets:
        for step, seconds in ((1000, 50), (2000, 100), (4000, 179), (13_000, 630)):
            folder = study.runs / name / "checkpoints" / f"step-{step:08d}"
            folder.mkdir(parents=True)
            (folder / "state.json").write_text(json.dumps({"seconds": seconds}))


@pytest.mark.parametrize("options", [[], ["--toy", "--device=cpu", "--extractor-weights=w.safetensors", "--ancestral-n=7"]])
def test_every_command_line_is_understood(options: list[str], asked: list[list[str]], tmp_path: Path) -> None:
    study, parts = script.study_from([f"--out={tmp_path / 'out'}", *options])
    assert parts == list(script.PARTS)
    script.train(study)
    pretend_trained(study)
    for part in parts:
        script.PARTS[part](study)
    assert {line[0] for line in asked} == {"train", "resume", "evaluate", "bench"}
    for line in asked:
        params = parse(line)
        sets = [text for text in params.get("sets") or () if isinstance(text, str)]
        load_config(preset=params.get("preset"), file=None, sets=sets, flags={})
    assert not list((tmp_path / "out").glob("figures/*.part"))


def test_the_curve_takes_the_last_checkpoint_until_each_minute(asked: list[list[str]], tmp_path: Path) -> None:
    study = script.Study(script.FULL, tmp_path)
    pretend_trained(study)
    found = script.checkpoints_after(study.runs / script.LONG, (0.5, 1, 2, 3, 5, 10))
    assert [(after, round(minutes, 2), folder.name) for after, minutes, folder in found] == [
        (1, 0.83, "step-00001000"),
        (2, 1.67, "step-00002000"),
        (3, 2.98, "step-00004000"),
        (10, 10.5, "step-00013000"),
    ]


def test_it_trains_measures_and_reports_and_does_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = script.Study(SMALLEST, tmp_path, ("--device=cpu",))
    script.train(replace(study, plan=replace(SMALLEST, budgets={script.LONG: SMALLEST.budgets[script.LONG]})))
    script.sample(study, "ddim", 2, 4)
    write_report(tmp_path, 4)
    report = (tmp_path / "results.md").read_text()
    figure = json.loads((tmp_path / "figures" / "samples-ddim-2-4.json").read_text())
    value = figure["answer"]["figures"][0]["value"]
    assert f"| ddim | 2 | 4 |  |  |  |  | {value:.4g} |" in report.replace(",", "")
    assert shlex.join(["ddpm", "evaluate", str(study.runs / script.LONG)]) in report
    assert "| long | " in report

    monkeypatch.setattr(script, "ddpm", lambda *arguments: pytest.fail(f"done again: {arguments}"))
    script.sample(study, "ddim", 2, 4)


def test_the_curve_and_the_verdicts_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    for step, after, minutes, fid in ((1000, 1, 0.9, 30.0), (4000, 3, 2.98, 4.5), (13_000, 10, 10.2, 3.5)):
        answer = {"step": step, "figures": [{"metric": "fid", "value": fid}]}
        stored = {"run": "long", "after": after, "minutes": minutes, "command": "ddpm evaluate", "answer": answer}
        (folder / f"curve-long-{step}.json").write_text(json.dumps(stored))
    write_report(tmp_path, 50_000)
    report = (tmp_path / "results.md").read_text()
    assert "| FID after 3 minutes, long run | at most 5 | 4.5 |" in report
    assert "| FID after 10 minutes, long run | at most 3 | 3.5 |" in report
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_images_of_the_package_do_not_pass_for_the_whole_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.data.sources import fashion_mnist

    monkeypatch.setattr(fashion_mnist, "load_fashion_mnist", lambda root: fashion_mnist.load_fashion_mnist_10k())
    with pytest.raises(SystemExit, match="The full Fashion-MNIST was not found"):
        script.train(script.Study(script.FULL, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_command_that_fails_ends_the_script_with_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        script.ddpm("train", "--preset=quik")
    assert ended.value.code == 2
