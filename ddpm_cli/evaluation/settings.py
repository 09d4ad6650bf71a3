"""Say how a model is to be measured. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from ddpm_cli.core.asking import Said, as_option, checked
from ddpm_cli.diffusion.variances import ModelVariance
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.sampling.file_bounds import USUAL, Bounds
from ddpm_cli.sampling.request import Drawing

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


class Measuring(Drawing, total=False):
    """Say how a model is measured, where it is not the usual way; None is the same as not said.

    It is the one spelling of what `ddpm evaluate`, `ddpm_cli.evaluate` and the `[evaluate]` of a sweep ask for. What is usual says
    `EvaluateSettings`, and what each means in full.
    """

    n: Annotated[
        int | None,
        Said("N", "Samples, 1,000 if left out. For likelihoods and losses: held-out images, 256 if left out.", also="-n"),
    ]
    repeats: Annotated[int | None, Said("N", "Independent sets of samples. The figure is their mean, with their spread.")]
    seed: Annotated[
        int | None, Said("N", "Seed of the first sample. For likelihoods and losses: seed of noise and steps.", least=0, bits=32)
    ]
    likelihood_steps: Annotated[
        int | None,
        Said(
            "N",
            "For bits-per-dim: network evaluations per image, all T if left out. For nll-ode: intervals of the ODE, "
            "100 if left out.",
        ),
    ]
    likelihood_respaced: Annotated[
        bool | None,
        Said(
            None,
            "Measure bits-per-dim of the shorter process with --likelihood-steps steps, instead of an estimate for all T.",
            also="--respaced",
        ),
    ]
    variance: Annotated[
        ModelVariance | None,
        Said("NAME", "For bits-per-dim: fixed-small, fixed-large or learned-range. The model's own if left out."),
    ]
    reference: Annotated[
        str | Path | None,
        Said(
            "REF",
            "What samples are measured against: train or test of the data, a folder of pictures, an .npz or .npy file of images, "
            "an .npz file with mu and sigma (fid alone), or another run, whose samples are drawn.",
            names=SPLITS,
        ),
    ]
    extractor_weights: Annotated[
        str | Path | None, Said("FILE", "Weights of the Inception network as .safetensors. They are downloaded if left out.")
    ]
    fit_extractor: Annotated[
        bool | None,
        Said(None, "Train the classifier that metrics such as fcd need. It is kept, so that each data set needs this once."),
    ]


@dataclass(frozen=True)
class EvaluateSettings:
    """Say how to measure.

    Attributes:
        n: Samples, or held-out images (the first of the test split) for likelihoods and the loss per timestep; None for 1,000
            samples and 256 held-out images.
        likelihood_steps: Network evaluations per image for bits-per-dim, None for all T; intervals of the ODE for nll-ode, None
            for 100.
        likelihood_respaced: Whether bits-per-dim is the bound of the shorter process with so many steps, not an estimate for all T.
        batch_size: Images at a time; another one draws other noise for likelihoods, and leaves samples as they are.
        seed: Of noise, steps and probes; sample i of set r has the seed `seed + r * n + i`.
        repeats: Independent sets of samples.
        variance: Of the reverse steps in bits-per-dim; None for the model's own.
        sample: Sampler, guidance and threshold; None for the model's own.
        reference: The split that samples are measured against, or the path of images, statistics or a run.
        extractor_weights: File of the Inception network; None downloads it.
        fit_extractor: Train a classifier on the data where none is at hand for metrics such as fcd.
        bounds: On what the model may ask for.
    """

    n: int | None = None
    likelihood_steps: int | None = None
    likelihood_respaced: bool = False
    batch_size: int = 64
    seed: int = 0
    repeats: int = 1
    variance: ModelVariance | None = None
    sample: SampleConfig | None = None
    reference: Split | Path = "train"
    extractor_weights: Path | None = None
    fit_extractor: bool = False
    bounds: Bounds = USUAL

    def n_of(self, metric: str) -> int:
        """Count the images that a metric is measured with."""
        return known_metrics()[metric].usual_n if self.n is None else self.n


USUALLY = {field.name: field.default for field in fields(EvaluateSettings)}
"""What is measured if nothing else is asked for, by name."""


def read_request(asked: Measuring, spelt: Callable[[str], str] = as_option) -> tuple[EvaluateSettings, Drawing]:
    """Turn what is asked for into settings, and what is asked of the sampler.

    Args:
        asked: What is not as usual.
        spelt: See `checked`.
    Raises:
        RequestError: If there is no such thing to ask for, or it cannot have this value.
    """
    said: dict[str, Any] = checked(Measuring, asked, spelt)
    drawing = {name: said.pop(name) for name in list(said) if name not in USUALLY}
    return EvaluateSettings(**said), cast("Drawing", drawing)
