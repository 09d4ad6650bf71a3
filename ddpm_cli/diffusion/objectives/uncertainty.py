"""Learn how uncertain predictions are at each level of noise, and weight the loss by it (Kendall et al. 2018; Karras et al. 2024).

A level whose loss is large says as much about the network as one whose loss is small, but moves it more. Here a small network u of
the level learns the logarithm of the loss, and the loss is divided by exp(u), so that all levels weigh alike at any time. One step:

    weights = uncertainty.weights(t, schedule)       exp(-u), as constants
    losses = p_losses(...);  (weights * losses).mean().backward()
    uncertainty.backward(t, schedule, losses, ...)   gives u its gradient, with the losses as constants
    uncertainty.optimizer.step()

That is the gradient of the paper's one loss, in two parts. Nothing of u goes into the model or its averages. As the losses are
those of the whole batch, all processes take the same step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn, optim

from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import Schedule

FEATURES = 64
BETAS = (0.9, 0.99)
"""Of Adam: the losses that u follows fall fast at first."""
LARGEST_HALF_LOGSNR = 10.0
"""Of what u is told: beyond it, and at no signal at all, it says what it says here."""


class LogLossNetwork(nn.Module):
    """Compute u, the logarithm of the loss at a level of noise (Karras et al. 2024, EDM2, Sec. 2.2, Eq. 14 and 15).

    u = weight @ [1, sqrt(2) cos(2 pi (frequency * c + phase))] with c = log(sigma / alpha) / 4

    The frequencies are drawn from N(0, 1), the phases from U(0, 1), once for all runs. u is 0 at first, which changes no loss.
    """

    frequency: Tensor
    phase: Tensor

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.register_buffer("frequency", torch.randn(FEATURES, generator=draws))
        self.register_buffer("phase", torch.rand(FEATURES, generator=draws))
        self.weight = nn.Parameter(torch.zeros(FEATURES + 1))

    def forward(self, half_logsnr: Tensor) -> Tensor:
        """Compute u of log(alpha / sigma), float32, [B] -> [B]."""
        c = -half_logsnr.clamp(-LARGEST_HALF_LOGSNR, LARGEST_HALF_LOGSNR)[:, None] / 4.0
        waves = math.sqrt(2.0) * torch.cos(2.0 * math.pi * (self.frequency * c + self.phase))
        u: Tensor = torch.cat([torch.ones_like(c), waves], dim=1) @ self.weight / math.sqrt(FEATURES + 1)
        return u


class Uncertainty:
    """Hold u and an Adam of its own, which are trained beside a model.

    Args:
        lr: Learning rate of that Adam.
        device: Of the losses.
        fused: See torch's Adam.
    """

    def __init__(self, lr: float, device: torch.device | str = "cpu", *, fused: bool = False) -> None:
        self.network = LogLossNetwork().to(device)
        self.optimizer = optim.Adam(self.network.parameters(), lr=lr, betas=BETAS, fused=fused)

    def log_losses(self, t: Tensor, schedule: Schedule) -> Tensor:
        """Compute u of steps t in [0, T), [B], int64 or real: [B]."""
        at = Levels.of_steps(schedule, t, torch.zeros(len(t), device=t.device))
        u: Tensor = self.network(at.half_logsnr)
        return u

    @torch.no_grad()
    def weights(self, t: Tensor, schedule: Schedule) -> Tensor:
        """Compute what to multiply the loss of each image by, exp(-u), [B].

        Args:
            t: Steps in [0, T), [B], int64 or real.
            schedule: The noise schedule.
        """
        return torch.exp(-self.log_losses(t, schedule))

    def backward(self, t: Tensor, schedule: Schedule, losses: Tensor, weights: Tensor) -> None:
        """Leave in u's weights the gradient of the mean of weights * (losses / exp(u) + u) (Karras et al. 2024, Eq. 14).

        Args:
            t: Steps of the whole batch, [B].
            schedule: The noise schedule.
            losses: Of each image, not divided by exp(u), [B].
            weights: Of the draws of t, [B].
        """
        u = self.log_losses(t, schedule)
        torch.autograd.backward((weights * (losses * torch.exp(-u) + u)).mean())
