"""Tune samplers of few steps to a trained model: find those that come closest to its own long trajectories."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.config.schema.sample import (
    DdimSampler,
    DeisSampler,
    DpmSolverSampler,
    IpndmSampler,
    ListSpacing,
    LogsnrSpacing,
    TrailingSpacing,
    UnipcSampler,
)
from ddpm_cli.core.compute.out_of_memory import out_of_memory, sampling_error
from ddpm_cli.diffusion.denoise import make_denoise
from ddpm_cli.diffusion.sampling import ImageNoise, sample
from ddpm_cli.errors import ScheduleError
from ddpm_cli.results.events import EvaluateProgress, Listener, ignore
from ddpm_cli.results.tuning import TunedSampler, Tuning
from ddpm_cli.sampling.bounds import Demand, with_fitting_batch
from ddpm_cli.sampling.generate import labels_from_seeds
from ddpm_cli.sampling.trained_model import guided_predictor, rehearse
from ddpm_cli.sampling.tuning.search import KEPT, most_trials, on_whole_steps, search
from ddpm_cli.sampling.tuning.store import values_of

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig, SamplerBase
    from ddpm_cli.diffusion.denoise import Denoise
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.sampling.trained_model import TrainedModel

LONG = 100
"""Steps of a long trajectory. Of a finished quick run it ended 0.002 from one of 400 steps, where tuned ones end 0.05 away."""
FIRST_NOISE = 10**9
"""Seed of the first noise: samples that are drawn and measured have others, unless somebody asks for these."""


@dataclass(frozen=True)
class Batch:
    """Hold some noises and where long trajectories from them end.

    Attributes:
        denoise: Of images with their labels.
        noises: x_T, [B, C, H, W].
        images: x_0 at the ends, likewise.
    """

    denoise: Denoise
    noises: Tensor
    images: Tensor


class Ends:
    """Hold where a model's long trajectories end, and tell how far from there another sampler's end.

    Args:
        schedule: The model's.
        batches: Of noises.
    """

    def __init__(self, schedule: Schedule, batches: Sequence[Batch]) -> None:
        self._schedule = schedule
        self._batches = batches

    @classmethod
    def of(cls, schedule: Schedule, noises: Sequence[tuple[Denoise, Tensor]]) -> Ends:
        """Follow the trajectories from noises, each batch with what denoises it."""
        sampler = DpmSolverSampler(steps=min(LONG, schedule.timesteps), spacing=LogsnrSpacing())
        return cls(schedule, [Batch(denoise, x_T, _sampled(sampler, schedule, denoise, x_T)) for denoise, x_T in noises])

    def distance(self, sampler: SamplerBase) -> float:
        """Take the mean over all images of sqrt(mean((x_0' - x_0)**2)), where x_0' are the sampler's from the same noises."""
        found = [_sampled(sampler, self._schedule, batch.denoise, batch.noises) - batch.images for batch in self._batches]
        return float(torch.cat(found).double().flatten(1).square().mean(1).sqrt().mean())


def _sampled(sampler: SamplerBase, schedule: Schedule, denoise: Denoise, x_T: Tensor) -> Tensor:
    step, levels = sampler.prepare(schedule)
    return sample(denoise, step, levels, x_T, partial(torch.zeros_like, x_T))


def tune(
    trained: TrainedModel,
    steps: Sequence[int],
    settings: SampleConfig | None = None,
    *,
    images: int = 64,
    seed: int = 0,
    on_event: Listener = ignore,
) -> Tuning:
    """Find, for each number of steps, the solver and the steps that come closest to the model's own long trajectories.

    Steps are searched with some noises; which solver's to take, twice as many others decide, which the distances are of.

    Args:
        trained: The model. Classes follow from the noises' numbers as in `labels_from_seeds`.
        steps: Numbers of steps, see `search`.
        settings: Guidance, threshold, batch size, and the sampler that is the usual one; the model's own if None.
        images: Noises to search with, at least 1.
        seed: Another one takes other noises.
        on_event: Told of `EvaluateProgress`, one for each sampler that is tried.
    Raises:
        ScheduleError: If there are fewer than so many steps.
        OutOfMemoryError: If there is no memory for a batch.
    """
    settings = settings or trained.config.sample
    too_many = next((n for n in steps if n > trained.schedule.timesteps), None)
    if too_many is not None:
        raise ScheduleError(
            f"A sampler cannot take {too_many} steps in a schedule of {trained.schedule.timesteps}.", "Choose a smaller number."
        )
    settings = with_fitting_batch(trained, settings, 2 * images, on_event)
    first = FIRST_NOISE + 3 * images * seed
    size = min(settings.batch_size, 2 * images)
    with out_of_memory(partial(sampling_error, partial(rehearse, trained, settings), size, trained.device)):
        searched, held_out = (
            Ends.of(trained.schedule, list(_noises(trained, settings, range(start, start + count))))
            for start, count in ((first, images), (first + images, 2 * images))
        )
        found = [choose(n, searched, held_out, trained.schedule, settings.sampler, on_event) for n in sorted(set(steps))]
    return Tuning(
        step=trained.step,
        ema=trained.ema,
        guidance=values_of(settings.guidance),
        threshold=values_of(settings.threshold),
        images=images,
        held_out=2 * images,
        seed=seed,
        created=time.time(),
        samplers=tuple(found),
    )


def _noises(trained: TrainedModel, settings: SampleConfig, seeds: Sequence[int]) -> Iterator[tuple[Denoise, Tensor]]:
    """Batches of noises, each with what denoises it."""
    predict, threshold = guided_predictor(trained, settings), settings.threshold.build()
    labels = labels_from_seeds(seeds, trained.num_classes)
    for start in range(0, len(seeds), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        of_batch = torch.tensor(labels[part], device=trained.device) if labels else None
        denoise = make_denoise(predict, trained.schedule, threshold=threshold, labels=of_batch)
        yield denoise, ImageNoise(seeds[part], trained.image_shape, trained.device)()


def choose(
    steps: int, searched: Ends, held_out: Ends, schedule: Schedule, own: SamplerBase, on_event: Listener = ignore
) -> TunedSampler:
    """Search so many steps with some noises, and take the sampler that comes closest with others.

    Args:
        steps: How many.
        searched: Where trajectories from the noises of the search end.
        held_out: Likewise of the others.
        schedule: The model's.
        own: The model's own sampler, see `usual_sampler`.
        on_event: Told of `EvaluateProgress`.
    """
    total = most_trials(steps) + 2 * KEPT
    trials = _counted(searched.distance, lambda done: on_event(EvaluateProgress(f"{steps} steps", done, total, "samplers tried")))
    untuned = usual_sampler(own, steps)
    samplers = [found.sampler for found in search(trials, schedule, steps)] + [on_whole_steps(untuned, schedule)]
    distance, sampler = min(((held_out.distance(sampler), sampler) for sampler in samplers), key=lambda found: found[0])
    on_event(EvaluateProgress(f"{steps} steps", total, total, "samplers tried"))
    return TunedSampler(steps, values_of(sampler), distance, values_of(untuned), held_out.distance(untuned))


def _counted(distance: Callable[[SamplerBase], float], told: Callable[[int], None]) -> Callable[[SamplerBase], float]:
    done = 0

    def counted(sampler: SamplerBase) -> float:
        nonlocal done
        found = distance(sampler)
        done += 1
        told(done)
        return found

    return counted


def usual_sampler(own: SamplerBase, steps: int) -> SamplerBase:
    """Take a model's own sampler with so many steps; DPM-Solver++ where that adds noise, or evaluates the network more often.

    Args:
        own: The model's; where its spacing lists steps, trailing ones take their place.
        steps: How many.
    """
    follows_the_ode = (
        (isinstance(own, DdimSampler) and own.eta == 0)
        or (isinstance(own, DpmSolverSampler) and not own.sde)
        or isinstance(own, UnipcSampler | DeisSampler | IpndmSampler)
    )
    if not follows_the_ode:
        return DpmSolverSampler(steps=steps)
    spacing = TrailingSpacing() if isinstance(own.spacing, ListSpacing) else own.spacing
    return own.model_copy(update={"steps": steps, "spacing": spacing})


def demand_of(trained: TrainedModel, steps: Sequence[int], images: int) -> Demand:
    """Reckon what tuning computes, rather too much than too little."""
    trials = sum(n * (most_trials(n) + 4 * KEPT + 4) for n in steps)
    demand = Demand(images, trials + 3 * LONG, steps_from_file=False, kept=6 * images)
    return replace(demand, fewer="Ask for fewer images or steps")
