"""Keep estimates of x_0 within the range of images by more than clipping."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.diffusion.denoise import Threshold


def dynamic_threshold(quantile: float = 0.995) -> Threshold:
    """Scale saturated images down as a whole: dynamic thresholding (Saharia et al. 2022, Imagen, Sec. 2.3).

    scale = max(1, quantile of |x0_hat| over the image's pixels)
    x0_hat = clip(x0_hat, -scale, scale) / scale

    Args:
        quantile: Share of the pixels within the scale, in (0, 1]; 0.995 is the paper's.
    """

    def threshold(x0_hat: Tensor) -> Tensor:
        # A sort instead of torch.quantile, which refuses more than 16 million values.
        ordered = x0_hat.abs().flatten(1).sort(dim=1).values
        place = quantile * (ordered.shape[1] - 1)
        below, above = ordered[:, int(place)], ordered[:, min(int(place) + 1, ordered.shape[1] - 1)]
        scale = below.lerp(above, place - int(place)).clamp(min=1.0).view(-1, *[1] * (x0_hat.ndim - 1))
        return x0_hat.clamp(-scale, scale) / scale

    return threshold
