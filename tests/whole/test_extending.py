"""Choices that another package adds: those of `examples/extending`, installed beside ddpm without a fork."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
from command import environment, run_ddpm
from command_server import Server
from exact_flow import STEPS, error, even_schedule, no_noise, order_of
from plane_mixture import best_denoise
from repository import ROOT
from torch import Tensor

from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.diffusion.schedules import NoiseSchedule

EXAMPLES = ROOT / "examples" / "extending"
SMALL = (
    "--data=stripes",
    "--set=data.count=64",
    "--set=data.size=16",
    "--set=schedule=exponential",
    "--set=model=convnet",
    "--set=model.channels=8",
    "--set=model.num_classes=auto",
    "--set=objective.loss=pseudo-huber",
    "--set=sample.sampler=midpoint",
    "--set=train.sampler={kind='midpoint', steps=2}",
    "--set=train.sample_n=4",
    "--set=train.gradient_checkpointing=true",
    "--set=train.evaluate_every=2",
    "--set=train.evaluate_metrics=['spread']",
    "--set=train.evaluate_n=8",
    "--set=checkpoint.best_by=spread",
    "--set=checkpoint.every=2",
    "--batch-size=8",
    "--steps=4",
)


def install(site: Path, package: str, entries: dict[str, dict[str, str]]) -> None:
    """Do what pip does for entry points: leave their names beside the package, on the path."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in named.items())]) for group, named in entries.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that holds the examples."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((EXAMPLES / "pyproject.toml").read_text())
    (folder / project["tool"]["setuptools"]["packages"][0]).symlink_to(EXAMPLES)
    install(folder, "ddpm_extending", project["project"]["entry-points"])
    return folder


def path_with(site: Path) -> str:
    return os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])


