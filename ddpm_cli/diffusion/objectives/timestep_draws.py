"""Draw the step of each image that training noises it to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, assert_never

import torch
from torch import Tensor

from ddpm_cli.diffusion.flows import PathSchedule
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.errors import CheckpointError

TimestepDraws = Literal["uniform", "stratified"]

LEAST_TIME = 1e-5
"""From which t is drawn where it is continuous (Song et al. 2021, Score-Based Generative Modeling, App. C): at 0 is no noise."""


class Draw(NamedTuple):
    """Hold the steps of one batch.

    Attributes:
        t: Steps in [0, T), int64, or real ones between them, float64 (float32 on MPS), [B]. On a path they are real, above -1.
        weights: What each image's loss is multiplied by, float32, [B]; 1 on average.
    """

    t: Tensor
    weights: Tensor


class TimestepSampler(Protocol):
    """Draw the steps of each batch; one that learns from the losses keeps tensors that belong into the checkpoint."""

    def draw(self, batch: int, schedule: Schedule, generator: torch.Generator, device: torch.device | str) -> Draw:
        """Draw one step for each image, with randomness from `generator` alone."""

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Learn from the losses of a whole batch, [B], before any weighting; with several processes each must be told the same."""

    def state_dict(self) -> dict[str, Tensor]:
        """Give all that is needed to go on exactly as if never stopped; nothing if there is nothing to keep."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state_dict."""


class _Memoryless:
    """Do without what a TimestepSampler learns."""

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, Tensor]:
        """Give nothing: there is nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing: there is nothing to go on from."""


def draw_timesteps(
    kind: TimestepDraws, batch: int, timesteps: int, generator: torch.Generator, device: torch.device | str
) -> Tensor:
    """Draw one step for each image of a batch; each alone is uniform over all steps.

    uniform:    independent draws (DDPM, Alg. 1)
    stratified: floor(T * ((u + i / B) mod 1)) with one u ~ U[0, 1) per batch (Kingma et al. 2021, VDM, App. I.1); the batch is
                spread evenly, which lowers the variance of its mean loss

    Args:
        kind: "uniform" or "stratified".
        batch: B, the number of images.
        timesteps: T, the number of noise levels.
        generator: Where the randomness comes from; on any device.
        device: Where the result goes.
    Returns:
        Steps in [0, T), int64, [B].
    """
    if kind == "uniform":
        t = torch.randint(timesteps, (batch,), generator=generator, device=generator.device)
    else:
        t = _floored(draw_shares(kind, batch, generator), timesteps)
    return t.to(device)


def draw_shares(kind: TimestepDraws, batch: int, generator: torch.Generator) -> Tensor:
    """Draw t in [0, 1) for each image of a batch, float64, [B]; each alone is uniform, see draw_timesteps."""
    match kind:
        case "uniform":
            return _in_float64(torch.rand(batch, generator=generator, device=generator.device))
        case "stratified":
            u = _in_float64(torch.rand((), generator=generator, device=generator.device))
            return (u + torch.arange(batch, dtype=torch.float64, device=u.device) / batch) % 1.0
    assert_never(kind)


def _floored(share: Tensor, timesteps: int) -> Tensor:
    return (timesteps * share).long().clamp_(max=timesteps - 1)


def _steps(share: Tensor, schedule: Schedule, device: torch.device | str) -> Tensor:
    """The steps at times t in [0, 1], [B]: real where t is continuous, else those of the table."""
    if schedule.is_continuous:
        return _in_float64_unless_mps(schedule.timesteps * _in_float64(share).clamp(LEAST_TIME, 1.0) - 1.0, device)
    return _floored(share, schedule.timesteps).to(device)


