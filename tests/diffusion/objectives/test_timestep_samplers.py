from __future__ import annotations

import numpy as np
import pytest
import torch
from noise_sources import source
from scipy import special, stats

from ddpm_cli.diffusion.flows import Flow, PathSchedule, TrigFlow
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.objectives.timestep_draws import (
    FlatDraws,
    LaplaceDraws,
    LogitNormalDraws,
    LogNormalDraws,
    LossAwareDraws,
    ModeDraws,
    TimestepSampler,
    draw_steps_within,
    draw_timesteps,
)
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.errors import CheckpointError

N = 20_000
ALARM = 1e-4
"""False-alarm rate of each test below, seeds being fixed."""


def samplers(timesteps: int) -> list[TimestepSampler]:
    return [
        FlatDraws("uniform"),
        FlatDraws("stratified"),
        LogitNormalDraws(0.0, 10.0),
        ModeDraws(1.29),
        LogNormalDraws(-1.2, 10.0),
        LaplaceDraws(0.0, 10.0),
        LossAwareDraws(timesteps),
    ]


@pytest.mark.parametrize("timesteps", [1, 2, 50])
def test_draws_are_steps_of_the_schedule_and_repeat_with_the_seed(timesteps: int) -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 1000)[:timesteps])
    for sampler in samplers(timesteps):
        t, weights = sampler.draw(512, schedule, source(3), "cpu")
        assert t.dtype == torch.int64
        assert t.shape == weights.shape == (512,)
        assert int(t.min()) >= 0
        assert int(t.max()) < timesteps
        assert torch.equal(t, sampler.draw(512, schedule, source(3), "cpu").t)
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights, torch.ones(512))


def test_flat_draws_are_draw_timesteps(linear: NoiseSchedule) -> None:
    for kind in ("uniform", "stratified"):
        assert torch.equal(FlatDraws(kind).draw(8, linear, source(), "cpu").t, draw_timesteps(kind, 8, 1000, source(), "cpu"))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-1.5, 0.5)])
def test_logit_normal_has_its_density(mean: float, std: float, linear: NoiseSchedule) -> None:
    """Chi-squared over 20 bins of the density of Esser et al. 2024, Eq. 19, integrated."""
    t = LogitNormalDraws(mean, std).draw(N, linear, source(1), "cpu").t.numpy()
    edges = np.linspace(0, 1, 21)
    shares = np.diff(stats.norm(mean, std).cdf(special.logit(edges)))
    found = np.histogram((t + 0.5) / 1000, edges)[0]
    kept = shares * N >= 5
    expected = np.append(shares[kept], shares[~kept].sum())
    counts = np.append(found[kept], found[~kept].sum())
    used = expected > 0
    assert stats.chisquare(counts[used], expected[used] * N).pvalue > ALARM


def test_log_normal_draws_the_step_with_the_nearest_noise_level(linear: NoiseSchedule) -> None:
    t = LogNormalDraws(-1.2, 1.2).draw(N, linear, source(2), "cpu").t.numpy()
    log_sigma = np.log(linear.sigmas[t])
    middle = (log_sigma > -3.5) & (log_sigma < 2.5)  # where the levels lie close together, far from both ends
    low, high = stats.norm(-1.2, 1.2).cdf([-3.5, 2.5])
    assert stats.binomtest(int(middle.sum()), N, high - low).pvalue > ALARM
    assert stats.kstest(log_sigma[middle], stats.truncnorm((-3.5 + 1.2) / 1.2, (2.5 + 1.2) / 1.2, -1.2, 1.2).cdf).statistic < 0.02
    narrow = LogNormalDraws(float(np.log(linear.sigmas[321])), 1e-9).draw(4, linear, source(), "cpu").t
    assert narrow.tolist() == [321] * 4


def test_laplace_draws_the_log_snr(linear: NoiseSchedule) -> None:
    """Against the distribution of Hang et al. 2024, Table 1, for networks that are told any level and for those that know steps."""
    mean, scale = 0.7, 0.5
    t = LaplaceDraws(mean, scale, between_steps=True).draw(N, linear, source(2), "cpu").t.numpy()
    log_snr = np.interp(t, np.arange(1000), 2 * linear.half_logsnr)
    assert stats.kstest(log_snr, stats.laplace(mean, scale).cdf).pvalue > ALARM
    nearest = LaplaceDraws(mean, scale).draw(N, linear, source(2), "cpu").t.numpy()
    assert np.abs(nearest - t).max() <= 0.51


