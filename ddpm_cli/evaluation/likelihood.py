"""Measure likelihoods of held-out images, in bits per dimension."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.core.compute.seeds import generator
from ddpm_cli.data.images import images_sha256
from ddpm_cli.data.scale import USUAL
from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.likelihood import bits_per_dim, check_steps, respaced
from ddpm_cli.diffusion.ode_likelihood import density_bits, dequantised, hutchinson_divergence, logsnr_grid, ode_log_density
from ddpm_cli.diffusion.schedules import NoiseSchedule, as_table
from ddpm_cli.diffusion.timesteps import select_timesteps
from ddpm_cli.errors import RequestError, ScheduleError
from ddpm_cli.results.events import EvaluateProgress, Listener, ignore
from ddpm_cli.results.figure import Figure
from ddpm_cli.sampling.drawing import drawing_facts

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.data.scale import Scale
    from ddpm_cli.diffusion.denoise import Predict
    from ddpm_cli.diffusion.forward import Levels
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.diffusion.prediction import Denoised
    from ddpm_cli.evaluation.settings import EvaluateSettings
    from ddpm_cli.sampling.trained_model import TrainedModel

ODE_STEPS = 100


def levels_of(scale: Scale, metric: str) -> int:
    """Count the values that a pixel has, among which a likelihood shares out the probability.

    Raises:
        RequestError: If they are floats.
    """
    if scale.levels is None:
        raise RequestError(
            f"{metric} is of pixels that have countable values, and those of this model are floats, {scale}: between any two there "
            "are others, so that none has a probability of its own.",
            "Measure loss-per-timestep instead, or train on the data stored as whole numbers.",
        )
    return scale.levels


def check_likelihood(metric: str, schedule: Schedule, steps: int | None, scale: Scale = USUAL) -> None:
    """Refuse floats, and `likelihood_steps` that the schedule does not have.

    Raises:
        RequestError: If pixels of this scale have no likelihood.
        ScheduleError: Naming the steps that the schedule has.
    """
    levels_of(scale, metric)
    if metric == "bits-per-dim" and not isinstance(schedule, NoiseSchedule):
        raise ScheduleError(
            "bits-per-dim is the bound of a chain of steps, each with a beta; this model goes along a path without any.",
            "Measure nll-ode, the likelihood by its ordinary differential equation.",
        )
    try:
        if metric == "bits-per-dim":
            check_steps(schedule.timesteps, steps)
        elif steps is not None:
            logsnr_grid(schedule, steps)
    except ScheduleError as error:
        raise ScheduleError(error.message, "Change --likelihood-steps.") from error


class _Measurement:
    """Hold what the metrics share: batches of images, a prediction that reports its progress, and the figure at the end."""

    def __init__(
        self, trained: TrainedModel, dataset: Dataset, settings: EvaluateSettings, metric: str, on_event: Listener
    ) -> None:
        self.trained, self.settings, self.metric = trained, settings, metric
        self.schedule = trained.schedule
        self.device = trained.device
        self._dataset = dataset
        n = settings.n_of(metric)
        self.levels = levels_of(trained.scale, metric)
        self._images = torch.from_numpy(dataset.test.images[:n])
        self._labels = torch.from_numpy(dataset.test.labels[:n]) if trained.num_classes is not None else None
        self._on_event = on_event
        self._done = 0

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None, torch.Generator]]:
        """Give images in [-1, 1] and their labels on the device, with a generator of their own."""
        size = self.settings.batch_size
        for number, start in enumerate(range(0, len(self._images), size)):
            rows = slice(start, start + size)
            labels = None if self._labels is None else self._labels[rows].to(self.device)
            draws = generator(self.device, self.settings.seed, self.metric, number)
            yield self.trained.scale.normalise(self._images[rows].to(self.device)), labels, draws

    def predict(self, evaluations: int) -> Predict:
        """Give the model's estimates; `evaluations` is how often each batch asks for them."""
        predict = predictor(self.trained.network, self.schedule, self.trained.config.objective.build_prediction())
        total = evaluations * -(-len(self._images) // self.settings.batch_size)

        def counted(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
            self._done += 1
            self._on_event(EvaluateProgress(self.metric, self._done, total))
            return predict(x_t, at, labels)

        return counted

    def figure(self, terms: dict[str, Tensor], details: dict[str, str | int | float]) -> Figure:
        """Give the mean over images of the sum of the terms, float64 [N] each."""
        value = torch.stack(list(terms.values())).sum(0)
        n = len(value)
        return Figure(
            metric=self.metric,
            unit="bits/dim",
            value=float(value.mean()),
            standard_error=float(value.std()) / n**0.5 if n > 1 else None,
            terms={name: float(term.mean()) for name, term in terms.items()} if len(terms) > 1 else {},
            details=details | ({} if self.trained.scale == USUAL else {"levels": self.levels}),
            n=n,
            split="test",
            data=self._dataset.name,
            sha256=images_sha256(self._images.numpy()),
            seed=self.settings.seed,
        )


def measure_bits_per_dim(
    trained: TrainedModel, dataset: Dataset, settings: EvaluateSettings, folder: Path | None = None, on_event: Listener = ignore
) -> Figure:
    """Measure the variational bound of the first test images.

    Args:
        trained: The model.
        dataset: Its data, with held-out images.
        settings: How to measure.
        folder: Not used, as there is no picture of it.
        on_event: Told of each network evaluation.
    Raises:
        RequestError: If the settings do not fit the model.
    """
    measurement = _Measurement(trained, dataset, settings, "bits-per-dim", on_event)
    schedule = as_table(trained.schedule)
    variance = settings.variance or trained.config.objective.reverse_variance
    steps = settings.likelihood_steps or schedule.timesteps
    sample = settings.sample or trained.config.sample
    predict, threshold = measurement.predict(steps), sample.threshold.build()
    process, asked = schedule, settings.likelihood_steps
    if settings.likelihood_respaced:
        predict, process = respaced(predict, schedule, select_timesteps(schedule.timesteps, steps, "linspace"))
        asked = None
    bounds = [
        bits_per_dim(
            predict,
            x_0,
            process,
            variance=variance,
            generator=draws,
            steps=asked,
            threshold=threshold,
            labels=labels,
            levels=measurement.levels,
        )
        for x_0, labels, draws in measurement.batches()
    ]
    terms = {name: torch.cat([getattr(bound, name) for bound in bounds]) for name in ("prior", "steps", "decoder")}
    details: dict[str, str | int | float] = {"variance": variance, "evaluations": steps, "timesteps": schedule.timesteps}
    details |= {"process": "respaced"} if settings.likelihood_respaced else {}
    facts = drawing_facts(sample, schedule.timesteps)
    return measurement.figure(terms, details | {name: facts[name] for name in ("threshold", "threshold_options")})


def measure_nll_ode(
    trained: TrainedModel, dataset: Dataset, settings: EvaluateSettings, folder: Path | None = None, on_event: Listener = ignore
) -> Figure:
    """Measure the likelihood of the first test images by the probability-flow ODE; see `measure_bits_per_dim`."""
    measurement = _Measurement(trained, dataset, settings, "nll-ode", on_event)
    schedule = trained.schedule
    intervals = settings.likelihood_steps or min(ODE_STEPS, schedule.timesteps - 1)
    grid = logsnr_grid(schedule, intervals)
    predict = measurement.predict(2 * intervals)
    found = []
    for x_0, labels, draws in measurement.batches():
        x = dequantised(x_0, draws, measurement.levels)
        signs = torch.randint(2, x.shape, generator=draws, device=x.device).to(x.dtype) * 2 - 1
        log_density = ode_log_density(predict, x, schedule, grid, hutchinson_divergence(signs), labels=labels)
        found.append(density_bits(log_density, x[0].numel(), measurement.levels))
    details: dict[str, str | int | float] = {"solver": "heun", "intervals": intervals, "divergence": "hutchinson, 1 probe"}
    return measurement.figure({"nll-ode": torch.cat(found)}, details | {"dequantisation": "uniform"})
