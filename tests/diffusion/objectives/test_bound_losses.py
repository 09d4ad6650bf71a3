"""The variational bound and the hybrid as training losses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from levels_of_steps import at
from torch import Tensor

from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.forward import q_sample
from ddpm_cli.diffusion.objectives.losses import hybrid_losses, p_losses, vlb_losses
from ddpm_cli.diffusion.objectives.vlb import vlb_term
from ddpm_cli.diffusion.prediction import X0, Edm, Eps, Prediction, V, estimated
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ConfigError, ShapeError

KINDS: tuple[Prediction, ...] = (Eps(), X0(), V(), Edm())
T = torch.tensor([0, 1, 400, 999])
X_0 = torch.randint(256, (4, 1, 4, 4), generator=torch.Generator().manual_seed(1)) / 127.5 - 1.0
EPS = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(2))
OUTPUT = 0.5 * torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(3))


def constant(output: Tensor) -> Callable[..., Tensor]:
    return lambda x_t, t: output


def gradient(loss: Callable[..., Tensor], output: Tensor, schedule: NoiseSchedule, kind: Prediction, **options: object) -> Tensor:
    leaf = output.clone().requires_grad_()
    loss(constant(leaf), X_0, T, EPS, schedule, kind, **options).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_bound_loss_is_T_times_the_term_of_each_image(kind: Prediction, linear: NoiseSchedule) -> None:
    x_t = q_sample(X_0, T, EPS, linear)
    estimate = estimated(kind, OUTPUT[:, :1], x_t, at(linear, T, X_0))._replace(variance_fraction=(OUTPUT[:, 1:] + 1) / 2)
    for variance in ("fixed-small", "fixed-large", "learned-range"):
        expected = 1000 * vlb_term(estimate, X_0, x_t, T, linear, variance)
        torch.testing.assert_close(vlb_losses(constant(OUTPUT), X_0, T, EPS, linear, kind, variance), expected)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_hybrid_trains_the_prediction_by_l_simple_and_the_variance_by_the_bound(
    kind: Prediction, linear: NoiseSchedule
) -> None:
    hybrid = gradient(hybrid_losses, OUTPUT, linear, kind, vlb_share=0.25)
    simple = gradient(p_losses, OUTPUT, linear, kind)
    bound = gradient(vlb_losses, OUTPUT, linear, kind, variance="learned-range")
    torch.testing.assert_close(hybrid[:, :1], simple[:, :1])
    torch.testing.assert_close(hybrid[:, 1:], 0.25 * bound[:, 1:])
    assert simple[:, 1:].abs().max() == 0
    assert bound.flatten(2).abs().sum(2).min() > 0
    both = p_losses(constant(OUTPUT), X_0, T, EPS, linear, kind) + 0.25 * vlb_losses(
        constant(OUTPUT), X_0, T, EPS, linear, kind, "learned-range"
    )
    torch.testing.assert_close(hybrid_losses(constant(OUTPUT), X_0, T, EPS, linear, kind, vlb_share=0.25), both)


def test_a_perfect_prediction_with_the_posteriors_variance_costs_nothing_but_the_decoder(linear: NoiseSchedule) -> None:
    output = torch.cat([EPS, torch.full_like(EPS, -1.0)], dim=1)  # fraction 0: beta-tilde
    losses = vlb_losses(constant(output), X_0, T, EPS, linear, Eps(), "learned-range")
    assert losses[1:].abs().max() < 1e-3
    assert losses[0] > 0.1


def test_the_predictor_splits_the_output(linear: NoiseSchedule) -> None:
    """-1 is beta-tilde and 1 is beta, as in Nichol & Dhariwal's code and diffusers'; others predict no variance."""
    x_t = q_sample(X_0, T, EPS, linear)
    estimate = predictor(constant(OUTPUT), linear, Eps())(x_t, at(linear, T, x_t), None)
    assert estimate.variance_fraction is not None
    torch.testing.assert_close(estimate.variance_fraction, (OUTPUT[:, 1:] + 1) / 2)
    torch.testing.assert_close(estimate.eps_hat, OUTPUT[:, :1])
    assert predictor(constant(OUTPUT[:, :1]), linear, Eps())(x_t, at(linear, T, x_t), None).variance_fraction is None
    with pytest.raises(ShapeError, match="twice"):
        predictor(constant(OUTPUT.repeat(1, 2, 1, 1)), linear, Eps())(x_t, at(linear, T, x_t), None)


@pytest.mark.parametrize("loss", [vlb_losses, hybrid_losses])
def test_autocast_reaches_the_network_alone(loss: Callable[..., Tensor], linear: NoiseSchedule) -> None:
    """PITFALL 5."""
    conv = torch.nn.Conv2d(1, 2, 3, padding=1)
    seen = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(conv(x_t))
        return seen[-1]

    options = {"variance": "learned-range"} if loss is vlb_losses else {}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = loss(network, X_0, T, EPS, linear, Eps(), **options)
    assert seen[0].dtype == torch.bfloat16
    assert losses.dtype == torch.float32
    exact = loss(constant(seen[0].detach().double()), X_0.double(), T, EPS.double(), linear, Eps(), **options)
    torch.testing.assert_close(losses.double(), exact, rtol=2e-3, atol=0)


def test_losses_and_gradients_are_finite_at_every_step_and_from_poor_networks(cosine: NoiseSchedule) -> None:
    t = torch.arange(1000)
    x_0, eps = torch.full((1000, 1, 1, 1), -1.0), torch.randn(1000, 1, 1, 1)
    for scale in (0.0, 1.0, 20.0):
        output = (scale * torch.randn(1000, 2, 1, 1)).requires_grad_()
        losses = vlb_losses(constant(output), x_0, t, eps, cosine, V(), "learned-range")
        losses.sum().backward()
        assert losses.isfinite().all()
        assert output.grad is not None
        assert output.grad.isfinite().all()


def test_losses_that_need_a_learned_variance_say_so(linear: NoiseSchedule) -> None:
    with pytest.raises(ConfigError, match="did not learn"):
        hybrid_losses(constant(OUTPUT[:, :1]), X_0, T, EPS, linear)
    with pytest.raises(ConfigError, match="did not learn"):
        vlb_losses(constant(OUTPUT[:, :1]), X_0, T, EPS, linear, Eps(), "learned-range")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_only_the_right_prediction_has_no_loss(kind: Prediction, linear: NoiseSchedule) -> None:
    """PITFALL 7, with EDM among the others."""
    t = torch.tensor([300, 400, 500, 600])
    for predicted in KINDS:
        loss = p_losses(constant(predicted.target(X_0, EPS, at(linear, t, X_0))), X_0, t, EPS, linear, kind)
        assert loss.max() < 1e-8 if kind == predicted else loss.min() > 0.02
