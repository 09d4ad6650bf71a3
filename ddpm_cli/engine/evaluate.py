"""Figures of merit of a trained model on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.data.batches import normalise
from ddpm_cli.data.images import images_sha256
from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.likelihood import bits_per_dim
from ddpm_cli.diffusion.ode_likelihood import density_bits, dequantised, hutchinson_divergence, logsnr_grid, ode_log_density
from ddpm_cli.engine.build import build_parameterization, build_threshold
from ddpm_cli.engine.seeds import generator
from ddpm_cli.errors import RequestError
from ddpm_cli.events import EvaluateProgress, Figure, Listener, ignore

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.diffusion.denoise import Predict
    from ddpm_cli.diffusion.parameterization import Denoised
    from ddpm_cli.diffusion.vlb import ModelVariance
    from ddpm_cli.engine.generate import TrainedModel

ODE_STEPS = 100


@dataclass(frozen=True)
class EvaluateSettings:
    """How to measure.

    Attributes:
        n: Images, the first of the test split.
        steps: Network evaluations per image for bits-per-dim, None for all T; intervals of the ODE for nll-ode, None for 100.
        batch_size: Images at a time; another one draws other noise.
        seed: Of noise, steps and probes.
        variance: Of the reverse steps in bits-per-dim; None for the model's own.
    """

    n: int = 256
    steps: int | None = None
    batch_size: int = 64
    seed: int = 0
    variance: ModelVariance | None = None


def evaluate(
    trained: TrainedModel,
    dataset: Dataset,
    metrics: Sequence[str],
    settings: EvaluateSettings | None = None,
    *,
    on_event: Listener = ignore,
) -> list[Figure]:
    """Measure a model.

    Args:
        trained: The model.
        dataset: Its data; the test split is used.
        metrics: Names out of METRICS.
        settings: How to measure.
        on_event: Told of each network evaluation.
    Returns:
        One figure for each metric, in their order.
    Raises:
        RequestError: If a metric is unknown, the images are of another size, or the settings do not fit the model.
    """
    settings = settings or EvaluateSettings()
    for name in metrics:
        if name not in METRICS:
            raise RequestError(f"There is no metric {name!r}.", f"Metrics: {', '.join(METRICS)}.")
    if not len(dataset.test):
        raise RequestError(
            f"{dataset.source} has no held-out images to measure with.",
            "Train with some, data.held_out above 0, or put them into test/ beside train/.",
        )
    if dataset.image_shape != trained.image_shape:
        raise RequestError(
            f"The images of {dataset.name} have the shape {dataset.image_shape}, those of the model {trained.image_shape}.",
            "Name the model's own data set.",
        )
    return [METRICS[name](_Measurement(trained, dataset, settings, name, on_event)) for name in metrics]


class _Measurement:
    """What the metrics share: batches of images, a prediction that reports its progress, and the figure at the end."""

    def __init__(
        self, trained: TrainedModel, dataset: Dataset, settings: EvaluateSettings, metric: str, on_event: Listener
    ) -> None:
        self.trained, self.settings, self.metric = trained, settings, metric
        self.schedule = trained.schedule
        self.device = next(trained.network.parameters()).device
        self._dataset = dataset
        self._images = torch.from_numpy(dataset.test.images[: settings.n])
        self._labels = torch.from_numpy(dataset.test.labels[: settings.n]) if trained.num_classes is not None else None
        self._on_event = on_event
        self._done = 0

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None, torch.Generator]]:
        """Images in [-1, 1] and their labels on the device, with a generator of their own."""
        size = self.settings.batch_size
        for number, start in enumerate(range(0, len(self._images), size)):
            rows = slice(start, start + size)
            labels = None if self._labels is None else self._labels[rows].to(self.device)
            draws = generator(self.device, self.settings.seed, self.metric, number)
            yield normalise(self._images[rows].to(self.device)), labels, draws

    def predict(self, evaluations: int) -> Predict:
        """The model's estimates; `evaluations` is how often each batch asks for them."""
        predict = predictor(self.trained.network, self.schedule, build_parameterization(self.trained.config.objective))
        total = evaluations * -(-len(self._images) // self.settings.batch_size)

        def counted(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Denoised:
            self._done += 1
            self._on_event(EvaluateProgress(self.metric, self._done, total))
            return predict(x_t, t, labels)

        return counted

    def figure(self, terms: dict[str, Tensor], details: dict[str, str | int | float]) -> Figure:
        """The mean over images of the sum of the terms, float64 [N] each."""
        value = torch.stack(list(terms.values())).sum(0)
        n = len(value)
        return Figure(
            metric=self.metric,
            unit="bits/dim",
            value=float(value.mean()),
            standard_error=float(value.std()) / n**0.5 if n > 1 else None,
            terms={name: float(term.mean()) for name, term in terms.items()} if len(terms) > 1 else {},
            details=details,
            n=n,
            split="test",
            data=self._dataset.name,
            sha256=images_sha256(self._images.numpy()),
            seed=self.settings.seed,
        )


def _bits_per_dim(measurement: _Measurement) -> Figure:
    trained, settings, schedule = measurement.trained, measurement.settings, measurement.schedule
    variance = settings.variance or trained.config.objective.reverse_variance
    steps = schedule.timesteps if settings.steps is None else settings.steps
    predict, threshold = measurement.predict(steps), build_threshold(trained.config.sample.threshold)
    bounds = [
        bits_per_dim(
            predict, x_0, schedule, variance=variance, generator=draws, steps=settings.steps, threshold=threshold, labels=labels
        )
        for x_0, labels, draws in measurement.batches()
    ]
    terms = {name: torch.cat([getattr(bound, name) for bound in bounds]) for name in ("prior", "steps", "decoder")}
    details: dict[str, str | int | float] = {"variance": variance, "evaluations": steps, "timesteps": schedule.timesteps}
    return measurement.figure(terms, details | {"threshold": trained.config.sample.threshold.kind})


def _nll_ode(measurement: _Measurement) -> Figure:
    schedule = measurement.schedule
    intervals = min(ODE_STEPS, schedule.timesteps - 1) if measurement.settings.steps is None else measurement.settings.steps
    grid = logsnr_grid(schedule, intervals)
    predict = measurement.predict(2 * intervals)
    found = []
    for x_0, labels, draws in measurement.batches():
        x = dequantised(x_0, draws)
        signs = torch.randint(2, x.shape, generator=draws, device=x.device).to(x.dtype) * 2 - 1
        log_density = ode_log_density(predict, x, schedule, grid, hutchinson_divergence(signs), labels=labels)
        found.append(density_bits(log_density, x[0].numel()))
    details: dict[str, str | int | float] = {"solver": "heun", "intervals": intervals, "divergence": "hutchinson, 1 probe"}
    return measurement.figure({"nll-ode": torch.cat(found)}, details | {"dequantisation": "uniform"})


METRICS: dict[str, Callable[[_Measurement], Figure]] = {"bits-per-dim": _bits_per_dim, "nll-ode": _nll_ode}
