from __future__ import annotations

import subprocess
import sys
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.config.schema.schedule import LearnedSchedule, ScheduleBase, TableSchedule
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.schedules import (
    BETA_SCHEDULES,
    NoiseSchedule,
    adjusted,
    betas_from_alphas_cumprod,
    compute_alphas,
    cosine_betas,
    make_beta_schedule,
    rescale_to_zero_terminal_snr,
    schedule_warnings,
)
from ddpm_cli.errors import ScheduleError

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def decimal_cos(x: Decimal) -> Decimal:
    """Its power series; x in [0, pi/2] needs few terms."""
    term = total = Decimal(1)
    for k in range(1, 40):
        term = -term * x * x / ((2 * k - 1) * (2 * k))
        total += term
    return total


def exact_linear(timesteps: int) -> list[Decimal]:
    start, end = Fraction(1, 10_000), Fraction(2, 100)
    betas = []
    for i in range(timesteps):
        share = Fraction(i, timesteps - 1) if timesteps > 1 else Fraction(0)
        beta = min((start + (end - start) * share) * Fraction(1000, timesteps), Fraction(999, 1000))
        betas.append(Decimal(beta.numerator) / Decimal(beta.denominator))
    return betas


def exact_cosine(timesteps: int) -> list[Decimal]:
    s = Decimal("0.008")

    def abar(t: int) -> Decimal:
        return decimal_cos((Decimal(t) / timesteps + s) / (1 + s) * PI / 2) ** 2

    return [min(1 - abar(t + 1) / abar(t), Decimal("0.999")) for t in range(timesteps)]


