"""Sample by denoising diffusion implicit models, and invert them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level, added_noise
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput


def ddim(*, eta: float = 0.0) -> Step:
    """Sample by DDIM along any list of levels (Song et al. 2021, Eq. 12 and 16).

    std = eta * sigma_s / sigma_t * sqrt(added_noise(s, t)), where variance is preserved
        = eta * sqrt((1 - abar_s) / (1 - abar_t)) * sqrt(1 - abar_t / abar_s)
    x_s = alpha_s * x0_hat + sqrt(sigma_s**2 - std**2) * eps_hat + std * z

    Args:
        eta: 0 is deterministic; 1 has the variance of the DDPM posterior and, for a given x0_hat, the same step.
    Returns:
        The step function.
    """

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        estimate = denoise(x_t, t)
        std = eta * (s.noise / t.noise) ** 0.5 * added_noise(s, t) ** 0.5
        # The difference is 0 up to rounding where std takes all of the variance.
        direction = max(s.noise - std**2, 0.0) ** 0.5
        x_s = s.alpha * estimate.x0_hat + direction * estimate.eps_hat
        return StepOutput(x_s + std * noise() if std > 0.0 else x_s, estimate.x0_hat)

    return step


@torch.no_grad()
def ddim_invert(denoise: Denoise, levels: Sequence[Level], x_0: Tensor, *, iterations: int = 1) -> Tensor:
    """Find the noise from which DDIM with eta = 0 makes an image (Song et al. 2021, Sec. 5.4: Eq. 13 run backwards).

    x_t = alpha_t * (x_s / alpha_s + (sigma_t / alpha_t - sigma_s / alpha_s) * eps_hat(x_t, t))
    x_t = sigma_t * (x_s - alpha_s * x0_hat(x_t, t)) / sigma_s        (where no signal is left, and eps_hat is x_t itself)

    x_t stands on both sides. It is iterated from x_t = x_s (Pan et al. 2023, AIDI): once is the usual explicit inversion, whose
    error falls with the number of steps; more makes it the inverse of the very same list of steps.

    Args:
        denoise: The denoiser, best without a threshold, which cannot be undone.
        levels: Those that DDIM would visit, from noisy to clean. They should end near step 0, because the last step cannot be told
            from any other with the same estimate of the image: spacings "linspace" and "leading" do.
        x_0: Images in [-1, 1], [B, C, H, W].
        iterations: Network evaluations for each step, at least 1.
    Returns:
        x_t at levels[0], shaped like x_0.
    """
    x_s = x_0
    for s, t in pairwise([CLEAN, *reversed(levels)]):
        ratio = (t.signal / s.signal) ** 0.5
        noise_scale = t.sigma - ratio * s.sigma
        x_t = x_s
        for _ in range(iterations):
            estimate = denoise(x_t, t)
            if t.signal == 0.0 and s != CLEAN:
                x_t = t.sigma / s.sigma * (x_s - s.alpha * estimate.x0_hat)
            else:
                x_t = ratio * x_s + noise_scale * estimate.eps_hat
        x_s = x_t
    return x_s
