"""Editing images with a trained model: what `interpolate`, `inpaint` and `img2img` do before images are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.data.batches import normalise
from ddpm_cli.diffusion.denoise import make_denoise
from ddpm_cli.diffusion.samplers.ddim import ddim_invert
from ddpm_cli.diffusion.sampling import ImageNoise
from ddpm_cli.diffusion.slerp import slerp
from ddpm_cli.engine.build import build_sampler
from ddpm_cli.engine.courses import Course, Edited, Filled, FromLatents
from ddpm_cli.engine.generate import guided_predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema import SampleConfig
    from ddpm_cli.engine.generate import TrainedModel

    Pixels = NDArray[np.uint8]

INVERSION_ITERATIONS = 3
"""Network evaluations for each step of an inversion; see `ddim_invert`."""


def edited(trained: TrainedModel, image: Pixels, strength: float) -> Edited:
    """Variants of an image, uint8 [C, H, W]; `strength` is the share of the steps that are taken, in [0, 1]."""
    return Edited(trained.schedule, _on_device(trained, image), strength)


def filled(trained: TrainedModel, image: Pixels, unknown: NDArray[np.bool_], jump: int, resample: int) -> Filled:
    """Fillings of an image, uint8 [C, H, W], where `unknown`, bool [H, W], is true; see `repaint_path` for the numbers."""
    x_0 = _on_device(trained, image)
    return Filled(trained.schedule, x_0, torch.from_numpy(unknown).to(x_0.device), jump, resample)


def interpolated(
    trained: TrainedModel, ends: Sequence[Pixels | int], frames: int, settings: SampleConfig, label: int | None
) -> FromLatents:
    """The way from one image to another, through the noises that DDIM makes them from (Song et al. 2021, Sec. 5.3).

    Args:
        trained: The model.
        ends: Two, each an image, uint8 [C, H, W], or the seed of one.
        frames: Images on the way, the ends included, at least 2.
        settings: Of the sampler, which must be ddim with eta = 0, and of guidance.
        label: Class of all images; None for a model without classes.
    """
    first, last = (_latent(trained, end, settings, label) for end in ends)
    return FromLatents(torch.cat([slerp(first, last, number / (frames - 1)) for number in range(frames)]))


def steps_of(course: Course, trained: TrainedModel, settings: SampleConfig) -> int:
    """How many times each image is denoised."""
    return course.length(build_sampler(settings.sampler, trained.schedule)[1])


def _latent(trained: TrainedModel, end: Pixels | int, settings: SampleConfig, label: int | None) -> Tensor:
    """The noise, [1, C, H, W], that an image is made from."""
    device = next(trained.network.parameters()).device
    if isinstance(end, int):
        return ImageNoise([end], trained.image_shape, device)()
    labels = None if label is None else torch.tensor([label], device=device)
    # Without a threshold, which cannot be undone.
    denoise = make_denoise(guided_predictor(trained, settings), trained.schedule, threshold=None, labels=labels)
    _, timesteps = build_sampler(settings.sampler, trained.schedule)
    return ddim_invert(denoise, trained.schedule, timesteps, _on_device(trained, end), iterations=INVERSION_ITERATIONS)


def _on_device(trained: TrainedModel, image: Pixels) -> Tensor:
    """In [-1, 1], [1, C, H, W]."""
    device = next(trained.network.parameters()).device
    return normalise(torch.tensor(image)[None]).to(device)
