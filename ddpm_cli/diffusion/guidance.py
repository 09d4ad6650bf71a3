"""Guide samples: by their class, which is hidden at times in training (Ho & Salimans 2022), or by a weaker model.

One network learns both distributions: `drop_labels` replaces some labels by the null label, whose embedding is its own, so that the
network also learns images of any class. `guided` then extrapolates from the unconditional prediction through the conditional one.
`guided_by` extrapolates from the prediction of a weaker model through that of a better one (Karras et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Network, Predict
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import ROUNDING, Level, Schedule
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


def with_augmentation(network: Callable[..., Tensor], vector: Tensor | None) -> Network:
    """Fill in how images were augmented, [B, 9]: call it as network(x_t, t, labels). Without that, it is the network itself."""
    if vector is None:
        return network

    def conditioned(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        # Guidance sees the images twice in one call.
        return network(x_t, t, *labels, augmentation=vector.repeat(len(x_t) // len(vector), 1))

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

    def predict_guided(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        if labels is None:
            raise ValueError("guidance needs labels")
        if scale == 1.0 or not _guides(interval, at):
            return predict(x_t, at, labels)
        if scale == 0.0:
            return predict(x_t, at, torch.full_like(labels, null_label))
        conditional, unconditional = _both(predict, x_t, at, labels, null_label)
        estimate = _extrapolated(unconditional, conditional, scale)
        if rescale == 0.0:
            return estimate
        x0_hat = rescale_guided(estimate.x0_hat, conditional.x0_hat, rescale)
        return estimate._replace(x0_hat=x0_hat, eps_hat=eps_from_x_0(x_t, x0_hat, at))

    return predict_guided


def guided_by(
    predict: Predict,
    guide: Predict,
    *,
    scale: float,
    interval: tuple[float, float] | None = None,
    schedule: Schedule | None = None,
) -> Predict:
    """Guide a prediction away from that of a weaker model (Karras et al. 2024, Guiding ... with a Bad Version of Itself).

    x0_hat = guide.x0_hat + scale * (x0_hat - guide.x0_hat), and eps_hat likewise

    Both see the same images at the same level of noise and with the same labels. Where the guide has another schedule, it is told
    the step at which its own has that level; at levels that its schedule does not reach, the prediction stays as it is. So it does
    with scale 1, bit for bit. The learned variance, if there is one, is that of predict.

    Args:
        predict: The prediction of the model, which may be guided by its class already.
        guide: The prediction of a model that was trained for a shorter time or is smaller, of images of the same shape.
        scale: At least 0; 1 is without guidance, above 1 samples go away from what the guide does worse.
        interval: Guide only where low < sigma / alpha <= high. All images of a call must then be at one level. None guides
            everywhere.
        schedule: The guide's, where it is not that of predict; all images of a call must then be at one level.
    Returns:
        predict(x_t, at, labels).
    """
    if scale == 1.0:
        return predict

    def predict_guided(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        own = predict(x_t, at, labels)
        if not _guides(interval, at) or not (schedule is None or reaches(schedule, _common(at))):
            return own
        seen = (x_t, at) if schedule is None else _as_seen_by(schedule, x_t, _common(at))
        return _extrapolated(guide(*seen, labels), own, scale)

    return predict_guided


def reaches(schedule: Schedule, level: Level) -> bool:
    """Tell whether a schedule has a level with as much noise over signal as another schedule's has."""
    if schedule.is_continuous:
        return True
    first, last = schedule.at(0).ratio, schedule.at(schedule.timesteps - 1).ratio
    return first * (1 - ROUNDING) <= level.ratio <= last * (1 + ROUNDING)


def _as_seen_by(schedule: Schedule, x_t: Tensor, at: Level) -> tuple[Tensor, Levels]:
    """Images as they are in another schedule, with the same noise over signal; unchanged if both preserve variance."""
    level = schedule.level_of_ratio(at.ratio)
    x = x_t if level.power == at.power else math.sqrt(level.power / at.power) * x_t
    return x, Levels.all_at(level, schedule.told(level), x)


def _guides(interval: tuple[float, float] | None, at: Levels) -> bool:
    return interval is None or interval[0] < _common(at).ratio <= interval[1]


def _common(at: Levels) -> Level:
    if at.common is None:
        raise ValueError("such guidance needs one level for all images")
    return at.common


def _extrapolated(start: Denoised, end: Denoised, scale: float) -> Denoised:
    """Go on from one estimate through another, whose learned variance is kept."""
    return end._replace(
        x0_hat=start.x0_hat + scale * (end.x0_hat - start.x0_hat), eps_hat=start.eps_hat + scale * (end.eps_hat - start.eps_hat)
    )


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
        conditional, unconditional = _both(predict, x_t, at, labels, null_label)
        x0_hat = _extrapolated(unconditional, conditional, scale).x0_hat
        moved = rescale_guided(x0_hat, conditional.x0_hat, rescale) - conditional.x0_hat
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
