"""Train towards an image that is led away from what an earlier self sees (Karras et al. 2024).

Guidance when samples are drawn costs a second evaluation each step. Here the network learns the guided prediction itself, as Tang
et al. 2025 let one learn classifier-free guidance: samples cost as ever.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.forward import Levels, at_least_float32, noised
from ddpm_cli.diffusion.guidance import with_augmentation
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.prediction import Denoised, Prediction, eps_from_x_0


def led_away(x_0: Tensor, own: Denoised, guide: Denoised, scale: float) -> Tensor:
    """Move an image that is to be predicted along the way from the guide's estimate to one's own.

    aim = x_0 + w * (own.x0_hat - guide.x0_hat) with w = 1 - 1 / scale

    Where own is the network that learns, its prediction settles at D = E[x_0 | x_t] + w (D - guide), which is
    guide + scale * (E[x_0 | x_t] - guide): autoguidance at that scale (Karras et al. 2024, Guiding a Diffusion Model with a Bad
    Version of Itself).

    Args:
        x_0: Images, [B, C, H, W].
        own: What the network that learns predicts, or its average.
        guide: What the weaker one predicts.
        scale: At least 1; 1 moves nothing.
    Returns:
        The aim, shaped like x_0.
    """
    return x_0 + (1.0 - 1.0 / scale) * (own.x0_hat - guide.x0_hat)


@dataclass
class Autoguidance:
    """Keep an early copy of a network's average, and later lead training away from it.

    Attributes:
        prediction: What the networks predict.
        scale: Of guidance, above 1.
        kept_at: Part of the budget after which the copy is made, in [0, 1].
        start: Part of the budget from which it guides, in [0, 1].
        guide: The copy, once there is one.
        guides: Whether it does so now.
    """

    prediction: Prediction
    scale: float
    kept_at: float
    start: float
    guide: nn.Module | None = None
    guides: bool = False

    def follow(self, average: nn.Module, share: float) -> None:
        """Take note of how far training is: `share` of its budget is used up, in [0, 1]."""
        if self.guide is None and share >= self.kept_at:
            self.guide = copy.deepcopy(average)
        self.guides = self.guide is not None and share >= self.start

    def load(self, average: nn.Module) -> nn.Module:
        """Make a guide of the average's architecture, whose weights are to be loaded."""
        self.guide = copy.deepcopy(average)
        return self.guide

    @torch.no_grad()
    def aim(
        self,
        own: nn.Module,
        x_0: Tensor,
        t: Tensor,
        eps: Tensor,
        schedule: Schedule,
        labels: Tensor | None = None,
        augmentation: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Move images away from what the guide predicts, with the noise that makes the same x_t of them.

        Args:
            own: The average of the network that learns.
            x_0: Images in [-1, 1], [B, C, H, W].
            t: Steps in [0, T), [B].
            eps: Noise, shaped like x_0.
            schedule: The noise schedule.
            labels: Of the images, int64 [B], or None.
            augmentation: How they were augmented, [B, 9], or None.
        Returns:
            Image and noise that a loss is to be computed of, shaped like x_0.
        """
        assert self.guide is not None
        x_0 = at_least_float32(x_0)
        at = Levels.of_steps(schedule, t, x_0)
        x_t = noised(x_0, eps, at)
        networks = [with_augmentation(network, augmentation) for network in (own, self.guide)]
        ours, theirs = (predictor(network, schedule, self.prediction)(x_t, at, labels) for network in networks)
        aim = led_away(x_0, ours, theirs, self.scale)
        return aim, eps_from_x_0(x_t, aim, at)
