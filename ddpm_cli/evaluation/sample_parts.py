"""Draw samples of a model onto disk, in parts: each is written whole, none is drawn twice, and processes share them.

    work/<key>/<first seed>/
      part-000012.safetensors              images of a few seeds in 8 bits, uint8 [N, C, H, W]
      part-000012-<extractor>.safetensors  their features, and logits if the extractor gives some

After a kill the parts that are there are kept. Memory holds one part, whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.core.io.files import UnreadableError, atomic_write
from ddpm_cli.core.io.tensor_files import read_summed, summed
from ddpm_cli.errors import CheckpointError
from ddpm_cli.evaluation.feature_sources import in_batches, mapped_rows, statistics_of, write_rows
from ddpm_cli.results.events import EvaluateProgress, Event, Listener, SampleProgress, ignore
from ddpm_cli.sampling.bounds import with_fitting_batch
from ddpm_cli.sampling.compiled import with_fast_network
from ddpm_cli.sampling.generate import generate_samples

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.metrics.feature_statistics import FrechetStatistics
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.sampling.trained_model import TrainedModel

PART_IMAGES = 256


@dataclass(frozen=True)
class SampleSet:
    """Hold the samples of consecutive seeds.

    Attributes:
        folder: Of the parts.
        seeds: One for each sample.
        part_size: Samples of a part, but for the last.
    """

    folder: Path
    seeds: range
    part_size: int

    @property
    def count(self) -> int:
        """Count the samples."""
        return len(self.seeds)

    @property
    def parts(self) -> int:
        """Count the parts."""
        return -(-self.count // self.part_size)

    def seeds_of(self, part: int) -> range:
        """List the seeds of one part."""
        return self.seeds[part * self.part_size : (part + 1) * self.part_size]

    def images_path(self, part: int) -> Path:
        """Tell where a part's images are."""
        return self.folder / f"part-{part:06d}.safetensors"

    def features_path(self, part: int, extractor: FeatureExtractor) -> Path:
        """Tell where what an extractor says of them is."""
        return self.folder / f"part-{part:06d}-{extractor.sha256[:16]}.safetensors"

    def images(self, part: int) -> Tensor:
        """Read the images of a part in 8 bits, uint8 [N, C, H, W].

        Raises:
            CheckpointError: If its file is damaged.
        """
        return _read(self.images_path(part), "images", len(self.seeds_of(part)), torch.uint8)

    def statistics(self, extractor: FeatureExtractor) -> FrechetStatistics:
        """Gather mean and covariance of all features, part by part."""
        return statistics_of(self._stored(extractor, "features"), extractor.dimensions)

    def features(self, extractor: FeatureExtractor) -> Tensor:
        """Give all features, float32 [N, D], mapped from one file."""
        return self._gathered(extractor, "features")

    def logits(self, extractor: FeatureExtractor) -> Tensor:
        """Give all class scores, float32 [N, K], mapped from one file."""
        return self._gathered(extractor, "logits")

    def _stored(self, extractor: FeatureExtractor, what: str) -> Iterator[Tensor]:
        for part in range(self.parts):
            yield _read(self.features_path(part, extractor), what, len(self.seeds_of(part)), torch.float32)

    def _gathered(self, extractor: FeatureExtractor, what: str) -> Tensor:
        path = self.folder / f"{what}-{extractor.sha256[:16]}.npy"
        if not path.exists():
            write_rows(path, self._stored(extractor, what), self.count)
        return mapped_rows(path, self.count)


def part_size(batch_size: int) -> int:
    """Count the samples of a part: whole batches, about 256, so that the last batch of a part wastes nothing."""
    return batch_size * max(1, round(PART_IMAGES / batch_size))


def _read(path: Path, name: str, count: int, dtype: torch.dtype) -> Tensor:
    """Images or rows of numbers; a part that is no such thing would only be noticed in the figures, or not at all."""
    try:
        found = read_summed(path, required=False).get(name)
        if found is None or len(found.shape) != (4 if name == "images" else 2) or len(found) != count or found.dtype != dtype:
            raise UnreadableError(f"does not hold the {name} of {count:,} samples")
        return found
    except (UnreadableError, OSError) as error:
        raise CheckpointError(f"{path} {error}.", "Remove it and evaluate again.") from error


def draw_parts(
    sets: Sequence[SampleSet],
    trained: TrainedModel,
    sample: SampleConfig,
    extractors: Sequence[FeatureExtractor],
    team: Team,
    on_event: Listener = ignore,
) -> None:
    """Draw the parts that are missing, and look at them with the extractors; each process takes its share of the parts.

    Args:
        sets: Their folders exist.
        trained: The model.
        sample: Sampler, guidance, threshold and batch size.
        extractors: Those whose features are wanted.
        team: The processes.
        on_event: Told of the progress of this process.
    Raises:
        OutputError: If a part cannot be written.
    """
    share = islice(((samples, part) for samples in sets for part in range(samples.parts)), team.rank, None, team.size)
    missing = [(samples, part) for samples, part in share if _is_missing(samples, part, extractors)]
    sample = with_fitting_batch(
        trained, sample, max((len(samples.seeds_of(part)) for samples, part in missing), default=0), on_event
    )
    batches = [-(-len(samples.seeds_of(part)) // sample.batch_size) for samples, part in missing]
    steps = sample.sampler.number_of_steps(trained.schedule.timesteps)
    if missing:
        trained = with_fast_network(trained, sum(len(samples.seeds_of(part)) for samples, part in missing), sample, on_event)
    for number, (samples, part) in enumerate(missing):
        progress = _progress(on_event, sum(batches[:number]) * steps, sum(batches) * steps)
        _draw_part(samples, part, trained, sample, progress)
        for extractor in extractors:
            _look_at_part(samples, part, extractor, sample.batch_size)


def _is_missing(samples: SampleSet, part: int, extractors: Sequence[FeatureExtractor]) -> bool:
    paths = [samples.images_path(part), *(samples.features_path(part, extractor) for extractor in extractors)]
    return not all(path.exists() for path in paths)


def _progress(on_event: Listener, before: int, total: int) -> Listener:
    def listen(event: Event) -> None:
        if isinstance(event, SampleProgress):
            on_event(EvaluateProgress("samples", before + event.done, total, "denoising steps"))

    return listen


def _draw_part(samples: SampleSet, part: int, trained: TrainedModel, sample: SampleConfig, on_event: Listener) -> None:
    if not samples.images_path(part).exists():
        images = torch.cat(list(generate_samples(trained, samples.seeds_of(part), sample, on_event=on_event)))
        atomic_write(samples.images_path(part), summed({"images": trained.scale.view(images).contiguous()}))


def _look_at_part(samples: SampleSet, part: int, extractor: FeatureExtractor, batch_size: int) -> None:
    path = samples.features_path(part, extractor)
    if path.exists():
        return
    seen = [extractor(batch) for batch in in_batches(samples.images(part), batch_size)]
    found = {"features": torch.cat([one.features for one in seen]).cpu()}
    logits = [one.logits for one in seen if one.logits is not None]
    if logits:
        found["logits"] = torch.cat(logits).cpu()
    atomic_write(path, summed(found))
