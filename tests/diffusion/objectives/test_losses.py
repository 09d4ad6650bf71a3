from __future__ import annotations

from itertools import product

import pytest
import torch
from levels_of_steps import PREDICTIONS
from torch import Tensor

from ddpm_cli.diffusion.forward import q_sample
from ddpm_cli.diffusion.objectives.losses import p_losses
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ShapeError

KINDS = ("eps", "x0", "v")
T = torch.tensor([300, 400, 500])


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 1, 4, 4, generator=generator) * 2 - 1, torch.randn(3, 1, 4, 4, generator=generator)


@pytest.mark.parametrize(("kind", "predicted"), list(product(KINDS, KINDS)))
def test_only_the_right_prediction_has_no_loss(
    kind: str, predicted: str, images: tuple[Tensor, Tensor], linear: NoiseSchedule
) -> None:
    """PITFALL 7. The perfect predictions are written out here, so that the code under test is not its own oracle."""
    x_0, eps = images
    abar = torch.tensor(linear.alphas_cumprod[T.numpy()], dtype=torch.float32).view(3, 1, 1, 1)
    perfect = {"eps": eps, "x0": x_0, "v": abar.sqrt() * eps - (1 - abar).sqrt() * x_0}
    loss = p_losses(lambda x, t: perfect[predicted], x_0, T, eps, linear, PREDICTIONS[kind])
    assert loss.shape == (3,)
    if kind == predicted:
        assert loss.max() < 1e-10
    else:
        assert loss.min() > 0.05


def test_the_loss_is_the_mean_squared_error_of_each_image(images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    x_0, eps = images
    offsets = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    loss = p_losses(lambda x, t: eps + offsets, x_0, T, eps, linear)
    torch.testing.assert_close(loss, torch.tensor([1.0, 4.0, 9.0]))


def test_the_network_sees_the_noised_images_and_their_steps(images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    x_0, eps = images
    seen = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((x_t, t))
        return x_t

    p_losses(network, x_0, T, eps, linear)
    assert torch.equal(seen[0][0], q_sample(x_0, T, eps, linear))
    assert torch.equal(seen[0][1], T)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_reaches_the_network_alone(kind: str, images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    """PITFALL 5."""
    x_0, eps = images
    conv = torch.nn.Conv2d(1, 1, 3, padding=1)
    seen = {}

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen["x_t"], seen["output"] = x_t, conv(x_t)
        return seen["output"]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = p_losses(network, x_0, T, eps, linear, PREDICTIONS[kind])
    assert seen["output"].dtype == torch.bfloat16
    assert torch.equal(seen["x_t"], q_sample(x_0, T, eps, linear))
    assert loss.dtype == torch.float32
    output = seen["output"].detach().double()
    exact = p_losses(lambda x, t: output, x_0.double(), T, eps.double(), linear, PREDICTIONS[kind])
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


def test_half_precision_images_are_noised_in_float32(images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    x_0, eps = (image.bfloat16() for image in images)
    expected = p_losses(lambda x, t: torch.tanh(x), x_0.float(), T, eps.float(), linear)
    assert torch.equal(p_losses(lambda x, t: torch.tanh(x), x_0, T, eps, linear), expected)


def test_gradients_reach_the_network(images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    x_0, eps = images
    conv = torch.nn.Conv2d(1, 1, 3, padding=1)
    p_losses(lambda x, t: conv(x), x_0, T, eps, linear).mean().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.abs().sum() > 0


def test_an_output_that_would_only_broadcast_is_refused(linear: NoiseSchedule) -> None:
    x_0 = torch.zeros(3, 3, 4, 4)
    with pytest.raises(ShapeError, match="output"):
        p_losses(lambda x, t: x[:, :1], x_0, T, x_0, linear)