def full_history(timesteps: int = 5, history: int = 3) -> LossAwareDraws:
    sampler = LossAwareDraws(timesteps, history, uniform_share=0.1)
    for round_ in range(history):
        sampler.update(torch.arange(timesteps), torch.arange(1.0, timesteps + 1) * (1 + round_))
    return sampler


def test_loss_aware_draws_follow_the_second_moment() -> None:
    sampler = full_history()
    rms = np.sqrt(np.mean([[((1 + k) * loss) ** 2 for k in range(3)] for loss in range(1, 6)], axis=1))
    expected = 0.9 * rms / rms.sum() + 0.1 / 5
    np.testing.assert_allclose(sampler.probabilities().numpy(), expected, rtol=1e-12)
    schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 1000)[:5])
    t, weights = sampler.draw(N, schedule, source(4), "cpu")
    assert stats.chisquare(np.bincount(t.numpy(), minlength=5), expected * N).pvalue > ALARM
    np.testing.assert_allclose(weights.numpy(), 1 / (5 * expected[t.numpy()]), rtol=1e-6)


def test_loss_aware_weights_keep_the_mean_loss() -> None:
    """sum over t of p * weight * loss is the mean over uniform t, whatever the losses."""
    sampler = full_history()
    schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 1000)[:5])
    t, weights = sampler.draw(2000, schedule, source(5), "cpu")
    weight_of = torch.zeros(5, dtype=torch.float64).scatter_(0, t, weights.double())
    losses = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0], dtype=torch.float64)
    assert (sampler.probabilities() * weight_of * losses).sum().item() == pytest.approx(losses.mean().item(), rel=1e-6)


def test_loss_aware_is_uniform_until_every_step_has_its_history() -> None:
    sampler = LossAwareDraws(4, 2)
    sampler.update(torch.tensor([0, 0, 1, 1, 2, 2, 3]), torch.arange(1.0, 8.0))
    torch.testing.assert_close(sampler.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))
    sampler.update(torch.tensor([3, 3]), torch.tensor([torch.nan, torch.inf]))
    torch.testing.assert_close(sampler.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))
    sampler.update(torch.tensor([3]), torch.tensor([8.0]))
    assert sampler.probabilities()[3] > sampler.probabilities()[0]


def test_loss_aware_forgets_the_oldest_loss_first() -> None:
    sampler = LossAwareDraws(1, 2)
    sampler.update(torch.tensor([0, 0, 0]), torch.tensor([1.0, 2.0, 3.0]))
    assert sampler.losses.tolist() == [[2.0, 3.0]]


def test_loss_aware_goes_on_from_its_state() -> None:
    sampler, other = full_history(), LossAwareDraws(5, 3, uniform_share=0.1)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.probabilities(), sampler.probabilities())
    other.update(torch.tensor([0]), torch.tensor([50.0]))
    assert not torch.equal(other.probabilities(), sampler.probabilities())
    with pytest.raises(CheckpointError, match="history"):
        LossAwareDraws(6, 3).load_state_dict(sampler.state_dict())


def test_log_normal_draws_the_very_noise_level_between_steps(linear: NoiseSchedule) -> None:
    t = LogNormalDraws(-1.2, 1.2, between_steps=True).draw(N, linear, source(2), "cpu").t
    wanted = (-1.2 + 1.2 * torch.randn(N, generator=source(2))).double()
    assert t.dtype == torch.float64
    at = Levels.of_steps(linear, t, torch.zeros(N, 1, dtype=torch.float64))
    inside = (wanted > np.log(linear.sigmas[0])) & (wanted < np.log(linear.sigmas[-1]))
    torch.testing.assert_close((at.sigma / at.alpha).log().flatten()[inside], wanted[inside], rtol=0, atol=1e-9)
    assert (t[~inside & (wanted < 0)] == 0).all()
    assert (t[~inside & (wanted > 0)] == 999).all()
    nearest = LogNormalDraws(-1.2, 1.2).draw(N, linear, source(2), "cpu").t
    assert ((t - nearest).abs() <= 0.75).all()


