"""Say how a model is to be measured. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.sampling.file_bounds import USUAL, Bounds

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.diffusion.objectives.vlb import ModelVariance

Split = Literal["train", "test"]


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
        reference: The split that samples are measured against.
        extractor_weights: File of the Inception network; None downloads it.
        fit_extractor: Train a classifier on the data where none is at hand for fcd and nearest.
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
    reference: Split = "train"
    extractor_weights: Path | None = None
    fit_extractor: bool = False
    bounds: Bounds = USUAL

    def n_of(self, metric: str) -> int:
        """Count the images that a metric is measured with."""
        return known_metrics()[metric].usual_n if self.n is None else self.n
