"""Make noise schedules of T steps: betas and all that follows from them. NumPy only, so that they can be inspected without torch.

Steps are 0-based: t = 0 is the paper's t = 1, and t = -1 stands for clean data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_cli.diffusion.levels import CLEAN, Level, Schedule, Table
from ddpm_cli.errors import ScheduleError

REFERENCE_TIMESTEPS = 1000
MAX_BETA = 0.999


def linear_betas(timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Table:
    """Space betas evenly (Ho et al. 2020, Sec. 4).

    betas = linspace(beta_start, beta_end, T) * 1000 / T, at most 0.999

    The published range is for T = 1000. The factor 1000 / T, here and in the other schedules given by a range of betas, keeps the
    noise at the last step about the same for another T.

    Args:
        timesteps: T, at least 1.
        beta_start: First beta at T = 1000, in (0, 1).
        beta_end: Last beta at T = 1000, in (0, 1).
    Returns:
        Betas, float64, [T].
    """
    return _scaled(np.linspace(beta_start, beta_end, timesteps), timesteps)


def quadratic_betas(timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Table:
    """Space square roots of the betas evenly (Ho et al. 2020, DDPM, App. B: "quadratic", by its code).

    betas = linspace(sqrt(beta_start), sqrt(beta_end), T)**2 * 1000 / T, at most 0.999

    Args:
        timesteps: T, at least 1.
        beta_start: First beta at T = 1000, in (0, 1).
        beta_end: Last beta at T = 1000, in (0, 1).
    Returns:
        Betas, float64, [T].
    """
    return _scaled(np.linspace(beta_start**0.5, beta_end**0.5, timesteps) ** 2, timesteps)


def scaled_linear_betas(timesteps: int, beta_start: float = 0.00085, beta_end: float = 0.012) -> Table:
    """Space square roots of the betas evenly, over the range of latent diffusion (Rombach et al. 2022, LDM).

    The formula of quadratic_betas; the field knows it by both names, each with its own usual range.

    Args:
        timesteps: T, at least 1.
        beta_start: First beta at T = 1000, in (0, 1).
        beta_end: Last beta at T = 1000, in (0, 1).
    Returns:
        Betas, float64, [T].
    """
    return quadratic_betas(timesteps, beta_start, beta_end)


def sigmoid_betas(timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Table:
    """Let betas follow a sigmoid over [-6, 6] (Xu et al. 2022, GeoDiff).

    betas = (beta_start + (beta_end - beta_start) * sigmoid(linspace(-6, 6, T))) * 1000 / T, at most 0.999

    Args:
        timesteps: T, at least 1.
        beta_start: Lower asymptote of the betas at T = 1000, in (0, 1).
        beta_end: Upper asymptote of the betas at T = 1000, in (0, 1).
    Returns:
        Betas, float64, [T].
    """
    rise = 1.0 / (1.0 + np.exp(-np.linspace(-6.0, 6.0, timesteps)))
    return _scaled(beta_start + (beta_end - beta_start) * rise, timesteps)


def cosine_betas(timesteps: int, s: float = 0.008, max_beta: float = MAX_BETA) -> Table:
    """Make betas for which alpha_bar follows a squared cosine (Nichol & Dhariwal 2021, Eq. 17).

    f(t) = cos((t / T + s) / (1 + s) * pi / 2)**2
    betas[t] = min(1 - f(t + 1) / f(t), max_beta)

    Args:
        timesteps: T, at least 1.
        s: Offset that keeps the first betas from being too small, at least 0.
        max_beta: Where betas are clipped, in (0, 1).
    Returns:
        Betas, float64, [T].
    """
    f: Table = np.cos((np.arange(timesteps + 1) / timesteps + s) / (1.0 + s) * np.pi / 2.0) ** 2
    return np.minimum(1.0 - f[1:] / f[:-1], max_beta)


BETA_SCHEDULES: dict[str, Callable[..., Table]] = {
    "linear": linear_betas,
    "scaled-linear": scaled_linear_betas,
    "quadratic": quadratic_betas,
    "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
}


def make_beta_schedule(kind: str, timesteps: int, **options: Any) -> Table:
    """Make the betas of a schedule by its name.

    Args:
        kind: "linear", "scaled-linear", "quadratic", "cosine" or "sigmoid".
        timesteps: T, at least 1.
        options: The options of that schedule's own function.
    Returns:
        Betas, float64, [T].
    Raises:
        ScheduleError: If there is no such schedule, or T < 1.
    """
    if kind not in BETA_SCHEDULES:
        raise ScheduleError(f"There is no schedule {kind!r}.", f"Choose one of: {', '.join(BETA_SCHEDULES)}.")
    if timesteps < 1:
        raise ScheduleError(f"A schedule needs at least 1 timestep, not {timesteps}.", "Raise schedule.timesteps.")
    return BETA_SCHEDULES[kind](timesteps, **options)


def betas_from_alphas_cumprod(alphas_cumprod: Table) -> Table:
    """Find the betas of which a table of abar is the running product (DDPM, above Eq. 4, solved for beta).

    betas[t] = 1 - alphas_cumprod[t] / alphas_cumprod[t - 1], with alphas_cumprod[-1] = 1

    Args:
        alphas_cumprod: [T], strictly falling, in (0, 1); the last may be 0.
    Returns:
        Betas, float64, [T].
    Raises:
        ScheduleError: If a value is not finite, outside of its range, or not below the one before.
    """
    alphas_cumprod = np.array(alphas_cumprod, dtype=np.float64)
    _check_falling(alphas_cumprod)
    before = np.concatenate([[1.0], alphas_cumprod[:-1]])
    # Not 1 - abar / before: the difference of two nearby numbers is exact, their quotient is rounded.
    betas: Table = (before - alphas_cumprod) / before
    return betas


def shift_logsnr(alphas_cumprod: Table, shift: float) -> Table:
    """Add a constant to the log SNR of every step (Hoogeboom et al. 2023, Simple diffusion, Eq. 4).

    abar' = sigmoid(log(abar / (1 - abar)) + shift) = abar / (abar + (1 - abar) * exp(-shift))

    Larger images need more noise to lose the same content: 2 * log(64 / size), which is negative above 64 pixels, gives an image of
    `size` pixels the noise that the schedule meant for one of 64.

    Args:
        alphas_cumprod: [T], in [0, 1).
        shift: In nats; below 0 adds noise.
    Returns:
        abar', float64, [T]; 0 stays 0.
    """
    shifted: Table = alphas_cumprod / (alphas_cumprod + (1.0 - alphas_cumprod) * np.exp(-shift))
    return shifted


def rescale_to_zero_terminal_snr(alphas_cumprod: Table) -> Table:
    """Shift and scale sqrt(abar) so that no signal is left at the last step (Lin et al. 2024, Alg. 1).

    sqrt(abar') = (sqrt(abar) - sqrt(abar[T - 1])) * sqrt(abar[0]) / (sqrt(abar[0]) - sqrt(abar[T - 1]))

    The first step stays as it was.

    Args:
        alphas_cumprod: [T], strictly falling, in [0, 1).
    Returns:
        abar', float64, [T]; the last is 0.
    Raises:
        ScheduleError: If there is only one step, which would be both the first and the last.
    """
    if len(alphas_cumprod) < 2:
        raise ScheduleError("Zero terminal SNR needs at least 2 timesteps.", "Raise schedule.timesteps.")
    root = np.sqrt(alphas_cumprod)
    scaled: Table = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    return scaled


def compute_alphas(betas: Table) -> tuple[Table, Table, Table]:
    """Compute the alphas and their running products (DDPM, Sec. 2, above Eq. 4).

    alphas = 1 - betas
    alphas_cumprod[t] = alphas[0] * ... * alphas[t]
    alphas_cumprod_prev[t] = alphas_cumprod[t - 1], and 1 at t = 0

    Args:
        betas: Float64, [T], in (0, 1].
    Returns:
        alphas, alphas_cumprod, alphas_cumprod_prev; each float64, [T].
    """
    alphas = 1.0 - betas
    alphas_cumprod: Table = np.cumprod(alphas, dtype=np.float64)
    return alphas, alphas_cumprod, np.concatenate([[1.0], alphas_cumprod[:-1]])


@dataclass(frozen=True, eq=False)
class NoiseSchedule(Schedule):
    """Hold the tables of a diffusion process of T steps; all float64, [T], read-only.

    Attributes:
        betas: Variance that step t adds, in (0, 1].
        alphas: 1 - betas.
        alphas_cumprod: abar, the share of the data's variance that is left in x_t.
        alphas_cumprod_prev: abar of the step before; 1 at t = 0.
        posterior_variance: Variance of q(x_{t-1} | x_t, x_0) (DDPM, Eq. 7); 0 at t = 0.
        posterior_log_variance_clipped: Its log, with the value at t = 1 standing in for log(0) at t = 0.
    """

    betas: Table
    alphas: Table
    alphas_cumprod: Table
    alphas_cumprod_prev: Table
    posterior_variance: Table
    posterior_log_variance_clipped: Table

    @classmethod
    def from_betas(cls, betas: Table) -> NoiseSchedule:
        """Compute all tables from the betas.

        posterior_variance = betas * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod)

        Args:
            betas: [T], in (0, 1]; 1 at the last step alone (zero terminal SNR).
        Raises:
            ScheduleError: If betas are not finite or outside of (0, 1], too small for float64, or leave no signal before the last
                step.
        """
        betas = np.array(betas, dtype=np.float64)
        _check_betas(betas)
        alphas, alphas_cumprod, alphas_cumprod_prev = compute_alphas(betas)
        _check_alphas_cumprod(alphas_cumprod)
        variance = betas * (1.0 - alphas_cumprod_prev) / (1.0 - alphas_cumprod)
        # With T = 1 there is no second entry to stand in; beta is the upper bound of the same variance (DDPM, Sec. 3.2).
        first = variance[1] if len(betas) > 1 else betas[0]
        log_variance = np.log(np.concatenate([[first], variance[1:]]))
        tables = (betas, alphas, alphas_cumprod, alphas_cumprod_prev, variance, log_variance)
        for table in tables:
            table.setflags(write=False)
        return cls(*tables)

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Table) -> NoiseSchedule:
        """Compute all tables from abar.

        Args:
            alphas_cumprod: [T], strictly falling, in (0, 1); the last may be 0 (zero terminal SNR).
        Raises:
            ScheduleError: If they make no schedule, see betas_from_alphas_cumprod.
        """
        return cls.from_betas(betas_from_alphas_cumprod(alphas_cumprod))

    @property
    def timesteps(self) -> int:
        """Give T."""
        return len(self.betas)

    @property
    def sqrt_alphas_cumprod(self) -> Table:
        """Give the scale of the data in x_t."""
        return np.sqrt(self.alphas_cumprod)

    @property
    def sqrt_one_minus_alphas_cumprod(self) -> Table:
        """Give the scale of the noise in x_t."""
        return np.sqrt(1.0 - self.alphas_cumprod)

    @property
    def signal_scales(self) -> Table:
        """Give the scale of the data in x_t, as `sqrt_alphas_cumprod`."""
        return self.sqrt_alphas_cumprod

    @property
    def noise_scales(self) -> Table:
        """Give the scale of the noise in x_t, as `sqrt_one_minus_alphas_cumprod`."""
        return self.sqrt_one_minus_alphas_cumprod

    @property
    def snr(self) -> Table:
        """Give the signal-to-noise ratio abar / (1 - abar), a ratio of variances."""
        return self.alphas_cumprod / (1.0 - self.alphas_cumprod)

    @property
    def sigmas(self) -> Table:
        """Give noise over signal, sqrt((1 - abar) / abar); infinite where abar = 0."""
        with np.errstate(divide="ignore"):
            return np.sqrt((1.0 - self.alphas_cumprod) / self.alphas_cumprod)

    @property
    def half_logsnr(self) -> Table:
        """Give log(sqrt(abar) / sqrt(1 - abar)), the lambda of Lu et al. 2022; -inf where abar = 0."""
        with np.errstate(divide="ignore"):
            return 0.5 * np.log(self.snr)

    @property
    def posterior_mean_coef_x_0(self) -> Table:
        """Give the weight of x_0 in the mean of q(x_{t-1} | x_t, x_0) (DDPM, Eq. 7)."""
        return np.sqrt(self.alphas_cumprod_prev) * self.betas / (1.0 - self.alphas_cumprod)

    @property
    def posterior_mean_coef_x_t(self) -> Table:
        """Give the weight of x_t in the mean of q(x_{t-1} | x_t, x_0) (DDPM, Eq. 7)."""
        return np.sqrt(self.alphas) * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    def at(self, step: int) -> Level:
        """Give the level of a step in [-1, T); -1 is clean data.

        Raises:
            ScheduleError: If it is no step of this schedule.
        """
        if not -1 <= step < self.timesteps:
            raise ScheduleError(f"Step {step} is outside of the schedule's 0 to {self.timesteps - 1}.")
        if step == -1:
            return CLEAN
        abar = float(self.alphas_cumprod[step])
        return Level((step + 1) / self.timesteps, abar, 1.0 - abar)

    def level(self, t: float) -> Level:
        """Give the level at a real t in [0, 1], of which step k has t = (k + 1) / T.

        Between two steps the logarithm of the SNR is interpolated, and alpha where one of them has no noise or no signal.

        Raises:
            ScheduleError: If t is outside of [0, 1].
        """
        if not 0.0 <= t <= 1.0:
            raise ScheduleError(f"A level of noise lies between 0 and 1 and cannot be {t:g}.")
        step = self._step(t)
        below, share = math.floor(step), step - math.floor(step)
        if share == 0.0:
            return self.at(below)
        less, more = self.at(below), self.at(below + 1)
        if less.noise > 0.0 and more.signal > 0.0:
            logsnr = 2.0 * ((1.0 - share) * less.half_logsnr + share * more.half_logsnr)
            return Level(t, 1.0 / (1.0 + math.exp(-logsnr)), 1.0 / (1.0 + math.exp(logsnr)))
        alpha = (1.0 - share) * less.alpha + share * more.alpha
        return Level(t, alpha**2, 1.0 - alpha**2)

    def level_of_ratio(self, ratio: float) -> Level:
        """Find the level with this noise over signal, sqrt((1 - abar) / abar); the first or last one if all have more or less.

        t is where `level` has the same logarithm of the SNR.

        Args:
            ratio: Above 0.
        """
        finite = self.sigmas[np.isfinite(self.sigmas)]
        if not finite[0] < ratio < finite[-1]:
            return self.at(0 if ratio <= finite[0] else int(np.count_nonzero(self.sigmas <= ratio)) - 1)
        step = float(np.interp(math.log(ratio), np.log(finite), np.arange(len(finite))))
        return Level((step + 1.0) / self.timesteps, 1.0 / (1.0 + ratio**2), ratio**2 / (1.0 + ratio**2))

    def told(self, level: Level) -> int | float:
        """Tell what a network is told of a level: its step, see `step`."""
        return self.step(level)

    @property
    def identity(self) -> Table:
        """Give abar, from which all else follows."""
        return self.alphas_cumprod


def as_table(schedule: Schedule) -> NoiseSchedule:
    """Take a schedule for the table of betas that it is.

    Raises:
        ScheduleError: If it is none, as flow matching has no betas.
    """
    if isinstance(schedule, NoiseSchedule):
        return schedule
    raise ScheduleError(
        "This schedule is a path for any real t. It has no betas, which the variational bound and a learned variance are made of.",
        "Train with a schedule of betas, such as schedule.kind = cosine.",
    )


def adjusted(schedule: NoiseSchedule, *, logsnr_shift: float = 0.0, zero_terminal_snr: bool = False) -> NoiseSchedule:
    """Shift a schedule's log SNR, then rescale it to zero terminal SNR, if asked for.

    Args:
        schedule: Any schedule.
        logsnr_shift: See shift_logsnr; 0 leaves the schedule alone.
        zero_terminal_snr: See rescale_to_zero_terminal_snr.
    Raises:
        ScheduleError: If nothing is left of the schedule, or it has one step and is to be rescaled.
    """
    if logsnr_shift != 0.0:
        schedule = NoiseSchedule.from_alphas_cumprod(shift_logsnr(schedule.alphas_cumprod, logsnr_shift))
    if zero_terminal_snr:
        schedule = NoiseSchedule.from_alphas_cumprod(rescale_to_zero_terminal_snr(schedule.alphas_cumprod))
    return schedule


def clipped_betas(schedule: NoiseSchedule, *, max_beta: float = MAX_BETA) -> list[int]:
    """List the steps whose beta was clipped at `max_beta`."""
    return np.flatnonzero(np.isclose(schedule.betas, max_beta, rtol=1e-9, atol=0.0)).tolist()


def schedule_warnings(schedule: Schedule, *, max_beta: float = MAX_BETA) -> list[str]:
    """List what a user should know about a schedule; nothing if there is nothing.

    Args:
        schedule: Any schedule.
        max_beta: Where its betas were clipped.
    """
    if not isinstance(schedule, NoiseSchedule):
        return []
    warnings = []
    last = float(schedule.alphas_cumprod[-1])
    if last > 0.0:
        scale, decibels = last**0.5, 10.0 * np.log10(schedule.snr[-1])
        warnings.append(
            f"Terminal SNR is not zero: sqrt(alpha_bar) at t = {schedule.timesteps - 1} is {scale:.2g} (SNR {decibels:.1f} dB), so "
            "a trace of the image is left in what sampling replaces by pure noise (Lin et al. 2024)."
        )
    clipped = clipped_betas(schedule, max_beta=max_beta)
    if clipped:
        where = f"t = {clipped[0]}" if len(clipped) == 1 else f"t = {clipped[0]} to {clipped[-1]}"
        warnings.append(f"{len(clipped)} of {schedule.timesteps} betas clipped at {max_beta:g} ({where}).")
    return warnings


def _scaled(betas: Table, timesteps: int) -> Table:
    return np.minimum(betas * (REFERENCE_TIMESTEPS / timesteps), MAX_BETA)


def _check_falling(alphas_cumprod: Table) -> None:
    if alphas_cumprod.ndim != 1 or alphas_cumprod.size == 0:
        raise ScheduleError(f"alpha_bar must be a list of at least one number, not an array of shape {alphas_cumprod.shape}.")
    last = np.arange(alphas_cumprod.size) == alphas_cumprod.size - 1
    outside = np.flatnonzero(~((alphas_cumprod > 0.0) & (alphas_cumprod < 1.0) | (last & (alphas_cumprod == 0.0))))
    if outside.size:
        t = outside[0]
        raise ScheduleError(
            f"alpha_bar must be in (0, 1), 0 at the last step alone, but is {alphas_cumprod[t]} at t = {t}.",
            "The first value is that after the first step; clean data, alpha_bar = 1, is left out.",
        )
    rising = np.flatnonzero(np.diff(alphas_cumprod) >= 0.0)
    if rising.size:
        t = int(rising[0]) + 1
        raise ScheduleError(
            f"alpha_bar must fall from step to step, but goes from {alphas_cumprod[t - 1]} to {alphas_cumprod[t]} at t = {t}.",
            "Each step adds noise; check the order of the values.",
        )


def _check_betas(betas: Table) -> None:
    if betas.ndim != 1 or betas.size == 0:
        raise ScheduleError(f"Betas must be a list of at least one number, not an array of shape {betas.shape}.")
    wrong = np.flatnonzero(~((betas > 0.0) & (betas <= 1.0)))
    if wrong.size:
        raise ScheduleError(
            f"Betas must be in (0, 1], but {wrong.size} of {betas.size} are not; the first is {betas[wrong[0]]} at t = {wrong[0]}.",
            "Change the schedule's options.",
        )


def _check_alphas_cumprod(alphas_cumprod: Table) -> None:
    if alphas_cumprod[0] == 1.0:
        raise ScheduleError("The first beta is so small that 1 - beta is 1 in float64.", "Raise beta_start.")
    if alphas_cumprod.size > 1 and alphas_cumprod[-2] == 0.0:
        first = int(np.flatnonzero(alphas_cumprod == 0.0)[0])
        raise ScheduleError(
            f"No signal is left from t = {first} on, so {alphas_cumprod.size - 1 - first} further steps would do nothing.",
            "Lower the betas or the number of timesteps.",
        )
