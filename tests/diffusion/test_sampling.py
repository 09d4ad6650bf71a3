from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from levels_of_steps import levels
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise, clamp, make_denoise, predictor
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.prediction import Denoised, Eps
from ddpm_cli.diffusion.samplers.ddpm import ddpm
from ddpm_cli.diffusion.sampling import ImageNoise, Noise, StepOutput, sample, sample_steps
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ScheduleError

SHAPE = (1, 8, 8)


def plain_denoise(x_t: Tensor, t: Level) -> Denoised:
    return Denoised(x_t, x_t)


def halve(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
    return StepOutput(x_t / 2, x_t)


def test_noise_of_an_image_depends_on_its_seed_alone() -> None:
    together = ImageNoise([5, 6, 7], SHAPE, "cpu")
    alone = ImageNoise([6], SHAPE, "cpu")
    swapped = ImageNoise([7, 6, 5, 4], SHAPE, "cpu")
    for _ in range(3):
        a, b, c = together(), alone(), swapped()
        assert a.shape == (3, *SHAPE)
        assert torch.equal(a[1], b[0])
        assert torch.equal(a[1], c[1])
        assert torch.equal(a[0], c[2])
        assert not torch.equal(a[0], a[1])


def test_noise_is_fresh_at_each_call_and_the_same_for_each_dtype() -> None:
    single, double = ImageNoise([0], SHAPE, "cpu"), ImageNoise([0], SHAPE, "cpu", torch.float64)
    first, second = single(), single()
    assert not torch.equal(first, second)
    assert torch.equal(double(), first.double())


def test_noise_is_standard_normal() -> None:
    """64,000 numbers; mean and standard deviation within 5 standard errors, false-alarm rate 1.2e-6 under new seeds."""
    noise = ImageNoise(range(1000), SHAPE, "cpu")()
    assert abs(noise.mean()) < 5 / 64000**0.5
    assert abs(noise.std() - 1) < 5 / (2 * 64000) ** 0.5


def test_noise_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    ImageNoise([1, 2], SHAPE, "cpu")()
    assert torch.equal(before, torch.get_rng_state())


def test_an_image_is_the_same_alone_and_in_a_batch(linear: NoiseSchedule) -> None:
    denoise = make_denoise(predictor(lambda x, t: 0.9 * x, linear, Eps()), linear, threshold=clamp)

    def images(seeds: list[int]) -> Tensor:
        noise = ImageNoise(seeds, SHAPE, "cpu")
        return sample(denoise, ddpm(), levels(linear, [999, 500, 20, 3]), noise(), noise)

    together = images([10, 11, 12, 13])
    for i, seed in enumerate([10, 11, 12, 13]):
        assert torch.equal(together[i], images([seed])[0])


def test_the_previous_level_is_the_next_entry_of_the_list(linear: NoiseSchedule) -> None:
    """PITFALL 1."""
    visited = []

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        visited.append((t, s))
        return StepOutput(x_t, x_t)

    path = levels(linear, [999, 700, 3])
    sample(plain_denoise, step, path, torch.zeros(1), no_noise)
    assert visited == list(pairwise([*path, CLEAN]))


def test_each_step_is_yielded_and_the_last_is_the_sample(linear: NoiseSchedule) -> None:
    path = levels(linear, [9, 5, 1])
    outputs = list(sample_steps(plain_denoise, halve, path, torch.full((1, 1), 8.0), no_noise))
    assert [output.x_s.item() for output in outputs] == [4.0, 2.0, 1.0]
    assert [output.x0_hat.item() for output in outputs] == [8.0, 4.0, 2.0]
    assert sample(plain_denoise, halve, path, torch.full((1, 1), 8.0), no_noise).item() == 1.0


def test_steps_have_no_gradients_and_the_caller_keeps_its_own(linear: NoiseSchedule) -> None:
    weight = torch.ones(1, requires_grad=True)

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        return StepOutput(weight * x_t, weight * x_t)

    for output in sample_steps(plain_denoise, step, levels(linear, [1, 0]), torch.ones(1), no_noise):
        assert not output.x_s.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("steps", [[], [3, 3], [1, 2], [2, -1], [-1]])
def test_steps_that_do_not_descend_are_refused(steps: list[int], linear: NoiseSchedule) -> None:
    with pytest.raises(ScheduleError, match="descending"):
        sample(plain_denoise, halve, levels(linear, steps), torch.zeros(1), no_noise)
