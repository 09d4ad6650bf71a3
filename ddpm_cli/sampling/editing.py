"""Edit images with a trained model: what `interpolate`, `inpaint` and `img2img` do before images are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddpm_cli.core.compute.out_of_memory import out_of_memory, sampling_error
from ddpm_cli.diffusion.denoise import Denoise, make_denoise
from ddpm_cli.diffusion.editing.slerp import slerp
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.samplers.ddim import ddim_invert
from ddpm_cli.diffusion.sampling import ImageNoise
from ddpm_cli.results.events import Listener, SampleProgress, ignore
from ddpm_cli.sampling.courses import Course, Edited, Filled, FromLatents
from ddpm_cli.sampling.trained_model import guided_predictor, rehearse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.sampling.trained_model import TrainedModel

    Pixels = NDArray[Any]

INVERSION_ITERATIONS = 3
"""Network evaluations for each step of an inversion, see `ddim_invert`.

With steps evenly spaced in log SNR, 50 of them there and back leave images of Fashion-MNIST 0.3 grey levels off on average; one
evaluation leaves them 5 off, and evenly spaced steps 3, with however many evaluations.
"""


def edited(trained: TrainedModel, image: Pixels, strength: float) -> Edited:
    """Vary an image [C, H, W] as the model stores them; `strength` is the share of the steps that are taken, in [0, 1]."""
    return Edited(_on_device(trained, image), strength)


def filled(trained: TrainedModel, image: Pixels, unknown: NDArray[np.bool_], jump: int, resample: int) -> Filled:
    """Fill a stored image [C, H, W] where `unknown`, bool [H, W], is true; see `repaint_path` for the numbers."""
    x_0 = _on_device(trained, image)
    return Filled(x_0, torch.from_numpy(unknown).to(x_0.device), jump, resample)


def interpolated(
    trained: TrainedModel,
    ends: Sequence[Pixels | int],
    frames: int,
    settings: SampleConfig,
    *,
    label: int | None = None,
    on_event: Listener = ignore,
) -> FromLatents:
    """Go from one image to another, through the noises that DDIM makes them from (Song et al. 2021, Sec. 5.3).

    Args:
        trained: The model.
        ends: Two, each an image [C, H, W] as the model stores them, or the seed of one.
        frames: Images on the way, the ends included, at least 2.
        settings: Of the sampler, which must be ddim with eta = 0, and of guidance.
        label: Class of all images; None for a model without classes.
        on_event: Told of each network evaluation that looks for the noise of an image.
    Raises:
        OutOfMemoryError: If there is no memory for a single image.
    """
    device = trained.device
    counted = _Counter(sum(not isinstance(end, int) for end in ends), on_event)
    first, last = (
        ImageNoise([end], trained.image_shape, device)()
        if isinstance(end, int)
        else _inverted(trained, _on_device(trained, end), settings, label, counted)
        for end in ends
    )
    return FromLatents(torch.cat([slerp(first, last, number / (frames - 1)) for number in range(frames)]))


def steps_of(course: Course, trained: TrainedModel, settings: SampleConfig) -> int:
    """Count how many times each image is denoised."""
    return course.length(settings.prepare(trained.schedule)[1])


class _Counter:
    """Tell of the evaluations of denoisers, of which each of some images has as many."""

    def __init__(self, images: int, on_event: Listener) -> None:
        self._images, self._on_event, self._done = images, on_event, 0

    def watch(self, denoise: Denoise, evaluations: int) -> Denoise:
        """Watch the denoiser of one image."""

        def watched(x_t: Tensor, level: Level) -> Denoised:
            estimate = denoise(x_t, level)
            self._done += 1
            self._on_event(SampleProgress(self._done, self._images * evaluations, self._done // evaluations))
            return estimate

        return watched


def _inverted(trained: TrainedModel, x_0: Tensor, settings: SampleConfig, label: int | None, counter: _Counter) -> Tensor:
    """The noise that DDIM makes x_0 from, [1, C, H, W] both."""
    labels = None if label is None else torch.tensor([label], device=x_0.device)
    # Without a threshold, which cannot be undone.
    denoise = make_denoise(guided_predictor(trained, settings), trained.schedule, threshold=None, labels=labels)
    _, levels = settings.prepare(trained.schedule)
    watched = counter.watch(denoise, INVERSION_ITERATIONS * len(levels))
    with out_of_memory(partial(sampling_error, partial(rehearse, trained, settings), 1, x_0.device)):
        return ddim_invert(watched, levels, x_0, iterations=INVERSION_ITERATIONS)


def _on_device(trained: TrainedModel, image: Pixels) -> Tensor:
    """In [-1, 1], [1, C, H, W]."""
    device = trained.device
    return trained.scale.normalise(torch.tensor(image)[None]).to(device)