def ddpm_anew(site: Path, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The command beside the packages of a folder that no other test has."""
    command = [sys.executable, "-m", "ddpm_cli", *arguments]
    variables = environment() | {"PYTHONPATH": path_with(site)} | more
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=240, check=False)


class Extended(Protocol):
    """The command beside the examples."""

    def __call__(self, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="module")
def ddpm(site: Path) -> Iterator[Extended]:
    server = Server(path_with(site))

    def call(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
        return server.run(arguments, cwd, environment() | more)

    yield call
    server.end()


@pytest.fixture(scope="module")
def trained(ddpm: Extended, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of all of them."""
    folder = tmp_path_factory.mktemp("trained")
    done = ddpm("train", *SMALL, "--name=toy", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "convnet, " in done.stderr
    assert "by the pseudo-huber loss, exponential schedule" in done.stderr
    return folder


def test_each_can_be_trained_resumed_sampled_and_exported(ddpm: Extended, trained: Path) -> None:
    for arguments in (
        ["resume", "runs/toy", "--steps=6"],
        ["sample", "runs/toy", "--n=2", "--label=lying", "--guidance=2", "--out=a.png"],
        ["sample", "runs/toy", "--n=2", "--sampler=midpoint", "--steps=3", "--out=b.png"],
        ["export", "runs/toy", "--format=safetensors", "--out=toy.safetensors"],
        ["export", "runs/toy", "--format=torch-export", "--out=toy.pt2"],
        ["export", "runs/toy", "--format=npz", "--out=toy.npz"],
        ["info", "runs/toy"],
    ):
        done = ddpm(*arguments, cwd=trained)
        assert done.returncode == 0, (arguments, done.stderr)
    assert ddpm("sample", "toy.safetensors", "--n=2", "--label=lying", "--guidance=2", "--out=c.png", cwd=trained).returncode == 0
    assert (trained / "a.png").read_bytes() == (trained / "c.png").read_bytes()
    assert (trained / "a.png").read_bytes() != (trained / "b.png").read_bytes()
    with np.load(trained / "toy.npz") as weights:
        assert weights["first.weight"].shape == (8, 1, 3, 3)
    done = ddpm("export", "runs/toy", "--format=npz", "--half", "--out=half.npz", cwd=trained)
    assert (done.returncode, "--half is not for the format npz" in done.stderr) == (2, True)
    assert not (trained / "half.npz").exists()


def test_a_metric_is_measured_after_training_and_during_it(ddpm: Extended, trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "runs" / "toy" / "metrics.jsonl").read_text().splitlines()]
    logged = {row["step"]: row["spread"] for row in rows if "spread" in row}
    assert set(logged) >= {2, 4}
    best = min(("step-00000002", logged[2]), ("step-00000004", logged[4]), key=lambda pair: pair[1])  # the lower the better
    found = json.loads(ddpm("info", "runs/toy", "--json", cwd=trained).stdout)
    assert next(row["best"] for row in found["checkpoints"] if row["path"].endswith(best[0]))
    done = ddpm("evaluate", "runs/toy", "--metrics=spread", "--n=4", "--fit-extractor", "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    (figure,) = json.loads(done.stdout)["figures"]
    assert (figure["metric"], figure["n"]) == ("spread", 4)
    assert figure["value"] > 0
    assert figure["floor"] > 0
    done = ddpm("evaluate", "runs/toy", "--metrics=sprad", cwd=trained)
    assert 'the nearest is "spread"' in done.stderr


def test_a_sweep_can_ask_for_a_metric(ddpm: Extended, tmp_path: Path) -> None:
    file = tmp_path / "arms.toml"
    for name, status in (("Spread", 0), ("sprad", 2)):
        file.write_text(
            f'preset = "quick"\n[grid]\nschedule = ["linear", "exponential"]\n[evaluate]\nmetrics = ["fcd", "{name}"]\n'
        )
        done = ddpm("sweep", "arms.toml", "--dry-run", cwd=tmp_path)
        assert done.returncode == status, done.stderr
    assert 'the nearest is "spread"' in done.stderr


def test_what_only_a_u_net_can_be_is_refused(ddpm: Extended, trained: Path) -> None:
    done = ddpm("export", "runs/toy", "--format=diffusers", "--out=toy", cwd=trained)
    assert done.returncode == 2
    assert 'none is of the kind "convnet"' in " ".join(done.stderr.split())
    assert not (trained / "toy").exists()


def test_without_the_package_a_run_says_which_choice_is_missing(trained: Path) -> None:
    done = run_ddpm("sample", "runs/toy", "--n=2", cwd=trained)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    message = " ".join(done.stderr.split())
    assert 'unknown schedule "exponential"' in message
    assert "If another package adds what is unknown here, install that package beside ddpm" in message


def test_a_model_is_of_use_without_the_packages_that_only_trained_it(ddpm: Extended, tmp_path: Path) -> None:
    """Data and metrics are not asked for where a model is sampled from, exported or listed; where they are, the message says so."""
    sets = ("--set=train.evaluate_metrics=spread", "--set=train.evaluate_every=2", "--set=train.evaluate_n=4")
    line = ("--data=stripes", *sets, "--set=checkpoint.best_by=spread", "--set=model.base_channels=8", "--set=train.sample_n=2")
    done = ddpm("train", *line, "--steps=2", "--batch-size=4", "--name=lone", "--device=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (["sample", "lone", "--n=2", "--steps=2"], ["export", "lone", "--out=lone.safetensors"], ["info", "lone"]):
        done = run_ddpm(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
    assert run_ddpm("sample", "lone.safetensors", "--n=1", "--steps=2", cwd=tmp_path).returncode == 0
    for words in (["evaluate", "lone"], ["resume", "lone", "--steps=4"]):
        done = run_ddpm(*words, cwd=tmp_path)
        assert done.returncode == 2
        assert 'The model was trained on "stripes", a data set that no installed package adds.' in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("datasets", "stripes"),
        ("schedules", "exponential"),
        ("networks", "convnet"),
        ("losses", "pseudo-huber"),
        ("samplers", "midpoint"),
        ("metrics", "spread"),
        ("formats", "npz"),
    ],
)
def test_each_is_listed_and_in_the_help(ddpm: Extended, tmp_path: Path, what: str, name: str) -> None:
    listed = json.loads(ddpm("ls", what, "--json", cwd=tmp_path).stdout)[what]
    assert name in [row["name"] for row in listed]
    command = {"metrics": "evaluate", "formats": "export"}.get(what, "train")
    assert name in ddpm(command, "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ddpm sample --sampler mi", ["midpoint"]),
        ("ddpm train --data str", ["stripes"]),
        ("ddpm train --set schedule.ra", ["schedule.rate="]),
        ("ddpm inspect-schedule --kind exp", ["exponential"]),
        ("ddpm evaluate --metrics fid,sp", ["fid,spread"]),
        ("ddpm export --format n", ["npz"]),
    ],
)
def test_each_is_offered_by_the_shell(ddpm: Extended, tmp_path: Path, words: str, offered: list[str]) -> None:
    asked = {"_DDPM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert ddpm(cwd=tmp_path, **asked).stdout.split() == offered


def test_a_module_of_another_package_may_be_imported_first(site: Path, tmp_path: Path) -> None:
    """It imports ours, which must not need it before it is there."""
    code = (
        "import os, sys, numpy, torch\n"  # what takes long to import, once
        "for module in sys.argv[1:]:\n"
        "    if os.fork() == 0:\n"
        "        __import__(f'ddpm_extending.{module}')\n"
        "        from ddpm_cli.config.resolve.outline import sections\n"
        "        print(module, len(sections()['data']), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()"
    )
    modules = ("schedule", "sampler", "network", "objective", "data", "metric", "export_format")
    variables = environment() | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code, *modules]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [f"{module} 15" for module in modules], done.stderr


