"""Noise that is drawn ahead: the same bits as at once, before the device asks, and without a wait for the device."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from all_samplers import SAMPLERS
from levels_of_steps import levels
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from trained_models import trained_model

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.sample import SampleConfig, SamplerBase
from ddpm_cli.config.schema.schedule import LinearSchedule
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.sampling import ImageNoise, sample_steps
from ddpm_cli.sampling import noise_ahead
from ddpm_cli.sampling.bounds import image_bytes
from ddpm_cli.sampling.courses import Course, Filled
from ddpm_cli.sampling.generate import generate_samples
from ddpm_cli.sampling.noise_ahead import NoiseAhead
from ddpm_cli.sampling.trained_model import TrainedModel

SHAPE = (1, 3, 5)
STEPS = 6
PATIENCE = 10.0
"""Seconds for what a thread does in a thousandth of one."""
BESIDE = torch.device("meta")
"""A device beside the processor: what reads a number off a tensor there is an error."""


def settings_of(sampler: SamplerBase, **changes: Any) -> SampleConfig:
    return SampleConfig(sampler=sampler.model_copy(update={"steps": STEPS}), **changes)


def model_for(name: str) -> TrainedModel:
    return trained_model(*(("objective.loss=hybrid", "objective.variance=learned-range") if "learned-range" in name else ()))


def noise_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("noise")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert noise_threads() == []


@pytest.fixture
def several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_ahead, "processors", lambda: 3)
    monkeypatch.setattr(noise_ahead, "FEWEST_IMAGES", 2)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads of all draws."""
    found: list[threading.Thread] = []
    original = ImageNoise.fill

    def fill(self: ImageNoise, *arguments: Any) -> None:
        original(self, *arguments)
        found.append(threading.current_thread())

    monkeypatch.setattr(ImageNoise, "fill", fill)
    return found


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_images_are_those_of_noise_drawn_at_once(sampler_name: str, several_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, in one batch and in three."""
    trained, seeds = model_for(sampler_name), [5, 3, 8, 1, 0, 9, 7]
    for batch_size in (7, 3):
        settings = settings_of(SAMPLERS[sampler_name], batch_size=batch_size)
        at_once = list(generate_samples(trained, seeds, settings))
        with monkeypatch.context() as patch:
            patch.setattr(noise_ahead, "computes_beside", lambda device: True)
            ahead = list(generate_samples(trained, seeds, settings))
        assert all(map(torch.equal, ahead, at_once))
        assert len(ahead) == len(at_once) == -(-7 // batch_size)


def test_filled_pictures_are_those_of_noise_drawn_at_once(several_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = trained_model()
    course: Course = Filled(torch.zeros(1, *trained.image_shape), torch.eye(8, 12, dtype=torch.bool), jump=2, resample=2)
    settings = settings_of(SAMPLERS["ddpm"])
    (at_once,) = generate_samples(trained, range(5), settings, course=course)
    monkeypatch.setattr(noise_ahead, "computes_beside", lambda device: True)
    (ahead,) = generate_samples(trained, range(5), settings, course=course)
    assert torch.equal(ahead, at_once)


def test_each_image_is_drawn_once_whatever_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_ahead, "FEWEST_IMAGES", 1)
    for images, processors in ((1, 4), (3, 4), (4, 3), (9, 4), (7, 1)):
        monkeypatch.setattr(noise_ahead, "processors", lambda processors=processors: processors)
        at_once = ImageNoise(range(images), SHAPE, "cpu")
        with NoiseAhead(ImageNoise(range(images), SHAPE, "cpu")) as ahead:
            assert all(torch.equal(ahead(), at_once()) for _ in range(4))


def test_the_next_step_is_drawn_while_the_device_works(drawn: list[threading.Thread]) -> None:
    """From the third noise on, it lies there before the step is through that it is for."""
    waited: list[int] = []

    def denoise(x_t: Tensor, t: Level) -> Denoised:
        step = len(waited)
        needed = step + 2 if step > 0 else 1  # x_T, and one for each step up to this one
        waited.append(needed)
        until = time.monotonic() + PATIENCE
        while len(drawn) < needed and time.monotonic() < until:
            time.sleep(0.001)
        assert len(drawn) >= needed
        return Denoised(x_t, x_t)

    path = levels(build_schedule(LinearSchedule()), [900, 700, 500, 300, 100])
    with NoiseAhead(ImageNoise([1, 2], SHAPE, "cpu")) as noise:
        for _ in sample_steps(denoise, ddim(eta=1.0), path, noise(), noise):
            pass
    assert len(waited) == 5
    assert all(thread.name.startswith("noise") for thread in drawn)


@pytest.mark.parametrize("sampler_name", ["ddim", "dpm-solver++", "heun", "unipc"])
def test_deterministic_samplers_draw_the_first_noise_alone(
    sampler_name: str, drawn: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_ahead, "computes_beside", lambda device: True)
    list(generate_samples(trained_model(), range(4), settings_of(SAMPLERS[sampler_name], batch_size=2)))
    assert len(drawn) == 2


def test_a_cpu_draws_in_no_thread_of_its_own(drawn: list[threading.Thread]) -> None:
    list(generate_samples(trained_model(), range(4), settings_of(SAMPLERS["ddpm"])))
    assert drawn == [threading.main_thread()] * STEPS  # x_T and each step but the last


# --------------------------------------------------------------------------------------------------------------- waits


class Calls(TorchDispatchMode):
    """Keeps what this thread asks of torch that it would wait for: draws, and copies from here to the device that block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result, name = func(*args, **kwargs), func.name().split(".")[0]
        moves = name == "aten::_to_copy" and args[0].device.type == "cpu" and result.device.type != "cpu"
        if name == "aten::normal_" or (moves and not kwargs.get("non_blocking")):
            self.found.append(name)
        return result


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_no_step_waits_for_the_device(sampler_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches on a device that computes nothing and hands out no number: one wait for each, for its images."""
    assert_no_step_waits(model_for(sampler_name), settings_of(SAMPLERS[sampler_name], batch_size=2), monkeypatch)


def test_no_guided_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ("model.num_classes=10", "sample.threshold=dynamic", "sample.guidance.scale=2", "sample.guidance.rescale=0.5")
    trained = trained_model(*changes, "sample.batch_size=2", "sample.sampler.kind=ddpm")
    assert_no_step_waits(trained, trained.config.sample, monkeypatch)


def assert_no_step_waits(trained: TrainedModel, settings: SampleConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = replace(trained, network=trained.network.to(BESIDE))
    waits: list[str] = []

    def cpu(self: Tensor) -> Tensor:
        waits.append("cpu")
        return torch.zeros(self.shape, dtype=self.dtype)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "cpu", cpu)
        with Calls() as calls:
            list(generate_samples(trained, range(4), settings))
    assert waits == ["cpu", "cpu"]
    assert calls.found == []


def test_what_blocks_is_counted() -> None:
    """Noise drawn at once is what the count above finds."""
    with Calls() as calls:
        ImageNoise([1], SHAPE, BESIDE)()
    assert calls.found == ["aten::normal_", "aten::_to_copy"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_cuda_gets_the_same_noise_from_pinned_memory_without_waiting() -> None:
    at_once = ImageNoise(range(64), SHAPE, "cpu")
    with NoiseAhead(ImageNoise(range(64), SHAPE, "cuda")) as ahead:
        torch.cuda.set_sync_debug_mode("error")
        try:
            noises = [ahead() for _ in range(50)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(noise.cpu(), at_once()) for noise in noises)


# --------------------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_of_a_step_ends_the_threads(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_ahead, "computes_beside", lambda device: True)
    running: list[int] = []

    def stop(index: int, total: int, x_s: Tensor) -> None:
        running.append(len(noise_threads()))
        if index == 3:
            raise error

    with pytest.raises(error):
        list(generate_samples(trained_model(), range(4), settings_of(SAMPLERS["ddpm"]), on_frame=stop))
    assert running == [1] * 4
    assert noise_threads() == []


def test_an_error_of_a_draw_is_told_where_its_noise_is_used(
    several_threads: None, drawn: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ImageNoise.fill

    def fill(self: ImageNoise, *arguments: Any) -> None:
        if len(drawn) >= 6:
            raise MemoryError("no memory for noise")
        original(self, *arguments)

    monkeypatch.setattr(ImageNoise, "fill", fill)
    with NoiseAhead(ImageNoise(range(4), SHAPE, "cpu")) as noise:
        for _ in range(3):
            noise()
        with pytest.raises(MemoryError, match="no memory for noise"):
            noise()


def test_images_that_nobody_takes_leave_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_ahead, "computes_beside", lambda device: True)
    batches = generate_samples(trained_model(), range(4), settings_of(SAMPLERS["ddpm"], batch_size=2))
    next(batches)
    batches.close()
    assert noise_threads() == []


def test_noise_on_its_way_fits_into_what_is_reckoned_for_an_image() -> None:
    """Also rounded up to a power of two, as pinned memory is: five steps' noise on its way, and the one drawn ahead."""
    trained = trained_model()
    assert 2 * 6 * 4 * torch.Size(trained.image_shape).numel() <= image_bytes(trained, trained.config.sample)
