"""What training will hold, foretold from passes with a few images, against what it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command import TINY, environment
from torch import Tensor

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.core.compute.machine_memory import MachineMemory, machine_memory
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Event, Notice, ignore
from ddpm_cli.training.planning import memory_report
from ddpm_cli.training.planning.estimate import TrainingMemory
from ddpm_cli.training.planning.memory_report import check_memory
from ddpm_cli.training.planning.memory_trace import PeakMemory, peak_memory

CPU = torch.device("cpu")
FLOAT = 4


def test_the_height_is_that_of_the_tensors_that_are_alive_together() -> None:
    def compute(images: int) -> None:
        first = torch.ones(images, 100)
        second = first * 2  # both are alive
        del first
        third: Tensor = second[:, :50] + 1.0  # a view takes nothing
        del second, third

    assert peak_memory(compute, CPU).at(1000) == 1000 * 200 * FLOAT


def test_the_height_may_move_with_the_number_of_images() -> None:
    def compute(images: int) -> None:
        fixed = torch.ones(1000)
        del fixed
        growing = torch.ones(images, 10)
        del growing

    peak = peak_memory(compute, CPU)
    assert [peak.at(images) for images in (1, 99, 100, 200)] == [4000, 4000, 4000, 8000]


def test_a_graph_is_counted_and_given_back() -> None:
    weight = torch.ones(8, requires_grad=True)

    def compute(images: int) -> None:
        (torch.ones(images, 8) * weight).exp().sum().backward()
        weight.grad = None

    # x and the result of exp, which are kept, and its gradient and that of x * weight on the way back; small change aside.
    assert peak_memory(compute, CPU).at(1000) == pytest.approx(4 * 1000 * 8 * FLOAT, rel=0.3)


def memory(per_image: int = 10**6, weights: int = 10**6) -> TrainingMemory:
    line, none = PeakMemory(frozenset({(0, per_image)})), PeakMemory(frozenset({(0, 0)}))
    return TrainingMemory(
        10**8, weights, weights, 2 * weights, 0, line, none, none, heap=1.0, on_cpu=True, processes=1, passes_at_once=1
    )


def test_the_parts_add_up() -> None:
    config = load_config(sets=["train.batch_size=64"]).config
    assert memory().peak(config) == 10**8 + 4 * 10**6 + 64 * 10**6
    led = load_config(sets=["train.batch_size=64", "objective.autoguidance.scale=2"]).config
    assert memory().peak(led) == 10**8 + 5 * 10**6 + 64 * 10**6  # and an earlier self
    distilled = load_config(
        sets=["train.batch_size=64", "objective.loss={kind='consistency', ends='teacher'}", "start.weights=teacher.safetensors"]
    ).config
    assert memory().peak(distilled) == 10**8 + 5 * 10**6 + 64 * 10**6  # and a teacher
    accumulated = load_config(sets=["train.batch_size=64", "train.micro_batch_size=16"]).config
    assert memory().peak(accumulated) == 10**8 + 4 * 10**6 + (16 + 1) * 10**6  # beside gradients that are there already
    transported = load_config(sets=["train.batch_size=4096", "objective.coupling=optimal-transport"]).config
    assert memory(per_image=0).peak(transported) == 10**8 + 4 * 10**6 + 3 * 8 * 4096**2  # products of every image with every noise
    assert memory(weights=10**9).peak(config) == 10**8 + (4 + 7) * 10**9  # a checkpoint's copies


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (MachineMemory(total=10**10, available=10**9), None),
        (MachineMemory(total=10**10, available=20 * 10**6), "free"),
        (MachineMemory(total=150 * 10**6, available=20 * 10**6), "this machine has"),
    ],
)
def test_too_little_memory_is_a_warning_and_impossible_memory_an_error(
    monkeypatch: pytest.MonkeyPatch, machine: MachineMemory, words: str | None
) -> None:
    monkeypatch.setattr(memory_report, "machine_memory", lambda: machine)
    monkeypatch.setattr(memory_report, "held_bytes", lambda: 10**8)
    config, told = load_config(sets=["train.batch_size=64"]).config, list[Event]()
    if words == "this machine has":
        with pytest.raises(RequestError) as refused:
            check_memory(memory(), config, told.append)
        messages = [str(refused.value)]
    else:
        check_memory(memory(), config, told.append)
        messages = [event.message for event in told if isinstance(event, Notice)]
    assert len(messages) == (words is not None)
    if words is None:
        return
    assert words in messages[0]
    # 100 MB of the process, 4 MB of weights and 1 MB of gradients leave 15 MB of 120 free ones, and 45 MB of 150 in all.
    assert f"train.micro_batch_size={8 if words == 'free' else 32}," in messages[0]


def test_a_batch_that_is_too_large_by_itself_is_answered_with_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_report, "machine_memory", lambda: MachineMemory(total=10**9, available=10**9))
    config = load_config(sets=["train.batch_size=1024"]).config
    of_images = replace(memory(per_image=0), image=10**7)
    with pytest.raises(RequestError) as refused:
        check_memory(of_images, config, ignore)
    assert refused.value.remedy.startswith("Add --batch-size 64, or --set train.gradient_checkpointing=true")


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    for folder, limit in ((tmp_path / "a", "1000000"), (tmp_path / "a/b", "max")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("600000")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    monkeypatch.setattr("ddpm_cli.core.compute.machine_memory.CGROUPS", tmp_path)
    monkeypatch.setattr("ddpm_cli.core.compute.machine_memory.OWN_CGROUP", tmp_path / "own")
    assert machine_memory() == MachineMemory(total=1_000_000, available=500_000)
    monkeypatch.setattr("ddpm_cli.core.compute.machine_memory.OWN_CGROUP", tmp_path / "none")
    assert machine_memory().total > 1_000_000


# The command runs in a child of a small process, as a child takes over the height of the process that starts it.
MEASURED = """
import json, subprocess, sys
program = '''
import resource, sys
from ddpm_cli.cli.app import run
status = run(sys.argv[1:], False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024), file=sys.stderr)
sys.exit(status)
'''
done = subprocess.run([sys.executable, "-c", program, *sys.argv[1:]], stderr=subprocess.PIPE, text=True, check=True)
print(json.dumps({"held": int(done.stderr.split()[-1])}))
"""


@pytest.mark.parametrize(
    "settings",
    [("--batch-size=1024",), ("--batch-size=1024", "--set=train.micro_batch_size=512", "--set=train.gradient_checkpointing=true")],
    ids=["plain", "accumulated and recomputed"],
)
def test_a_dry_run_foretells_the_memory_of_a_run(tmp_path: Path, settings: tuple[str, ...]) -> None:
    arguments = ["train", *TINY, *settings, "--set=data.limit=1000", "--set=model.stem=1", "--steps=2", "--device=cpu"]

    def run(*command: str) -> dict[str, int]:
        options = {"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True, "check": True}
        return dict(json.loads(subprocess.run([sys.executable, *command], **options).stdout))

    estimated = run("-m", "ddpm_cli", *arguments, "--dry-run", "--json")["estimated_bytes"]
    held = run("-c", MEASURED, *arguments)["held"]
    assert 0.75 * held < estimated < 1.25 * held, (estimated, held)
