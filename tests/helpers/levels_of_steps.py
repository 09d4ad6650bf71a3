"""Levels of a schedule by the numbers of its steps, of which -1 is clean data."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import Level, Schedule
from ddpm_cli.diffusion.prediction import X0, Denoised, Eps, V
from ddpm_cli.diffusion.schedules import NoiseSchedule


def levels(schedule: Schedule, steps: Iterable[int]) -> list[Level]:
    return [schedule.at(step) for step in steps]


def by_step(schedule: NoiseSchedule, denoise: Callable[[Tensor, int], Denoised]) -> Denoise:
    """A denoiser that is told steps."""
    return lambda x_t, level: denoise(x_t, round(schedule.step(level)))


def at(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> Levels:
    return Levels.of_steps(schedule, t, like)


PREDICTIONS: dict[str, Eps | X0 | V] = {"eps": Eps(), "x0": X0(), "v": V()}