def _in_float64(x: Tensor) -> Tensor:
    """On its device; on the CPU if that is MPS, which has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


@lru_cache(maxsize=8)
def _level_borders(schedule: Schedule, device: torch.device) -> Tensor:
    """Halfway between one log sigma of the schedule and the next, float64, [T - 1].

    The last level may be infinite (zero terminal SNR); nothing is nearer to it than to the one before.
    """
    levels = torch.tensor(-schedule.half_logsnr)
    return ((levels[1:] + levels[:-1]) / 2.0).to(device)


def _real_steps(schedule: Schedule, log_sigma: Tensor) -> Tensor:
    """Where the schedule, its log SNR interpolated between steps, has these log sigmas, float64 [B]; at its ends if nowhere."""
    table = torch.tensor(-schedule.half_logsnr, device=log_sigma.device)
    above = torch.searchsorted(table, log_sigma).clamp(1, max(len(table) - 1, 1))
    if len(table) == 1:
        return torch.zeros_like(log_sigma)
    low, high = table[above - 1], table[above]
    return above - 1 + ((log_sigma - low) / (high - low)).clamp(0.0, 1.0)


def _in_float64_unless_mps(t: Tensor, device: torch.device | str) -> Tensor:
    return t.float().to(device) if torch.device(device).type == "mps" else t.to(device)


def draw_steps_within(
    low: int, high: int, batch: int, schedule: Schedule, generator: torch.Generator, device: torch.device | str
) -> Tensor:
    """Draw uniformly out of the steps low to high - 1, and where t is continuous out of all between step low - 1 and high - 1.

    Returns:
        Steps, int64 or float64 (float32 on MPS), [B].
    """
    t = torch.randint(low, high, (batch,), generator=generator, device=generator.device)
    if not schedule.is_continuous:
        return t.to(device)
    u = _in_float64(torch.rand(batch, generator=generator, device=generator.device))
    return _steps((t.to(u.device) + u) / schedule.timesteps, schedule, device)


class FlatDraws(_Memoryless):
    """Draw so that each step alone is uniform, see draw_timesteps.

    Args:
        kind: "uniform" or "stratified".
    """

    def __init__(self, kind: TimestepDraws) -> None:
        self.kind = kind

    def draw(self, batch: int, schedule: Schedule, generator: torch.Generator, device: torch.device | str) -> Draw:
        """Draw steps; all weights are 1."""
        if schedule.is_continuous:
            t = _steps(draw_shares(self.kind, batch, generator), schedule, device)
        else:
            t = draw_timesteps(self.kind, batch, schedule.timesteps, generator, device)
        return Draw(t, torch.ones(batch, device=device))


class LogitNormalDraws(_Memoryless):
    """Draw more steps from the middle: logit(t / T) is normal (Esser et al. 2024, Stable Diffusion 3, Eq. 19).

    t = floor(T * sigmoid(mean + std * z)), z ~ N(0, 1), and not rounded where t is continuous

    The weights are 1, so this changes what is minimised: it is a weighting by another means.

    Args:
        mean: Below 0 favours little noise.
        std: Spread, above 0; small ones keep to the middle.
    """

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    def draw(self, batch: int, schedule: Schedule, generator: torch.Generator, device: torch.device | str) -> Draw:
        """Draw steps; all weights are 1."""
        z = torch.randn(batch, generator=generator, device=generator.device)
        share = torch.sigmoid(self.mean + self.std * z)
        return Draw(_steps(share, schedule, device), torch.ones(batch, device=device))


class ModeDraws(_Memoryless):
    """Draw more steps from the middle, and still some at both ends (Esser et al. 2024, Stable Diffusion 3, Eq. 20).

    t = 1 - u - scale * (cos(pi * u / 2)**2 - 1 + u), u ~ U(0, 1); floor(T * t) in a table

    The weights are 1, so this changes what is minimised.

    Args:
        scale: In [-1, 2 / (pi - 2)], where t falls with u; 0 is uniform, below 0 favours the ends.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def draw(self, batch: int, schedule: Schedule, generator: torch.Generator, device: torch.device | str) -> Draw:
        """Draw steps; all weights are 1."""
        u = draw_shares("uniform", batch, generator)
        share = 1.0 - u - self.scale * (torch.cos(0.5 * math.pi * u) ** 2 - 1.0 + u)
        return Draw(_steps(share.clamp(0.0, 1.0), schedule, device), torch.ones(batch, device=device))


