"""List the metrics: one record each, and those that other packages add. Imports no torch.

A metric of this package is its own file and a record here. Another package names its record under the entry point group
`ddpm.metrics`; `examples/extending/metric.py` is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeGuard, TypeVar

from ddpm_cli.core.extensions import extensions, lazily
from ddpm_cli.errors import ExtensionError

if TYPE_CHECKING:
    from ddpm_cli.metrics.features import FeatureExtractor, FeatureSource, RealFeatureSource
    from ddpm_cli.results.figure import Figure

Real = TypeVar("Real", bound="RealFeatureSource")
ExtractorKind = Literal["inception", "classifier"]
Direction = Literal["lower", "higher"]
Reference = Literal["split", "as-many", "none", "training"]
Values = dict[str, float]
Details = dict[str, str | int | float]

USUAL_SAMPLES, USUAL_HELD_OUT = 1000, 256


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Describe a metric: how it is measured, and what must be said beside it.

    Attributes:
        name: As `--metrics` takes it, and as the entry point is called.
        about: What it measures, in a line.
        extractor: Kind of network that looks at samples and real images; None for a metric of held-out images.
        compute: Function of (reference, samples, extractor), which are a `RealFeatureSource`, a `FeatureSource` and a
            `FeatureExtractor`, that returns the values by name. It imports torch and the like inside, or stands in `lazily`.
        measure: For a metric that no such function can be: of (trained, dataset, settings, folder, on_event) for held-out images,
            of (measurement, extractor) for samples; it returns a `Figure`. See `evaluation/likelihood.py` and `memorisation.py`.
        facts: Function of the arguments of `compute` that returns what else of the method a figure depends on.
        gives: Names of the values where they are not one of the metric's own name.
        direction: Which values are better; None if neither.
        judges: Place among the metrics by which `ddpm ls` judges a run, the lowest that was measured; None for never.
        smallest_n: Images that it is defined for.
        usual_n: Images that it is measured with if nothing else is asked for.
        reliable_n: Samples from which on `note` is not needed.
        note: What is wrong with fewer, as the end of a sentence.
        unit: Of the values.
        reference: The real images that samples are compared with: those of the split that is asked for, as many of them as there
            are samples, none, or the training images, for which held-out ones are needed too.
        of_gaussians: Whether mean and covariance of the features are all that it needs of the real images.
        needs_logits: Whether it needs class scores, which some extractors lack.
        is_likelihood: Whether `likelihood_steps` and `variance` are settings of it.
        sample_bytes: Memory that it needs for each sample.
        version: Of its method; figures and floors of another version are measured anew.
    """

    name: str
    about: str
    extractor: ExtractorKind | None
    compute: Callable[[RealFeatureSource, FeatureSource, FeatureExtractor], Values] | None = None
    measure: Callable[..., Figure] | None = None
    facts: Callable[[RealFeatureSource, FeatureSource, FeatureExtractor], Details] | None = None
    gives: tuple[str, ...] = ()
    direction: Direction | None = None
    judges: int | None = None
    smallest_n: int = 1
    usual_n: int = USUAL_SAMPLES
    reliable_n: int = 1
    note: str = ""
    unit: str = ""
    reference: Reference = "split"
    of_gaussians: bool = False
    needs_logits: bool = False
    is_likelihood: bool = False
    sample_bytes: int = 0
    version: str = ""

    def __post_init__(self) -> None:
        if (self.compute is None) == (self.measure is None):
            raise ValueError(f"the metric {self.name} needs either compute or measure")
        if self.compute is not None and self.extractor is None:
            raise ValueError(f"the metric {self.name} computes its values of features and needs an extractor")

    @property
    def values(self) -> tuple[str, ...]:
        """List the names of the values that it gives."""
        return self.gives or (self.name,)

    @property
    def versions(self) -> tuple[str, ...]:
        """List what the version adds to the keys of figures and floors; nothing if there is none."""
        return (self.version,) if self.version else ()

    @property
    def is_of_samples(self) -> bool:
        """Tell whether it looks at samples, rather than at held-out images."""
        return self.extractor is not None

    @property
    def needs_held_out(self) -> bool:
        """Tell whether it cannot be had without held-out images."""
        return self.extractor is None or self.reference == "training"

    @property
    def fits_training(self) -> bool:
        """Tell whether it is cheap and simple enough for `train.evaluate_metrics`."""
        return self.compute is not None and self.extractor == "classifier" and self.values == (self.name,)

    def best(self, values: Iterable[float]) -> float:
        """Find the best of some values: the lowest, unless higher ones are better."""
        return max(values) if self.direction == "higher" else min(values)

    def used_reference(self, reference: Real, n: int) -> Real:
        """Choose the real images that n samples are compared with."""
        return reference.some(n) if self.reference == "as-many" else reference

    def values_of(self, reference: RealFeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> Values:
        """Compute the values by name.

        Raises:
            RequestError: If there are too few images.
            ExtensionError: If it gives other values than its record says.
        """
        assert self.compute is not None  # else it is measured by `measure`
        found = self.compute(self.used_reference(reference, samples.count), samples, extractor)
        if set(found) != set(self.values):
            raise ExtensionError(
                f"The metric {self.name} gave {', '.join(found) or 'nothing'} where its record names {', '.join(self.values)}.",
                "Mend compute, or gives.",
            )
        return {name: float(found[name]) for name in self.values}


_BIASED = "biased upwards, the more the smaller n is: compare it only at equal n"
_INCEPTION_FEATURES, _INCEPTION_LOGITS = 4 * 2048, 8 * 1008
"""Bytes of an image's features in float32, and of its logits in float64."""

_OF_THIS_PACKAGE = (
    Metric(
        name="fid",
        about="Fréchet distance of Inception's features, as papers report it (Heusel et al. 2017).",
        extractor="inception",
        compute=lazily("ddpm_cli.metrics.frechet:fid"),
        facts=lazily("ddpm_cli.metrics.frechet:facts"),
        direction="lower",
        judges=1,
        smallest_n=2,
        reliable_n=10_000,
        note=_BIASED,
        of_gaussians=True,
    ),
    Metric(
        name="kid",
        about="Kernel distance of Inception's features, as papers report it (Bińkowski et al. 2018).",
        extractor="inception",
        compute=lazily("ddpm_cli.metrics.kid:kid"),
        facts=lazily("ddpm_cli.metrics.kid:facts"),
        direction="lower",
        judges=3,
        smallest_n=2,
        reliable_n=1000,
        note="unbiased but noisy, and its subsets are smaller than the usual 1,000",
    ),
    Metric(
        name="inception-score",
        about="How sure Inception is of each image, and how many classes they cover (Salimans et al. 2016).",
        extractor="inception",
        compute=lazily("ddpm_cli.metrics.inception_score:score"),
        facts=lazily("ddpm_cli.metrics.inception_score:facts"),
        direction="higher",
        smallest_n=10,
        reliable_n=5000,
        note="biased downwards, the more the smaller n is",
        reference="none",
        needs_logits=True,
        sample_bytes=3 * _INCEPTION_LOGITS,
    ),
    Metric(
        name="precision-recall",
        about="Share of samples that lie among real images, and of real images among samples (Kynkäänniemi et al. 2019).",
        extractor="inception",
        compute=lazily("ddpm_cli.metrics.precision_recall:shares"),
        facts=lazily("ddpm_cli.metrics.precision_recall:facts"),
        gives=("precision", "recall"),
        direction="higher",
        smallest_n=4,
        reliable_n=5000,
        note="they depend on n: compare them only at equal n",
        unit="share",
        reference="as-many",
        sample_bytes=4 * _INCEPTION_FEATURES,  # both sets, as they are and centred
    ),
    Metric(
        name="fcd",
        about="Fréchet distance of a small classifier's features. It is cheap, and it is no FID.",
        extractor="classifier",
        compute=lazily("ddpm_cli.metrics.frechet:fcd"),
        facts=lazily("ddpm_cli.metrics.frechet:facts"),
        direction="lower",
        judges=2,
        smallest_n=2,
        reliable_n=2000,
        note=_BIASED,
        of_gaussians=True,
    ),
    Metric(
        name="nearest",
        about="Share of samples that lie closer to a training image than held-out images do.",
        extractor="classifier",
        measure=lazily("ddpm_cli.evaluation.sample_metrics:measure_nearest"),
        unit="share",
        reference="training",
    ),
    Metric(
        name="bits-per-dim",
        about="Likelihood of held-out images, by the variational bound.",
        extractor=None,
        measure=lazily("ddpm_cli.evaluation.likelihood:measure_bits_per_dim"),
        direction="lower",
        judges=4,
        usual_n=USUAL_HELD_OUT,
        unit="bits/dim",
        is_likelihood=True,
    ),
    Metric(
        name="nll-ode",
        about="Likelihood of held-out images, by the probability-flow ODE. The ODE is another model than the bound's.",
        extractor=None,
        measure=lazily("ddpm_cli.evaluation.likelihood:measure_nll_ode"),
        direction="lower",
        judges=5,
        usual_n=USUAL_HELD_OUT,
        unit="bits/dim",
        is_likelihood=True,
    ),
    Metric(
        name="loss-per-timestep",
        about="Training loss of held-out images, over t.",
        extractor=None,
        measure=lazily("ddpm_cli.evaluation.timestep_losses:loss_per_timestep"),
        usual_n=USUAL_HELD_OUT,
    ),
)


@cache
def known_metrics() -> dict[str, Metric]:
    """Find all metrics by name: those of this package, then those of others.

    Raises:
        ExtensionError: If one of another package cannot be used.
    """
    return extensions("ddpm.metrics", {metric.name: metric for metric in _OF_THIS_PACKAGE}, _is_metric, lambda metric: metric.name)


def _is_metric(value: object) -> TypeGuard[Metric]:
    return isinstance(value, Metric)


def of_samples() -> list[str]:
    """List the metrics that look at samples."""
    return [name for name, metric in known_metrics().items() if metric.is_of_samples]


def likelihoods() -> list[str]:
    """List the likelihoods of held-out images."""
    return [name for name, metric in known_metrics().items() if metric.is_likelihood]


def in_training() -> dict[str, Metric]:
    """Find the metrics that can be measured while a model trains."""
    return {name: metric for name, metric in known_metrics().items() if metric.fits_training}


def judges() -> list[Metric]:
    """List the metrics by which `ddpm ls` judges a run, that which counts most first."""
    ranked = [(metric.judges, metric) for metric in known_metrics().values() if metric.judges is not None and metric.direction]
    return [metric for _, metric in sorted(ranked, key=lambda pair: pair[0])]


def direction_of(value: str) -> Direction | None:
    """Say which values of one name are better; None if that is not known."""
    return next((metric.direction for metric in known_metrics().values() if value in metric.values), None)