@pytest.mark.parametrize("timesteps", [7, 250, 1000])
@pytest.mark.parametrize(("kind", "oracle"), [("linear", exact_linear), ("cosine", exact_cosine)])
def test_betas_and_abar_equal_fifty_digit_arithmetic(kind: str, oracle: Any, timesteps: int) -> None:
    with localcontext() as context:
        context.prec = 50
        expected = oracle(timesteps)
        product, expected_abar = Decimal(1), []
        for beta in expected:
            product *= 1 - beta
            expected_abar.append(product)
    schedule = NoiseSchedule.from_betas(make_beta_schedule(kind, timesteps))
    np.testing.assert_allclose(schedule.betas, np.array([float(b) for b in expected]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(schedule.alphas_cumprod, np.array([float(a) for a in expected_abar]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize(
    ("kind", "theirs", "span"),
    [
        ("linear", "linear", (1e-4, 0.02)),
        ("scaled-linear", "scaled_linear", (0.00085, 0.012)),
        ("quadratic", "scaled_linear", (1e-4, 0.02)),
        ("cosine", "squaredcos_cap_v2", (1e-4, 0.02)),
        ("sigmoid", "sigmoid", (1e-4, 0.02)),
    ],
)
def test_betas_equal_diffusers(kind: str, theirs: str, span: tuple[float, float], zero_terminal_snr: bool) -> None:
    from diffusers import DDPMScheduler
    from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr

    reference = DDPMScheduler(1000, beta_start=span[0], beta_end=span[1], beta_schedule=theirs).betas.double()
    if zero_terminal_snr:  # in float64: in float32, as their scheduler calls it, it is off by up to 2e-6
        reference = rescale_zero_terminal_snr(reference)
    ours = adjusted(NoiseSchedule.from_betas(make_beta_schedule(kind, 1000)), zero_terminal_snr=zero_terminal_snr)
    np.testing.assert_allclose(ours.betas, reference.numpy(), rtol=0, atol=1e-6)
    assert (ours.betas[-1] == 1.0) == zero_terminal_snr


@pytest.mark.parametrize("kind", BETA_SCHEDULES)
def test_zero_terminal_snr_leaves_the_first_step_and_empties_the_last(kind: str) -> None:
    """Lin et al. 2024, Alg. 1; warnings of clipped betas and of the terminal SNR would be wrong."""
    plain = NoiseSchedule.from_betas(make_beta_schedule(kind, 1000))
    rescaled = adjusted(plain, zero_terminal_snr=True)
    assert rescaled.alphas_cumprod[-1] == 0.0
    assert rescaled.alphas_cumprod[0] == pytest.approx(plain.alphas_cumprod[0], rel=1e-14)
    roots, before = np.sqrt(rescaled.alphas_cumprod), np.sqrt(plain.alphas_cumprod)
    np.testing.assert_allclose(np.diff(roots) / np.diff(before), roots[0] / (before[0] - before[-1]), rtol=1e-9)
    assert schedule_warnings(rescaled) == []


@pytest.mark.parametrize("kind", BETA_SCHEDULES)
@pytest.mark.parametrize("size", [32, 128, 512])
def test_a_shift_is_added_to_the_log_snr_of_every_step(kind: str, size: int) -> None:
    """Hoogeboom et al. 2023: an image twice as large gets a quarter of the SNR."""
    plain = NoiseSchedule.from_betas(make_beta_schedule(kind, 1000))
    shifted = adjusted(plain, logsnr_shift=2 * np.log(64 / size))
    np.testing.assert_allclose(shifted.snr, plain.snr * (64 / size) ** 2, rtol=1e-8)
    both = adjusted(plain, logsnr_shift=1.0, zero_terminal_snr=True)
    assert both.snr[0] == pytest.approx(plain.snr[0] * np.e)
    assert both.snr[-1] == 0.0


def test_no_adjustment_keeps_every_bit(linear: NoiseSchedule) -> None:
    assert adjusted(linear) is linear


def test_one_step_cannot_be_rescaled() -> None:
    with pytest.raises(ScheduleError, match="at least 2 timesteps"):
        rescale_to_zero_terminal_snr(np.array([0.5]))


@pytest.mark.parametrize("kind", BETA_SCHEDULES)
def test_betas_come_back_from_abar(kind: str) -> None:
    betas = make_beta_schedule(kind, 1000)
    abar = NoiseSchedule.from_betas(betas).alphas_cumprod
    np.testing.assert_allclose(betas_from_alphas_cumprod(abar), betas, rtol=1e-9)
    np.testing.assert_allclose(NoiseSchedule.from_alphas_cumprod(abar).alphas_cumprod, abar, rtol=1e-12)


@pytest.mark.parametrize(
    ("alphas_cumprod", "message"),
    [
        ([0.9, 0.5, 0.5], "goes from 0.5 to 0.5"),
        ([0.9, 0.5, 0.7], "goes from 0.5 to 0.7"),
        ([0.1, 0.5], "goes from 0.1 to 0.5"),
        ([1.0, 0.5], "is 1.0 at t = 0"),
        ([0.5, 0.0, 0.0], "is 0.0 at t = 1"),
        ([0.5, -0.1], "is -0.1 at t = 1"),
        ([0.5, float("nan")], "is nan at t = 1"),
        ([], "at least one"),
        ([[0.5]], "shape"),
    ],
)
def test_abar_that_makes_no_schedule_is_refused(alphas_cumprod: list[float], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        NoiseSchedule.from_alphas_cumprod(np.array(alphas_cumprod))


def test_a_shorter_linear_schedule_ends_as_noisy_as_the_paper_s() -> None:
    """PITFALL 4: without the factor 1000/T, 100 steps would leave sqrt(abar) = 0.6."""
    paper, short = (NoiseSchedule.from_betas(make_beta_schedule("linear", n)) for n in (1000, 100))
    assert paper.sqrt_alphas_cumprod[-1] == pytest.approx(6.4e-3, rel=0.02)
    assert short.sqrt_alphas_cumprod[-1] < 0.01
    assert short.betas[0] == pytest.approx(10 * paper.betas[0])


@pytest.mark.parametrize("timesteps", [1, 2, 3, 10, 100, 1000, 4000])
@pytest.mark.parametrize("kind", BETA_SCHEDULES)
def test_every_schedule_of_any_length_has_sound_tables(kind: str, timesteps: int) -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule(kind, timesteps))
    assert schedule.timesteps == timesteps
    for name in (*NoiseSchedule.__dataclass_fields__, "snr", "sigmas", "half_logsnr", "sqrt_one_minus_alphas_cumprod"):
        table = getattr(schedule, name)
        assert table.shape == (timesteps,)
        assert table.dtype == np.float64
        assert np.isfinite(table).all(), name
    assert (np.diff(schedule.alphas_cumprod) < 0).all()
    assert schedule.betas.max() <= 0.999


@pytest.mark.parametrize("member", [member for member in sections()["schedule"].values() if issubclass(member, ScheduleBase)])
@pytest.mark.parametrize("adjustments", [{}, {"logsnr_shift": -1.0}, {"zero_terminal_snr": True}])
def test_each_config_builds_a_schedule_with_each_adjustment(member: type[ScheduleBase], adjustments: dict[str, Any]) -> None:
    options = {"betas": [0.1] * 20} if member is TableSchedule else {}
    if member is LearnedSchedule and adjustments.get("zero_terminal_snr"):
        with pytest.raises(ValueError, match="raise gamma_max instead"):
            member(timesteps=20, **adjustments)
        return
    plain, schedule = (build_schedule(member(timesteps=20, **options, **more)) for more in ({}, adjustments))
    assert schedule.timesteps == 20
    shift = adjustments.get("logsnr_shift", 0.0)
    assert schedule.half_logsnr[0] == pytest.approx(plain.half_logsnr[0] + shift / 2, abs=1e-6)
    assert (schedule.alphas_cumprod[-1] == 0.0) == ("zero_terminal_snr" in adjustments)


def test_cosine_options_are_used() -> None:
    assert cosine_betas(100, max_beta=0.5).max() == 0.5
    assert cosine_betas(100, s=0.1)[0] > 5 * cosine_betas(100)[0]


def test_compute_alphas_small_by_hand() -> None:
    alphas, abar, abar_prev = compute_alphas(np.array([0.5, 0.5, 0.75]))
    np.testing.assert_array_equal(alphas, [0.5, 0.5, 0.25])
    np.testing.assert_array_equal(abar, [0.5, 0.25, 0.0625])
    np.testing.assert_array_equal(abar_prev, [1.0, 0.5, 0.25])


def test_posterior_variance_is_zero_at_the_first_step_and_its_log_is_that_of_the_second(linear: NoiseSchedule) -> None:
    """PITFALL 3."""
    assert linear.posterior_variance[0] == 0.0
    assert (linear.posterior_variance[1:] > 0).all()
    assert linear.posterior_log_variance_clipped[0] == np.log(linear.posterior_variance[1])
    np.testing.assert_array_equal(linear.posterior_log_variance_clipped[1:], np.log(linear.posterior_variance[1:]))


def test_terminal_signal_is_what_the_pitfalls_state(linear: NoiseSchedule, cosine: NoiseSchedule) -> None:
    assert linear.sqrt_alphas_cumprod[-1] == pytest.approx(6.4e-3, rel=0.01)
    assert cosine.sqrt_alphas_cumprod[-1] == pytest.approx(4.9e-5, rel=0.01)


def test_snr_sigmas_and_half_logsnr_are_one_quantity(linear: NoiseSchedule) -> None:
    np.testing.assert_allclose(linear.sigmas, linear.snr**-0.5, rtol=1e-12)
    np.testing.assert_allclose(np.exp(linear.half_logsnr), 1 / linear.sigmas, rtol=1e-12)


def test_levels_of_steps_are_those_of_the_table_and_others_are_refused(linear: NoiseSchedule) -> None:
    assert linear.at(-1) == CLEAN == Level(0.0, 1.0, 0.0)
    assert linear.at(0).signal == 1.0 - 1e-4
    for step in (0, 17, 500, 999):
        level = linear.at(step)
        assert (level.signal, level.noise) == (linear.alphas_cumprod[step], 1.0 - linear.alphas_cumprod[step])
        assert level.ratio == pytest.approx(linear.sigmas[step], rel=1e-15)
        assert level.half_logsnr == pytest.approx(linear.half_logsnr[step], rel=1e-12)
        assert linear.level(level.t) == level
        assert linear.step(level) == step
        assert isinstance(linear.step(level), int)
    for step in (-2, 1000):
        with pytest.raises(ScheduleError, match=str(step)):
            linear.at(step)
    for t in (-0.1, 1.1, float("nan")):
        with pytest.raises(ScheduleError, match="between 0 and 1"):
            linear.level(t)


@pytest.mark.parametrize("timesteps", [1, 2, 7, 1000, 99_999])
def test_a_level_tells_the_step_that_it_came_from(timesteps: int) -> None:
    schedule = NoiseSchedule.from_betas(np.full(timesteps, 1e-4))
    for step in {0, timesteps // 3, timesteps - 1}:
        assert schedule.step(schedule.at(step)) == step


def test_levels_between_steps_have_the_very_noise_that_was_asked_for(linear: NoiseSchedule) -> None:
    for ratio in (0.0137, 0.5, 2.0, 80.0):
        level = linear.level_of_ratio(ratio)
        step = linear.step(level)
        assert level.ratio == pytest.approx(ratio, rel=1e-12)
        assert level.signal + level.noise == pytest.approx(1.0, rel=1e-12)
        assert linear.sigmas[int(step)] < ratio < linear.sigmas[int(step) + 1]
        assert linear.level(level.t).ratio == pytest.approx(ratio, rel=1e-9)
    assert linear.level_of_ratio(1e-9) == linear.at(0)
    assert linear.level_of_ratio(1e9) == linear.at(999)


def test_levels_beside_clean_data_and_beside_pure_noise_lie_between_them() -> None:
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.5, 1.0]))
    signals = [schedule.level(t).signal for t in np.linspace(0.0, 1.0, 31)]
    assert all(more > less for more, less in pairwise(signals))
    assert signals[-1] == 0.0
    assert schedule.level_of_ratio(1e9) == schedule.at(1)
    assert schedule.at(2).ratio == float("inf")
    assert schedule.at(2).half_logsnr == -float("inf")


def test_tables_cannot_be_changed_and_do_not_follow_the_caller_s_array() -> None:
    betas = np.full(4, 0.1)
    schedule = NoiseSchedule.from_betas(betas)
    betas[:] = 0.9
    assert schedule.betas[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        schedule.betas[0] = 0.2


def test_zero_terminal_snr_is_a_schedule() -> None:
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.5, 1.0]))
    assert schedule.alphas_cumprod[-1] == 0.0
    assert schedule.half_logsnr[-1] == -np.inf
    assert schedule.sigmas[-1] == np.inf
    assert np.isfinite(schedule.posterior_log_variance_clipped).all()


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([0.1, float("nan")], "t = 1"),
        ([0.1, float("inf")], "t = 1"),
        ([0.0, 0.1], "t = 0"),
        ([-0.1], "t = 0"),
        ([0.1, 1.5], "1.5"),
        ([], "at least one"),
        ([[0.1, 0.2]], "shape"),
        ([1e-20, 0.1], "so small"),
        ([0.1, 1.0, 0.1, 0.1], "from t = 1 on"),
    ],
)
def test_betas_that_make_no_schedule_are_refused(betas: list[float], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        NoiseSchedule.from_betas(np.array(betas))


def test_an_unknown_schedule_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ScheduleError, match="linaer") as caught:
        make_beta_schedule("linaer", 10)
    assert all(kind in caught.value.remedy for kind in BETA_SCHEDULES)


def test_a_schedule_without_timesteps_is_refused() -> None:
    with pytest.raises(ScheduleError, match="at least 1"):
        make_beta_schedule("linear", 0)


def test_warnings_name_the_terminal_snr_and_the_clipped_betas(linear: NoiseSchedule, cosine: NoiseSchedule) -> None:
    (terminal,) = schedule_warnings(linear)
    assert "0.0064" in terminal
    assert "-43.9 dB" in terminal
    terminal, clipped = schedule_warnings(cosine)
    assert "4.9e-05" in terminal
    assert "1 of 1000 betas clipped at 0.999 (t = 999)" in clipped
    short = NoiseSchedule.from_betas(make_beta_schedule("cosine", 20, max_beta=0.3))
    assert "betas clipped at 0.3 (t = 1" in schedule_warnings(short, max_beta=0.3)[1]


def test_no_warning_of_the_terminal_snr_where_it_is_zero() -> None:
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.5, 1.0]))
    assert not any("SNR" in warning for warning in schedule_warnings(schedule))


def test_schedules_import_no_torch() -> None:
    program = "import sys, ddpm_cli.diffusion.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
