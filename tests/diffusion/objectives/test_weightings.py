from __future__ import annotations

import numpy as np
import pytest
import torch
from levels_of_steps import at

from ddpm_cli.diffusion.objectives.losses import p_losses
from ddpm_cli.diffusion.objectives.weightings import MinSnr, Weighting, loss_weight
from ddpm_cli.diffusion.prediction import X0, Edm, Eps, Prediction, V
from ddpm_cli.diffusion.schedules import NoiseSchedule

KINDS: tuple[Prediction, ...] = (Eps(), X0(), V(), Edm(), Edm(0.7))
T = torch.tensor([0, 50, 300, 700, 999])


def predictions(kind: Prediction, x_t: torch.Tensor, x0_hat: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """What a network predicts whose estimate of the image is x0_hat, written out here for each parameterization."""
    eps_hat = (x_t - abar.sqrt() * x0_hat) / (1 - abar).sqrt()
    if isinstance(kind, Eps):
        return eps_hat
    if isinstance(kind, X0):
        return x0_hat
    if isinstance(kind, V):
        return abar.sqrt() * eps_hat - (1 - abar).sqrt() * x0_hat
    assert isinstance(kind, Edm)
    sigma2, data2 = (1 - abar) / abar, kind.sigma_data**2  # Karras et al. 2022, Table 1, for x = x_t / sqrt(abar)
    c_skip, c_out = data2 / (sigma2 + data2), sigma2.sqrt() * kind.sigma_data / (sigma2 + data2).sqrt()
    return (x0_hat - c_skip * x_t / abar.sqrt()) / c_out


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("weighting", ["snr", MinSnr(5.0), MinSnr(1.0)], ids=str)
def test_a_weighting_means_the_same_to_every_parameterization(
    weighting: Weighting, kind: Prediction, linear: NoiseSchedule
) -> None:
    """The same estimates of the image give the same loss: the wanted weight times the image's squared error."""
    x_0, eps, x0_hat = (torch.randn(5, 1, 4, 4, dtype=torch.float64) for _ in range(3))
    abar = torch.tensor(linear.alphas_cumprod[T.numpy()]).view(5, 1, 1, 1)
    x_t = abar.sqrt() * x_0 + (1 - abar).sqrt() * eps
    output = predictions(kind, x_t, x0_hat, abar)
    loss = p_losses(lambda x, t: output, x_0, T, eps, linear, kind, weighting)
    snr = (abar / (1 - abar)).flatten()
    wanted = snr if weighting == "snr" else snr.clamp(max=weighting.gamma)  # type: ignore[union-attr]
    torch.testing.assert_close(loss, wanted * (x_0 - x0_hat).square().flatten(1).mean(1), rtol=1e-8, atol=0)


def test_min_snr_is_hangs_formula_for_each_parameterization(linear: NoiseSchedule) -> None:
    """Hang et al. 2023, Sec. 3.4: min(SNR, g) / SNR for eps, min(SNR, g) for x_0, min(SNR, g) / (SNR + 1) for v."""
    t, x = torch.arange(1000), torch.zeros(1000, 1, 1, 1)
    snr, cut = linear.snr, np.minimum(linear.snr, 5.0)
    kinds: dict[Prediction, np.ndarray] = {Eps(): cut / snr, X0(): cut, V(): cut / (snr + 1)}
    for kind, expected in kinds.items():
        np.testing.assert_allclose(loss_weight(MinSnr(5.0), kind, at(linear, t, x)).numpy(), expected, rtol=2e-4)


def test_simple_weighs_everything_alike_and_snr_is_simple_for_eps(linear: NoiseSchedule) -> None:
    x = torch.zeros(5, 1, 1, 1)
    for kind in KINDS:
        assert torch.equal(loss_weight("simple", kind, at(linear, T, x)), torch.ones(5))
    assert torch.equal(loss_weight("snr", Eps(), at(linear, T, x)), torch.ones(5))


def test_weights_are_finite_under_zero_terminal_snr() -> None:
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.5, 1.0]))
    t, x = torch.arange(3), torch.zeros(3, 1, 1, 1)
    kinds: tuple[Prediction, ...] = (X0(), V())
    weightings: tuple[Weighting, ...] = ("simple", "snr", MinSnr())
    for kind in kinds:
        for weighting in weightings:
            assert loss_weight(weighting, kind, at(schedule, t, x)).isfinite().all()
