"""What becomes of memory that runs out: of the errors of every device, of the memory itself, and of a real limit."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import TINY, environment
from tiny_configs import tiny_config

from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute.machine_memory import MachineMemory
from ddpm_cli.core.compute.out_of_memory import fits, is_out_of_memory, largest_fitting
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.errors import OutOfMemoryError, RequestError
from ddpm_cli.evaluation.evaluate import evaluate_run
from ddpm_cli.models.unet import UNet
from ddpm_cli.results.events import Event, Notice, SampleProgress, TrainPlan
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.training.planning import batch_size, estimate
from ddpm_cli.training.planning.rehearsal import Rehearsal
from ddpm_cli.training.train import train

CPU = torch.device("cpu")
# In the words of each device's allocator; no GPU is needed to read them.
ERRORS: dict[str, Callable[[], Exception]] = {
    "CUDA": lambda: torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.2 GiB is free."
    ),
    "MPS": lambda: RuntimeError(
        "MPS backend out of memory (MPS allocated: 8.95 GB, other allocations: 1.2 GB, max allowed: 9.07 GB). Tried 1 MB."
    ),
    "CPU": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes. "
        "Error code 12 (Cannot allocate memory)"
    ),
    "oneDNN": lambda: RuntimeError("could not create a primitive"),
    "Python": lambda: MemoryError(),
}


@pytest.fixture(autouse=True)
def rehearsals_of_a_number_of_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes are counted here: each rehearsal takes as many as the other."""
    monkeypatch.setattr(estimate, "PROBE_SECONDS", 0.0)


def tiny(*sets: str) -> Config:
    return tiny_config(
        "schedule.timesteps=20",
        "train.batch_size=16",
        "train.sample_n=2",
        "train.steps=4",
        "checkpoint.every=2",
        *sets,
    )


class Limited:
    """A network's forward pass for which more images than `most` have no memory, once `steps` passes of any size went well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], most: int, passes: int = 0) -> None:
        self.sizes: list[int] = []
        forward = UNet.forward

        def limited(network: UNet, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(x))
            if len(x) > most and len(self.sizes) > passes:
                raise error()
            return forward(network, x, *rest)

        monkeypatch.setattr(UNet, "forward", limited)


@pytest.mark.parametrize("device", ERRORS)
def test_every_device_says_it_in_its_own_words(device: str) -> None:
    assert is_out_of_memory(ERRORS[device]())


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("memory")])
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)):
        fits(lambda _: (_ for _ in ()).throw(error), 1)  # type: ignore[arg-type]  # it never returns


def test_halves_are_tried_until_one_fits() -> None:
    tried: list[int] = []

    def compute(images: int) -> None:
        tried.append(images)
        if images > 3:
            raise ERRORS["CUDA"]()

    assert largest_fitting(compute, 24, lambda: None) == 3
    assert tried == [24, 12, 6, 3]
    assert largest_fitting(lambda images: compute(images + 9), 8, lambda: None) is None


def test_what_failed_holds_no_memory_afterwards() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def compute(images: int) -> None:
        weight = torch.ones(images, requires_grad=True)
        result = weight.exp()
        around: list[object] = [result]
        around.append(around)  # a cycle, which only the collector ends
        held.extend(weakref.ref(tensor) for tensor in (weight, result))
        raise ERRORS["CPU"]()

    assert not fits(compute, 2)
    assert [tensor() for tensor in held] == [None, None]


@pytest.mark.parametrize("device", ["CUDA", "MPS"])
def test_training_says_what_fitted_and_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    runs = RunDirectory(tmp_path / "run")
    config = tiny("train.sample_every=3")
    # As many passes go well as a run of two steps takes, whose last samples are those of step 3 here.
    counted = Limited(monkeypatch, ERRORS[device], most=10**6)
    train(config.model_copy(update={"train": config.train.model_copy(update={"steps": 2})}), runs=tmp_path, name="first")
    Limited(monkeypatch, ERRORS[device], most=6, passes=len(counted.sizes))
    with pytest.raises(OutOfMemoryError) as caught:
        train(config, runs=tmp_path, name="run")
    error = caught.value
    assert error.exit_status == 1
    assert "step 4 with 16 images" in error.message
    assert "4 fitted" in error.message
    assert "checkpoints are intact" in error.message
    assert f"ddpm resume {runs.path} --set train.micro_batch_size=4," in error.remedy
    assert "--set train.gradient_checkpointing=true" in error.remedy
    assert latest_checkpoint(runs).step == 2


def test_without_a_checkpoint_training_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Limited(monkeypatch, ERRORS["CUDA"], most=10**6)
    train(tiny(), runs=tmp_path, dry_run=True)
    Limited(monkeypatch, ERRORS["CUDA"], most=0, passes=len(counted.sizes))
    with pytest.raises(OutOfMemoryError, match=r"step 1 .* not even one fitted") as caught:
        train(tiny("train.gradient_checkpointing=true"), runs=tmp_path, name="run")
    assert "smaller network" in caught.value.remedy


def test_sampling_goes_on_in_smaller_batches(trained_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = load_trained(trained_folder / "runs/tiny", CPU)
    whole = torch.cat(list(generate_samples(trained, range(9))))
    Limited(monkeypatch, ERRORS["CUDA"], most=3)
    events: list[Event] = []
    frames: list[tuple[int, int]] = []
    batches = list(
        generate_samples(trained, range(9), on_event=events.append, on_frame=lambda index, _, x_s: frames.append((index, len(x_s))))
    )
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 1]
    assert (torch.cat(batches).int() - whole.int()).abs().max() <= 1
    assert [event.message for event in events if isinstance(event, Notice)] == [
        "Out of memory while denoising 9 images at a time on cpu. Tried at once, 2 fitted. Going on with as many, which changes "
        "no image."
    ]
    progress = [event for event in events if isinstance(event, SampleProgress)]
    steps = len(progress) // 5
    assert [(event.done, event.total) for event in progress] == [(done, 5 * steps) for done in range(1, 5 * steps + 1)]
    assert progress[-1].images_done == 9
    assert sum(images for index, images in frames if index == 0) == 9


def test_sampling_ends_where_not_one_image_fits(trained_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = load_trained(trained_folder / "runs/tiny", CPU)
    Limited(monkeypatch, ERRORS["CUDA"], most=0)
    with pytest.raises(OutOfMemoryError, match=r"denoising 16 images at a time on cpu\. Tried at once, not even one fitted"):
        list(generate_samples(trained, range(16)))


def test_memory_that_runs_out_midway_says_what_fits(trained_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of the batch may have gone out by then."""
    trained = load_trained(trained_folder / "runs/tiny", CPU)
    Limited(monkeypatch, ERRORS["CUDA"], most=3, passes=2)
    with pytest.raises(OutOfMemoryError, match=r"Tried at once, 2 fitted") as caught:
        list(generate_samples(trained, range(16)))
    assert "Set sample.batch_size=2" in caught.value.remedy


