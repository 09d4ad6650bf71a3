from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from levels_of_steps import PREDICTIONS
from scipy import integrate, stats
from scipy.special import logsumexp
from torch import Tensor

from ddpm_cli.diffusion.objectives.learned_schedule import (
    GammaNetwork,
    Probe,
    ScheduleLearner,
    diffusion_losses,
    endpoint_losses,
)
from ddpm_cli.diffusion.objectives.losses import p_losses, vlb_losses
from ddpm_cli.diffusion.schedules import NoiseSchedule, linear_betas

T = 1000
KINDS = ["eps", "x0", "v"]
NAMES = {prediction: name for name, prediction in PREDICTIONS.items()}
VARIANCES = torch.logspace(-3, 0, 64, dtype=torch.float64)  # of independent Gaussian pixels: their best denoiser is known


def best_denoiser(learner: ScheduleLearner) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x_0 | x_t] of Gaussian pixels at the noise of the learner's present schedule, in its parameterization."""
    variances = VARIANCES.float().view(1, 1, 8, 8)

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        abar = torch.tensor(learner.schedule.alphas_cumprod)[t].float().view(-1, 1, 1, 1)
        x_0 = abar.sqrt() * variances * x_t / (abar * variances + 1 - abar)
        eps = (x_t - abar.sqrt() * x_0) / (1 - abar).sqrt()
        return {"eps": eps, "x0": x_0, "v": abar.sqrt() * eps - (1 - abar).sqrt() * x_0}[NAMES[learner.kind]]

    return network


def expected_losses(schedule: NoiseSchedule) -> Tensor:
    """The diffusion loss of each step t > 0 under the best denoiser of Gaussian pixels (VDM, Eq. 14), in closed form."""
    abar = torch.tensor(schedule.alphas_cumprod)[1:, None]
    error = (abar * VARIANCES / (abar * VARIANCES + 1 - abar)).mean(1)
    gamma = -2 * torch.tensor(schedule.half_logsnr)
    return 0.5 * (schedule.timesteps - 1) * torch.expm1(gamma.diff()) * error


def train(learner: ScheduleLearner, steps: int, batch: int = 128) -> None:
    for _ in range(steps):
        x_0 = torch.randn(batch, 1, 8, 8) * VARIANCES.float().sqrt().view(1, 1, 8, 8)
        eps, t = torch.randn_like(x_0), torch.randint(learner.timesteps, (batch,))
        probe = learner.probe(best_denoiser(learner), x_0, t, eps)
        p_losses(probe, x_0.requires_grad_(), t, eps, learner.schedule, learner.kind).mean().backward()
        learner.collect(probe, slice(0, batch))
        learner.step(t)


@pytest.mark.parametrize("kind", KINDS)
def test_the_variance_over_t_falls_at_least_threefold(kind: str, linear: NoiseSchedule) -> None:
    """Against the linear schedule with the same endpoints, and against the straight line that training starts from."""
    first, last = (-2 * linear.half_logsnr[[0, -1]]).tolist()
    learner = ScheduleLearner(GammaNetwork(first, last), T, PREDICTIONS[kind], lr=0.02, batch=128)
    before = expected_losses(learner.schedule).var()
    train(learner, 200)
    after = expected_losses(learner.schedule).var()
    assert after < expected_losses(linear).var() / 3
    assert after < before / 3
    assert (-2 * learner.schedule.half_logsnr[[0, -1]]).tolist() == pytest.approx([first, last], abs=1e-9)