def test_real_steps_that_are_whole_have_the_levels_of_the_table(linear: NoiseSchedule) -> None:
    t, x = torch.tensor([0, 3, 500, 999]), torch.zeros(4, 1, 2, 2, dtype=torch.float64)
    whole, real = Levels.of_steps(linear, t, x), Levels.of_steps(linear, t.double(), x)
    for one, other in zip(whole[1:4], real[1:4], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    between = Levels.of_steps(linear, torch.tensor([3.5, 998.25], dtype=torch.float64), x[:2])
    expected = [linear.level((step + 1) / 1000) for step in (3.5, 998.25)]
    torch.testing.assert_close(between.alpha.flatten(), torch.tensor([level.alpha for level in expected], dtype=torch.float64))
    torch.testing.assert_close(between.sigma.flatten(), torch.tensor([level.sigma for level in expected], dtype=torch.float64))


@pytest.mark.parametrize("path", [Flow(50), Flow(50, shift=3.0), TrigFlow(50)], ids=["flow", "shifted", "trig-flow"])
def test_on_a_path_draws_are_any_t(path: PathSchedule) -> None:
    """Real steps, whose t = (step + 1) / T is above 0 and at most 1."""
    for sampler in samplers(50):
        t, weights = sampler.draw(512, path, source(3), "cpu")
        assert t.dtype == torch.float64
        assert float(t.min()) > -1.0
        assert float(t.max()) <= 49.0
        assert len(t.unique()) > 300
        assert torch.equal(t, sampler.draw(512, path, source(3), "cpu").t)
        torch.testing.assert_close(weights, torch.ones(512))
        sampler.update(t, torch.ones(512))
    within = draw_steps_within(10, 20, 512, path, source(3), "cpu")
    assert 9.0 < float(within.min()) < float(within.max()) <= 19.0


def test_on_a_path_draws_have_their_distributions() -> None:
    """Kolmogorov and Smirnov, of t and of log sigma / alpha, against the distributions that the papers name."""
    path, shares = Flow(1000, shift=2.0), {"uniform": stats.uniform(), "logit-normal": stats.norm(-0.5, 0.8)}

    def drawn(sampler: TimestepSampler) -> np.ndarray:
        return (sampler.draw(N, path, source(5), "cpu").t.numpy() + 1.0) / 1000

    assert stats.kstest(drawn(FlatDraws("uniform")), shares["uniform"].cdf).pvalue > ALARM
    assert stats.kstest(special.logit(drawn(LogitNormalDraws(-0.5, 0.8))), shares["logit-normal"].cdf).pvalue > ALARM
    t = drawn(LogNormalDraws(-1.2, 1.2))
    assert stats.kstest(np.log(2.0 * t / (1.0 - t)), stats.norm(-1.2, 1.2).cdf).pvalue > ALARM
    t = drawn(LaplaceDraws(0.5, 0.7))
    assert stats.kstest(-2.0 * np.log(2.0 * t / (1.0 - t)), stats.laplace(0.5, 0.7).cdf).pvalue > ALARM


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.29, 1.75])
def test_mode_has_its_distribution(scale: float) -> None:
    """The cumulative distribution is 1 - u(t), u solved for by bisection of Esser et al. 2024, Eq. 20, which falls in u."""

    def share(u: np.ndarray) -> np.ndarray:
        return 1.0 - u - scale * (np.cos(np.pi * u / 2) ** 2 - 1.0 + u)

    def cumulative(t: np.ndarray) -> np.ndarray:
        low, high = np.zeros_like(t), np.ones_like(t)
        for _ in range(50):
            middle = (low + high) / 2
            above = share(middle) > t
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return 1.0 - low

    t = (ModeDraws(scale).draw(N, Flow(1000), source(6), "cpu").t.numpy() + 1.0) / 1000
    assert stats.kstest(t, cumulative).pvalue > ALARM


def test_loss_aware_draws_of_a_path_are_learned_by_steps_of_the_grid() -> None:
    sampler, path = LossAwareDraws(4, history=1), Flow(4)
    drawn = torch.tensor([-0.9, 0.0, 0.5, 1.4, 2.2, 3.0], dtype=torch.float64)
    sampler.update(drawn, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert sampler.losses[:, 0].tolist() == [2.0, 3.0, 4.0, 6.0]
    t, weights = sampler.draw(4000, path, source(7), "cpu")
    assert set(t.ceil().long().tolist()) == {0, 1, 2, 3}
    expected = 1.0 / (4 * sampler.probabilities()[t.ceil().long()])
    torch.testing.assert_close(weights.double(), expected, rtol=1e-6, atol=0)