def test_likelihoods_say_what_to_try(trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Limited(monkeypatch, ERRORS["CUDA"], most=3)
    with pytest.raises(OutOfMemoryError, match="measuring 64 images") as caught:
        evaluate_run(trained_folder / "runs/tiny", ["bits-per-dim"], device="cpu", out=tmp_path / "out")
    assert "--batch-size 32" in caught.value.remedy


REAL = """
import resource, sys
from pathlib import Path
from ddpm_cli.cli.app import run
from ddpm_cli.training.loop import TrainingLoop

def limited(loop, *arguments, train=TrainingLoop.train):  # when all libraries are there, and the network is
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + 600_000_000,) * 2)
    return train(loop, *arguments)

TrainingLoop.train = limited
sys.exit(run(sys.argv[1:], False))
"""


def test_a_real_limit_is_met_with_a_message(tmp_path: Path) -> None:
    """Passes end where memory does: so little of it is there that they take a moment, also on a machine that is busy."""
    arguments = ["train", *TINY, "--batch-size=2048", "--set=data.limit=1000", "--steps=1", "--device=cpu"]
    done = subprocess.run(
        [sys.executable, "-c", REAL, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    flat = " ".join(done.stderr.split())
    assert done.returncode == 1, done.stderr
    assert "Out of memory at step 1 with 2,048 images" in flat
    assert "Traceback" not in flat
    assert "--set train.micro_batch_size=" in flat


# ---------------------------------------------------------------------------------------------------------- --batch-size auto


def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *sets: str) -> tuple[TrainPlan, list[str]]:
    told: list[Event] = []
    plan = train(tiny(*sets), runs=tmp_path, dry_run=True, find_batch_size=True, on_event=told.append)
    assert isinstance(plan, TrainPlan)
    return plan, [event.message for event in told if isinstance(event, Notice)]


def test_a_cpu_takes_what_the_estimate_allows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan, notices = found(monkeypatch, tmp_path)
    assert plan.batch_size == 32  # of 40 images
    assert plan.batch_size_found
    assert any("leaves the learning rate" in notice for notice in notices)
    monkeypatch.setattr(batch_size, "machine_memory", lambda: MachineMemory(10**12, 4 * 10**6))
    smaller, _ = found(monkeypatch, tmp_path, "model.stem=1")
    assert smaller.batch_size in (1, 2, 4, 8, 16)
    monkeypatch.setattr(batch_size, "machine_memory", lambda: MachineMemory(10**12, 0))
    with pytest.raises(OutOfMemoryError, match="Not even one image"):
        found(monkeypatch, tmp_path)


def test_an_accelerator_grows_until_memory_is_out_or_nearly(monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal = Rehearsal.of(tiny(), (1, 28, 28), make_accelerator("cpu", "fp32"))

    def grown(used: Callable[[int], float]) -> int:
        sizes = limited.sizes
        monkeypatch.setattr(batch_size, "used_share", lambda device: used(sizes[-1]))
        return batch_size.largest_power_of_two(lambda images: batch_size.fits_on_accelerator(rehearsal, images), 1000)

    limited = Limited(monkeypatch, ERRORS["CUDA"], most=20)
    assert grown(lambda images: 0.1) == 16
    assert grown(lambda images: images / 10) == 8  # 16 would be more than there is, 8 is less than 90 %
    assert next(rehearsal.network.parameters()).grad is None


def test_micro_batches_leave_nothing_to_find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="micro_batch_size"):
        found(monkeypatch, tmp_path, "train.micro_batch_size=4")


def test_the_number_is_kept_in_the_config(tmp_path: Path) -> None:
    train(tiny("train.steps=1"), runs=tmp_path, name="run", find_batch_size=True)
    assert "batch_size = 32\n" in (tmp_path / "run/config.toml").read_text()