def noised(x_0: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
    shape = (-1, 1, 1, 1)
    return torch.sigmoid(-gamma).sqrt().view(shape) * x_0 + torch.sigmoid(gamma).sqrt().view(shape) * eps


def own_error(kind: str, x_0: Tensor, eps: Tensor, gamma: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
    signal, noise = torch.sigmoid(-gamma).sqrt().view(-1, 1, 1, 1), torch.sigmoid(gamma).sqrt().view(-1, 1, 1, 1)
    wanted = {"eps": eps, "x0": x_0, "v": signal * eps - noise * x_0}[kind]
    return (wanted - network(noised(x_0, eps, gamma))).square().flatten(1).mean(1)


@pytest.mark.parametrize("kind", KINDS)
def test_one_backward_pass_gives_each_image_s_derivative_by_gamma(kind: str, linear: NoiseSchedule) -> None:
    """Against central differences; the loss is weighted differently for each image, scaled, and halved for one of them."""
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(6, 1, 3, padding=1))
    layers.double()
    x_0, eps = torch.rand(5, 1, 6, 6, dtype=torch.float64) * 2 - 1, torch.randn(5, 1, 6, 6, dtype=torch.float64)
    t = torch.tensor([3, 100, 400, 700, 990])
    probe = Probe(lambda x_t, t, *labels: layers(x_t), x_0, t, eps, linear, PREDICTIONS[kind])
    losses = p_losses(probe, x_0, t, eps, linear, PREDICTIONS[kind])
    (losses * torch.tensor([1.0, 0.5, 3.0, 2e-3, 7.0]) * 65536).sum().backward()
    error, derivative = probe.errors().T
    of_bound = Probe(lambda x_t, t, *labels: layers(x_t), x_0, t, eps, linear, PREDICTIONS[kind])
    vlb_losses(of_bound, x_0, t, eps, linear, PREDICTIONS[kind]).sum().backward()
    torch.testing.assert_close(of_bound.errors()[:, 1], derivative, rtol=1e-3, atol=1e-6)

    gamma = -2 * torch.tensor(linear.half_logsnr)[t]
    high, low = (own_error(kind, x_0, eps, gamma + h, layers).detach() for h in (1e-4, -1e-4))
    torch.testing.assert_close(error.double(), losses.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(derivative.double(), (high - low) / 2e-4, rtol=2e-3, atol=1e-6)


def test_a_probe_changes_neither_prediction_nor_gradients(linear: NoiseSchedule) -> None:
    layer = torch.nn.Conv2d(1, 1, 3, padding=1)
    x_0, eps, t = torch.rand(4, 1, 6, 6), torch.randn(4, 1, 6, 6), torch.tensor([0, 10, 500, 999])

    def network(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        return layer(x_t)

    results = []
    for stand_in in (network, Probe(network, x_0, t, eps, linear, PREDICTIONS["eps"])):
        layer.zero_grad()
        losses = p_losses(stand_in, x_0, t, eps, linear)
        losses.sum().backward()
        results.append((losses.detach(), layer.weight.grad.clone()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_diffusion_loss_is_the_kl_of_a_step(kind: str, linear: NoiseSchedule) -> None:
    """One dimension, one step: KL between q(x_s | x_t, x_0) and the same with x_0 replaced by an estimate (VDM, Eq. 12)."""
    t, x_0, eps = 300, 0.4, -0.7
    abar, abar_s = linear.alphas_cumprod[t], linear.alphas_cumprod[t - 1]
    x_t, x0_hat = abar**0.5 * x_0 + (1 - abar) ** 0.5 * eps, 0.1
    eps_hat = (x_t - abar**0.5 * x0_hat) / (1 - abar) ** 0.5
    kl = (linear.posterior_mean_coef_x_0[t] * (x_0 - x0_hat)) ** 2 / (2 * linear.posterior_variance[t])
    v, v_hat = (abar**0.5 * e - (1 - abar) ** 0.5 * x for e, x in ((eps, x_0), (eps_hat, x0_hat)))
    error = {"eps": eps - eps_hat, "x0": x_0 - x0_hat, "v": v - v_hat}[kind] ** 2
    gamma = [torch.tensor([-np.log(a / (1 - a))]) for a in (abar, abar_s)]
    loss = diffusion_losses(torch.tensor([error]), torch.zeros(1, dtype=torch.float64), *gamma, PREDICTIONS[kind], 1)
    assert loss.item() == pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_diffusion_loss_is_the_same_in_every_space(kind: str) -> None:
    """One estimate, x0_hat = tanh(x_t), seen as each kind of prediction, against autograd through all of it."""
    x_0, eps = torch.rand(3, 1, 4, 4, dtype=torch.float64), torch.randn(3, 1, 4, 4, dtype=torch.float64)
    gamma_s = torch.tensor([-6.0, -1.0, 4.0], dtype=torch.float64)

    def error(kind: str, gamma: Tensor) -> Tensor:
        def network(x_t: Tensor) -> Tensor:
            signal, noise = (torch.sigmoid(sign * gamma).sqrt().view(-1, 1, 1, 1) for sign in (-1, 1))
            x0_hat = torch.tanh(x_t)
            eps_hat = (x_t - signal * x0_hat) / noise
            return {"eps": eps_hat, "x0": x0_hat, "v": signal * eps_hat - noise * x0_hat}[kind]

        return own_error(kind, x_0, eps, gamma, network)

    gamma_t = (gamma_s + 0.3).requires_grad_()
    exact = 0.5 * 7 * torch.expm1(gamma_t - gamma_s) * error("eps", gamma_t)
    squared = error(kind, gamma_t)
    (slope,) = torch.autograd.grad(squared.sum(), gamma_t)
    found = diffusion_losses(squared.detach(), slope, gamma_t, gamma_s, PREDICTIONS[kind], 7)
    torch.testing.assert_close(found, exact)
    gradients = [torch.autograd.grad(value.sum(), gamma_t)[0] for value in (found, exact)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4, 1e18])
def test_gamma_is_monotone_and_within_its_bounds_under_any_weights(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gamma = GammaNetwork(-9.0, 10.0, endpoint_range=2.0)
    with torch.no_grad():
        for parameter in gamma.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale)
        curve = gamma(torch.linspace(0, 1, 4001, dtype=torch.float64))
    assert (curve.diff() > 0).all()
    assert -11.0 - 1e-9 <= curve[0] <= -7.0 + 1e-9
    assert 8.0 - 1e-9 <= curve[-1] <= 12.0 + 1e-9
    schedule = gamma.schedule(1000)
    np.testing.assert_allclose(-2 * schedule.half_logsnr[[0, -1]], curve[[0, -1]].numpy(), rtol=1e-6)
    assert (schedule.betas > 0).all()


def test_fixed_endpoints_do_not_move_under_any_weights() -> None:
    gamma = GammaNetwork(-9.0, 10.0)
    with torch.no_grad():
        gamma.endpoint_shift.fill_(5.0)
        gamma.height.normal_(0, 10)
        assert gamma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist() == pytest.approx([-9.0, 10.0], abs=1e-12)


def test_the_untrained_schedule_is_nearly_a_straight_line() -> None:
    half_logsnr = GammaNetwork(-9.0, 10.0).schedule(1000).half_logsnr
    np.testing.assert_allclose(-2 * half_logsnr, np.linspace(-9, 10, 1000), atol=0.2)


@pytest.mark.parametrize("first", [-12.0, -9.0, -5.0])
def test_the_endpoints_terms_equal_numerical_integration(first: float) -> None:
    """Pixels 0, 100 and 255 with shares 0.5, 0.2 and 0.3; one dimension of the paper's prior and reconstruction terms."""
    pixels = torch.zeros(256, dtype=torch.float64)
    pixels[[0, 100, 255]] = torch.tensor([5.0, 2.0, 3.0], dtype=torch.float64)
    last, grid, scale = 3.0, np.linspace(-1, 1, 256), np.exp(first / 2)
    expected = 0.0
    for level, share in ((0, 0.5), (100, 0.2), (255, 0.3)):
        x = grid[level]
        alpha, sigma = (1 / (1 + np.exp(last))) ** 0.5, (1 / (1 + np.exp(-last))) ** 0.5
        q, p = stats.norm(alpha * x, sigma), stats.norm()
        kl = integrate.quad(lambda z, q=q, p=p: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -12, 12)[0]

        def surprise(eps: float, x: float = x, level: int = level) -> float:
            logits = stats.norm.logpdf((x + scale * eps - grid) / scale)
            return -(logits[level] - np.logaddexp.reduce(logits)) * stats.norm.pdf(eps)

        expected += share * (kl + integrate.quad(surprise, -9, 9)[0])
    found = endpoint_losses(torch.tensor([first, last], dtype=torch.float64), pixels)
    assert found.item() == pytest.approx(expected, rel=5e-3, abs=1e-6)


def test_learned_endpoints_lower_the_bound_within_their_bounds() -> None:
    """The closed form of the bound says which way each endpoint must go."""
    learner = ScheduleLearner(GammaNetwork(-2.0, 1.0, endpoint_range=0.8), 50, PREDICTIONS["eps"], lr=0.05, batch=64)
    x_0 = torch.randint(0, 256, (64, 1, 8, 8)) / 127.5 - 1
    pixels = torch.bincount(((x_0 + 1) * 127.5).round().long().flatten(), minlength=256).double()

    def bound(gamma: GammaNetwork) -> float:
        return float(endpoint_losses(gamma.endpoints(), pixels).detach() + uniform_losses(gamma.schedule(50)).mean())

    before = bound(learner.gamma)
    downhill = [bound(GammaNetwork(-2.1, 1.0)) - before, bound(GammaNetwork(-2.0, 0.9)) - before]
    for _ in range(40):
        eps, t = torch.randn_like(x_0), torch.randint(50, (64,))
        probe = learner.probe(denoiser_of_unit_third(learner), x_0, t, eps)
        p_losses(probe, x_0.clone().requires_grad_(), t, eps, learner.schedule).mean().backward()
        learner.collect(probe, slice(0, 64))
        learner.step(t)
    first, last = learner.gamma.endpoints().tolist()
    assert bound(learner.gamma) < before
    assert np.sign([first + 2.0, last - 1.0]).tolist() == np.sign(downhill).tolist()
    assert 0.1 < abs(first + 2.0) <= 0.8
    assert 0.1 < abs(last - 1.0) <= 0.8


def denoiser_of_unit_third(learner: ScheduleLearner) -> Callable[[Tensor, Tensor], Tensor]:
    """The best linear denoiser of uniform pixels, whose variance is 1/3."""

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        abar = torch.tensor(learner.schedule.alphas_cumprod)[t].float().view(-1, 1, 1, 1)
        return (1 - abar).sqrt() * x_t / (abar / 3 + 1 - abar)

    return network


def uniform_losses(schedule: NoiseSchedule) -> Tensor:
    abar, gamma = torch.tensor(schedule.alphas_cumprod)[1:], -2 * torch.tensor(schedule.half_logsnr)
    return 0.5 * (schedule.timesteps - 1) * torch.expm1(gamma.diff()) * (abar / 3 / (abar / 3 + 1 - abar))


def test_images_without_a_finite_error_are_left_out() -> None:
    learner = ScheduleLearner(GammaNetwork(-9.0, 10.0), 100, PREDICTIONS["eps"], lr=0.01, batch=4)
    x_0, eps, t = torch.rand(4, 1, 4, 4), torch.randn(4, 1, 4, 4), torch.tensor([0, 20, 50, 90])
    probe = learner.probe(lambda x_t, t: x_t * torch.tensor([1.0, float("nan"), 1.0, 1.0]).view(-1, 1, 1, 1), x_0, t, eps)
    p_losses(probe, x_0, t, eps, learner.schedule).sum().backward()
    learner.collect(probe, slice(0, 4))
    before = learner.schedule.alphas_cumprod.copy()
    learner.step(t)
    assert np.isfinite(learner.schedule.alphas_cumprod).all()
    assert not np.array_equal(before, learner.schedule.alphas_cumprod)


def test_the_first_step_which_has_none_before_it_teaches_nothing() -> None:
    learner = ScheduleLearner(GammaNetwork(-9.0, 10.0), 100, PREDICTIONS["eps"], lr=0.01, batch=2)
    x_0, eps, t = torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.tensor([0, 0])
    probe = learner.probe(lambda x_t, t: torch.tanh(x_t), x_0, t, eps)
    p_losses(probe, x_0, t, eps, learner.schedule).sum().backward()
    learner.collect(probe, slice(0, 2))
    before = learner.schedule.betas
    learner.step(t)
    assert np.array_equal(learner.schedule.betas, before)


def shared(learner: ScheduleLearner, t: torch.Tensor) -> list[torch.Tensor]:
    """What a process gives to be added up."""
    given: list[torch.Tensor] = []
    copy.deepcopy(learner).step(t, lambda part: given.append(part) or part)  # type: ignore[func-returns-value]
    return given


def test_two_processes_take_the_step_of_one() -> None:
    learners = [ScheduleLearner(GammaNetwork(-9.0, 10.0, 1.0), 100, PREDICTIONS["v"], lr=0.01, batch=6) for _ in range(3)]
    x_0, eps, t = torch.rand(6, 1, 4, 4) * 2 - 1, torch.randn(6, 1, 4, 4), torch.tensor([5, 20, 50, 90, 0, 99])
    for learner, rows in zip(learners, (slice(0, 6), slice(0, 2), slice(2, 6)), strict=True):
        probe = learner.probe(lambda x_t, t: torch.tanh(x_t), x_0[rows], t[rows], eps[rows])
        p_losses(probe, x_0[rows], t[rows], eps[rows], learner.schedule, PREDICTIONS["v"]).sum().backward()
        learner.collect(probe, rows)
    whole, *parts = learners
    totals = [one + other for one, other in zip(*(shared(part, t) for part in parts), strict=True)]
    for part in parts:
        answers = iter(totals)
        part.step(t, lambda _, answers=answers: next(answers))
    whole.step(t)
    for part in parts:
        np.testing.assert_allclose(part.schedule.betas, whole.schedule.betas, rtol=1e-6)


def test_linear_is_what_the_comparison_assumes(linear: NoiseSchedule) -> None:
    np.testing.assert_array_equal(linear.betas, linear_betas(T))


def dense_reconstruction(gamma_0: float, pixels: np.ndarray) -> float:
    """-E[log p(x | z_0)] in nats, every value of a pixel beside every other, by the trapezoid rule with 801 nodes."""
    eps = np.linspace(-12.0, 12.0, 801)
    density = np.exp(-0.5 * eps**2)
    values = np.linspace(-1.0, 1.0, 256)
    total = 0.0
    for number in np.flatnonzero(pixels):
        apart = (values[number] - values)[:, None] * np.exp(-0.5 * gamma_0)
        log_shares = -0.5 * (eps + apart) ** 2
        total += pixels[number] * float(density @ (logsumexp(log_shares, axis=0) - log_shares[number]))
    return total / pixels.sum() / density.sum()


@pytest.mark.parametrize("gamma_0", [-16.0, -14.0, -12.5, -11.0, -9.0, -6.0])
def test_the_reconstruction_and_its_gradient_are_exact(gamma_0: float) -> None:
    """Eight nodes of Gauss-Hermite were off by 0.027 nats of gradient near -12.5."""
    pixels = np.zeros(256)
    pixels[[0, 1, 77, 128, 255]] = (5.0, 1.0, 2.0, 3.0, 4.0)
    endpoints = torch.tensor([gamma_0, 5.0], dtype=torch.float64, requires_grad=True)
    loss = endpoint_losses(endpoints, torch.from_numpy(pixels))
    (gradient,) = torch.autograd.grad(loss, endpoints)
    apart = 1e-4
    below, at, above = (dense_reconstruction(gamma_0 + shift, pixels) for shift in (-apart, 0.0, apart))
    no_image = endpoint_losses(torch.tensor([-60.0, 5.0], dtype=torch.float64), torch.from_numpy(pixels))  # the prior alone
    assert float((loss - no_image).detach()) == pytest.approx(at, abs=1e-6)
    assert float(gradient[0]) == pytest.approx((above - below) / (2 * apart), abs=1e-5)