class _LevelDraws(_Memoryless, ABC):
    """Draw noise levels of any distribution, within the range of the schedule.

    t is the real step with this very level, or for networks that know steps alone the step with the log sigma nearest to it, with
    sigma = sqrt((1 - abar) / abar). The weights are 1.

    Args:
        between_steps: Whether t may be real.
    """

    def __init__(self, *, between_steps: bool) -> None:
        self.between_steps = between_steps

    @abstractmethod
    def _log_sigma(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw log sigma, float64 (CPU) or as near to it as the generator's device has, [B]."""

    def draw(self, batch: int, schedule: Schedule, generator: torch.Generator, device: torch.device | str) -> Draw:
        """Draw steps; all weights are 1."""
        wanted = self._log_sigma(batch, generator)
        if isinstance(schedule, PathSchedule):
            return Draw(_steps(schedule.time_of_ratio(wanted.exp(), torch), schedule, device), torch.ones(batch, device=device))
        if self.between_steps:
            t = _real_steps(schedule, wanted)
            return Draw(_in_float64_unless_mps(t, device), torch.ones(batch, device=device))
        t = torch.searchsorted(_level_borders(schedule, wanted.device), wanted)
        return Draw(t.to(device), torch.ones(batch, device=device))


class LogNormalDraws(_LevelDraws):
    """Draw noise levels whose logarithm is normal, as in EDM (Karras et al. 2022, Table 1).

    log sigma = p_mean + p_std * z, z ~ N(0, 1), with sigma = sqrt((1 - abar) / abar), within the range of the schedule

    t is the real step with this very sigma, or for networks that know steps alone the step with the log sigma nearest to it. The
    weights are 1; with EDM's prediction and the weighting "simple" the loss is that of the paper's Eq. 8.

    Args:
        p_mean: Mean of log sigma.
        p_std: Its standard deviation, above 0.
        between_steps: Whether t may be real.
    """

    def __init__(self, p_mean: float, p_std: float, *, between_steps: bool = False) -> None:
        super().__init__(between_steps=between_steps)
        self.p_mean, self.p_std = p_mean, p_std

    def _log_sigma(self, batch: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(batch, generator=generator, device=generator.device)
        return _in_float64(self.p_mean + self.p_std * z)


class LaplaceDraws(_LevelDraws):
    """Draw noise levels whose log SNR has a Laplace distribution (Hang et al. 2024, Improved Noise Schedule, Table 1).

    log SNR = mean - scale * sign(u) * log(1 - 2 |u|), u ~ U(-1/2, 1/2), with SNR = abar / (1 - abar), within the range of the
    schedule

    More sharply than a normal distribution it favours the levels around `mean`, where image and noise are equally strong if that is
    0. The weights are 1, so this changes what is minimised.

    Args:
        mean: Of the log SNR.
        scale: b, above 0; the standard deviation is sqrt(2) * b.
        between_steps: Whether t may be real.
    """

    def __init__(self, mean: float, scale: float, *, between_steps: bool = False) -> None:
        super().__init__(between_steps=between_steps)
        self.mean, self.scale = mean, scale

    def _log_sigma(self, batch: int, generator: torch.Generator) -> Tensor:
        u = _in_float64(torch.rand(batch, generator=generator, device=generator.device)) - 0.5
        log_snr = self.mean - self.scale * u.sign() * torch.log1p(-2.0 * u.abs())
        return -log_snr / 2.0


class LossAwareDraws:
    """Draw a step in proportion to the root mean square of its last losses (Nichol & Dhariwal 2021, Eq. 18).

    p[t] = sqrt(mean of loss[t]**2) / sum, mixed with `uniform_share` of the uniform distribution
    weights = 1 / (T * p[t])

    The weights undo the preference: the mean loss stays that of uniform t, only with less variance. Until every step has a full
    history, t is uniform. Where t is continuous it is uniform above the step before.

    Args:
        timesteps: T.
        history: Losses kept for each step.
        uniform_share: Share of uniform draws, in (0, 1), so that no weight grows without bound.
    """

    def __init__(self, timesteps: int, history: int = 10, uniform_share: float = 0.001) -> None:
        self.uniform_share = uniform_share
        self.losses = torch.zeros(timesteps, history, dtype=torch.float64)
        self.counts = torch.zeros(timesteps, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """Give the probability of each step to be drawn, float64, [T]."""
        timesteps, history = self.losses.shape
        uniform = torch.full((timesteps,), 1.0 / timesteps, dtype=torch.float64)
        scale = self.losses.square().mean(1).sqrt()
        if bool((self.counts < history).any()) or not float(scale.sum()) > 0.0:
            return uniform
        return (1.0 - self.uniform_share) * scale / scale.sum() + self.uniform_share * uniform

    def draw(self, batch: int, schedule: Schedule, generator: torch.Generator, device: torch.device | str) -> Draw:
        """Draw steps with their weights."""
        probabilities = self.probabilities()
        # Not torch.multinomial: its float64 is missing on MPS, and the draw must not depend on the device.
        u = torch.rand(batch, generator=generator, device=generator.device).double().cpu()
        t = torch.searchsorted(probabilities.cumsum(0), u, right=True).clamp_(max=len(probabilities) - 1)
        weights = (1.0 / (len(probabilities) * probabilities[t])).float().to(device)
        if schedule.is_continuous:
            below = torch.rand(batch, generator=generator, device=generator.device).double().cpu()
            return Draw(_steps((t + 1.0 - below) / len(probabilities), schedule, device), weights)
        return Draw(t.to(device), weights)

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Keep the losses of a batch, [B]; one that is not finite is left out."""
        steps = t.ceil().long().clamp(0, len(self.counts) - 1)
        for step, loss in zip(steps.tolist(), losses.double().tolist(), strict=True):
            if math.isfinite(loss):
                self.losses[step] = torch.cat([self.losses[step, 1:], self.losses.new_tensor([loss])])
                self.counts[step] += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Give the history."""
        return {"losses": self.losses.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a history.

        Raises:
            CheckpointError: If it is that of another number of steps, or no training leaves such numbers.
        """
        losses, counts = state.get("losses"), state.get("counts")
        if losses is None or counts is None or losses.shape != self.losses.shape or counts.shape != self.counts.shape:
            found = "missing" if losses is None else f"of the shape {tuple(losses.shape)}, not {tuple(self.losses.shape)}"
            raise CheckpointError(
                f"The checkpoint's history of losses is {found}.",
                "Use the config that the checkpoint was trained with.",
            )
        kinds = (losses.dtype, counts.dtype)
        if kinds != (self.losses.dtype, self.counts.dtype) or not bool(losses.isfinite().all()):
            raise CheckpointError("The checkpoint's history of losses holds what is no loss.", "Use another checkpoint.")
        self.losses.copy_(losses)
        self.counts.copy_(counts)