def test_the_sampler_is_of_second_order_with_two_evaluations_a_step() -> None:
    sampler = runpy.run_path(str(EXAMPLES / "sampler.py"))["MidpointSampler"]()
    errors = [error(sampler.build(even_schedule(), n), n) for n in STEPS]
    assert 1.8 < order_of(errors) < 2.4, errors
    schedule = NoiseSchedule.from_betas(np.append(np.linspace(0.01, 0.2, 40), 1.0))  # without signal at its end
    asked: list[Level] = []

    def counted(x_t: Tensor, t: Level) -> Denoised:
        asked.append(t)
        return best_denoise()(x_t, t)

    step, path = sampler.prepare(schedule)
    images = sample(counted, step, path, torch.ones(1, 2, dtype=torch.float64), no_noise)
    assert images.isfinite().all()
    assert len(asked) == sampler.evaluations(41) - 1  # at the very end Euler's step is exact
    assert all(t.ratio > s.ratio for t, s in pairwise(asked))


LS_METRICS, EXPORT = ("ls", "metrics"), ("export", "--format=toy")


@pytest.mark.parametrize(
    ("group", "command", "name", "value", "why"),
    [
        ("ddpm.metrics", LS_METRICS, "toy", "absent:TOY", "No module named 'absent'"),
        ("ddpm.metrics", LS_METRICS, "toy", "toys:ONNX", "toys:ONNX is nothing of that kind"),
        ("ddpm.metrics", LS_METRICS, "fid", "toys:FID", "there is another of this name"),
        ("ddpm.metrics", LS_METRICS, "toy", "toys:FID", "toys:FID calls itself fid"),
        ("ddpm.formats", EXPORT, "toy", "absent:TOY", "No module named 'absent'"),
        ("ddpm.formats", EXPORT, "toy", "toys:FID", "toys:FID is nothing of that kind"),
        ("ddpm.formats", EXPORT, "onnx", "toys:ONNX", "there is another of this name"),
        ("ddpm.formats", EXPORT, "toy", "toys:ONNX", "toys:ONNX calls itself onnx"),
    ],
)
def test_a_record_that_cannot_be_used_is_told(
    tmp_path: Path, group: str, command: tuple[str, ...], name: str, value: str, why: str
) -> None:
    (tmp_path / "toys.py").write_text(
        "from ddpm_cli.interop.registry import Format\n"
        "from ddpm_cli.metrics.registry import Metric\n"
        "FID = Metric(name='fid', about='', extractor='classifier', compute=print)\n"
        "ONNX = Format(name='onnx', about='', file_name='', write=print)\n"
    )
    install(tmp_path, "toys", {group: {name: value}})
    done = ddpm_anew(tmp_path, *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert why in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("broken", "toys:absent", "has no attribute 'absent'"),
        ("lost", "no_such_module:Toy", "No module named 'no_such_module'"),
        ("number", "toys:NUMBER", "toys:NUMBER is nothing of that kind"),
        ("no-build", "toys:NoBuild", "toys:NoBuild is nothing of that kind"),
        ("other", "toys:Other", "toys:Other is nothing of that kind"),
        ("ddim", "toys:Toy", "toys:Toy calls itself toy"),
        ("taken", "toys:Taken", "calls itself ddim"),
        ("ddim", "toys:Taken", "there is another of this name"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_package(tmp_path: Path, name: str, value: str, why: str) -> None:
    (tmp_path / "toys.py").write_text(
        "from typing import Literal\n"
        "from ddpm_cli.config.schema.sample import SamplerBase\n"
        "NUMBER = 3\n"
        "from ddpm_cli.config.schema.schedule import LinearSchedule\n"
        "class NoBuild(SamplerBase):\n    kind: Literal['no-build'] = 'no-build'\n"
        "class Toy(SamplerBase):\n    kind: Literal['toy'] = 'toy'\n    def build(self, schedule, steps): ...\n"
        "class Taken(Toy):\n    kind: Literal['ddim'] = 'ddim'\n"
        "class Other(LinearSchedule):\n    kind: Literal['other'] = 'other'\n"
    )
    install(tmp_path, "toys", {"ddpm.samplers": {name: value}})
    done = ddpm_anew(tmp_path, "ls", "samplers", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    message = " ".join(done.stderr.split())
    assert message.startswith(f"error: The package toys adds {name} to ddpm.samplers, but it cannot be used: ")
    assert why in message
    assert message.endswith("Mend it, or take it out: pip uninstall toys")


def test_what_cannot_be_used_is_a_finding_of_doctor_and_no_word_of_completion(tmp_path: Path) -> None:
    install(tmp_path, "toys", {"ddpm.samplers": {"lost": "nowhere:Toy"}})
    findings = ddpm_anew(tmp_path, "doctor", "--json", cwd=tmp_path).stdout
    assert "The package toys adds lost to ddpm.samplers, but it cannot be used" in findings
    assert "torch" in findings  # the rest is looked at all the same
    done = ddpm_anew(tmp_path, cwd=tmp_path, _DDPM_COMPLETE="complete_bash", COMP_WORDS="ddpm sample --sampler d", COMP_CWORD="3")
    assert (done.stdout.strip(), done.stderr) == ("", "")
