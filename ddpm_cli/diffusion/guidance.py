"""Handle class labels: hide some of them in training, and guide samples by them (Ho & Salimans 2022).

One network learns both distributions: `drop_labels` replaces some labels by the null label, whose embedding is its own, so that the
network also learns images of any class. `guided` then extrapolates from the unconditional prediction through the conditional one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Network, Predict
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.prediction import Denoised, eps_from_x_0


def drop_labels(labels: Tensor, null_label: int, probability: float, generator: torch.Generator) -> Tensor:
    """Hide each label with the same probability (Ho & Salimans 2022, Alg. 1, line 3).

    Args:
        labels: Classes, int64, [B].
        null_label: What a hidden label becomes.
        probability: In [0, 1].
        generator: Draws which; on the device of labels.
    Returns:
        Labels, int64, [B].
    """
    hidden = torch.rand(labels.shape, generator=generator, device=labels.device) < probability
    return torch.where(hidden, null_label, labels)


def with_labels(network: Network, labels: Tensor | None) -> Network:
    """Fill in the network's labels, int64 [B]: call it as network(x_t, t). Without labels, it is the network itself."""
    if labels is None:
        return network

    def conditioned(x_t: Tensor, t: Tensor, *_: Tensor) -> Tensor:
        return network(x_t, t, labels)

    return conditioned


def guided(
    predict: Predict,
    null_label: int,
    *,
    scale: float = 1.0,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> Predict:
    """Guide a prediction without a classifier (Ho & Salimans 2022, Eq. 6, with scale = 1 + w).

    x0_hat = unconditional.x0_hat + scale * (conditional.x0_hat - unconditional.x0_hat), and eps_hat likewise: as both weights add
    up to 1, guiding the image, the noise or the velocity is the same.

    Scale 1 is the conditional prediction and scale 0 the unconditional one, each by a plain call of predict; any other scale is one
    call of twice the batch. The learned variance, if there is one, is the conditional prediction's.

    Args:
        predict: The prediction of a network that was trained with some labels dropped.
        null_label: The label of images of any class.
        scale: At least 0; above 1 images are more typical of their class and less varied.
        interval: Guide only where low < sigma / alpha <= high, and predict conditionally elsewhere (Kynkäänniemi et al. 2024,
            Sec. 3). All images of a call must then be at one level. None guides everywhere.
        rescale: Share in [0, 1] of the rescaling of `rescale_guided`.
    Returns:
        predict(x_t, at, labels), which needs labels.
    """

    def guides(at: Levels) -> bool:
        if interval is None:
            return True
        if at.common is None:
            raise ValueError("guidance in an interval needs one level for all images")
        return interval[0] < at.common.ratio <= interval[1]

    def predict_guided(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        if labels is None:
            raise ValueError("guidance needs labels")
        if scale == 1.0 or not guides(at):
            return predict(x_t, at, labels)
        if scale == 0.0:
            return predict(x_t, at, torch.full_like(labels, null_label))
        conditional, unconditional = _both(predict, x_t, at, labels, null_label)
        estimate = conditional._replace(
            x0_hat=_extrapolated(unconditional.x0_hat, conditional.x0_hat, scale),
            eps_hat=_extrapolated(unconditional.eps_hat, conditional.eps_hat, scale),
        )
        if rescale == 0.0:
            return estimate
        x0_hat = rescale_guided(estimate.x0_hat, conditional.x0_hat, rescale)
        return estimate._replace(x0_hat=x0_hat, eps_hat=eps_from_x_0(x_t, x0_hat, at))

    return predict_guided


GuidanceShift = Callable[[Tensor, Levels, Tensor], Tensor]
"""shift(x_t, at, labels), see guidance_shift."""


def guidance_shift(
    predict: Predict,
    null_label: int,
    *,
    scale: float = 1.0,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> GuidanceShift:
    """Tell by how much guidance moves x0_hat from the conditional one; see `guided`, as for the arguments.

    Returns:
        shift(x_t, at, labels), [B, C, H, W], 0 where the interval does not guide; each image may be at a level of its own.
    """

    def shift(x_t: Tensor, at: Levels, labels: Tensor) -> Tensor:
        conditional, unconditional = (estimate.x0_hat for estimate in _both(predict, x_t, at, labels, null_label))
        x0_hat = _extrapolated(unconditional, conditional, scale)
        moved = rescale_guided(x0_hat, conditional, rescale) - conditional
        if interval is None:
            return moved
        ratio = torch.exp(-at.half_logsnr)
        return torch.where((interval[0] < ratio) & (ratio <= interval[1]), moved, 0.0)

    return shift


def _both(predict: Predict, x_t: Tensor, at: Levels, labels: Tensor, null_label: int) -> tuple[Denoised, Denoised]:
    """The conditional and the unconditional prediction, by one call of twice the batch."""
    null = torch.full_like(labels, null_label)
    both = predict(torch.cat([x_t, x_t]), at.twice(), torch.cat([labels, null]))
    batch = x_t.shape[0]  # not len, which would fix the number in an exported graph
    return _rows(both, slice(batch)), _rows(both, slice(batch, None))


def _extrapolated(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    return unconditional + scale * (conditional - unconditional)


def rescale_guided(guided_x0: Tensor, conditional_x0: Tensor, share: float) -> Tensor:
    """Take back the contrast that guidance added (Lin et al. 2024, Eq. 15 and 16).

    rescaled = guided * std(conditional) / std(guided);  result = share * rescaled + (1 - share) * guided

    The deviations are over C, H, W of each image. The paper rescales the network's output, this the estimate of the image, so that
    a share means the same for every parameterization.

    Args:
        guided_x0: [B, C, H, W].
        conditional_x0: Shaped like guided_x0.
        share: In [0, 1].
    Returns:
        Shaped like guided_x0.
    """
    spread = guided_x0.std((1, 2, 3), correction=0, keepdim=True)
    # A flat image has no contrast to take back, and must not become 0 / 0.
    ratio = conditional_x0.std((1, 2, 3), correction=0, keepdim=True) / spread.clamp_min(torch.finfo(spread.dtype).tiny)
    return guided_x0 * (share * ratio + (1 - share))


def _rows(estimate: Denoised, rows: slice) -> Denoised:
    fraction = estimate.variance_fraction
    return Denoised(estimate.x0_hat[rows], estimate.eps_hat[rows], None if fraction is None else fraction[rows])
