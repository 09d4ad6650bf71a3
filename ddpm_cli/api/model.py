"""A trained model in Python: `load` and what can be drawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.api.arguments import Settings, as_path, sampling_flags, sampling_sets
from ddpm_cli.api.training import Run
from ddpm_cli.config.resolve.loader import override
from ddpm_cli.core.compute.device import resolve_device
from ddpm_cli.core.compute.team import Team
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.data.pictures.classes import find_class
from ddpm_cli.errors import RequestError
from ddpm_cli.render.terminal.console import show_notices
from ddpm_cli.render.terminal.sampling import SamplingView
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.sampling.bounds import Demand, require_affordable
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.generate import Frames, load_trained
from ddpm_cli.sampling.parallel import shared_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.diffusion.schedules import NoiseSchedule
    from ddpm_cli.sampling.generate import FrameListener
    from ddpm_cli.sampling.trained_model import TrainedModel

MAX_SEED = 10**18 - 1

Labels = int | str | Sequence[int | str]


def load(run: Run | str | Path | None = None, *, device: str = "auto", ema: bool = True, runs: str | Path = "runs") -> Model:
    """Load a trained model.

    Args:
        run: A run, its name below `runs`, its folder, one of its checkpoints, or an exported `.safetensors` file; the newest run
            if None.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        ema: Take the averaged weights, which give better images than the last ones.
        runs: The folder of runs.
    Raises:
        RunError: If there is no such run, or it has no checkpoint yet.
        CheckpointError: If the file is damaged, or its weights do not fit its config.
        DeviceError: If this machine lacks the device.
    """
    path = run.path if isinstance(run, Run) else as_path(run, "run")
    return Model(load_trained(path, resolve_device(device), ema=ema, runs=user_path(runs, "runs"), on_event=show_notices))


class Model:
    """A trained model, on its device, ready to sample; made by `load`.

    An image depends on its seed, and its class, alone: not on the others that are drawn with it, nor on the batch size.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self._trained = trained

    def __repr__(self) -> str:
        channels, height, width = self.image_shape
        return f"Model({str(self.origin)!r}, step {self.step:,}, images {height}x{width}x{channels})"

    @property
    def network(self) -> nn.Module:
        """Takes x_t [B, C, H, W], t int64 [B], and labels int64 [B] if it was trained with classes; returns its prediction."""
        return self._trained.network

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that it was trained with."""
        return self._trained.schedule

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        return self._trained.image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class that it takes as a label; none if it takes no labels."""
        return () if self._trained.num_classes is None else self._trained.class_names

    @property
    def step(self) -> int:
        """Optimizer steps that it was trained for."""
        return self._trained.step

    @property
    def origin(self) -> Path:
        """The checkpoint or file that it came from."""
        return self._trained.origin

    def sample(
        self,
        n: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        labels: Labels | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        set: Settings | None = None,
        no_limits: bool = False,
        progress: bool = True,
        on_event: Listener = ignore,
    ) -> NDArray[np.uint8]:
        """Draw images out of noise (DDPM, Alg. 2), as `ddpm sample` does.

        Args:
            n: Images, at least 1, with the seeds 0 to n - 1; `sample.n` of the run's config if there are no seeds either.
            seeds: One for each image instead, each in [0, 10**18).
            labels: Class by number or name, one for all images or one for each; class number seed modulo the number of classes
                if None. For a model that was trained with classes.
            sampler: "ddpm", "ddim", "euler", "heun", "dpm-solver++" or "unipc"; as in the run's config if None, like all below.
            steps: Of the sampler, in [1, T].
            guidance: Scale of classifier-free guidance: 1 follows the label, more does so closely, 0 ignores it.
            batch_size: Images at a time, at least 1; does not change them.
            set: Fields of the config's section `sample` by dotted key, such as {"sample.threshold": "dynamic"}.
            no_limits: Lift the limits on the images, time and memory that the run or file may ask for.
            progress: Show a bar on stderr if that is a terminal.
            on_event: Told of `SampleProgress` for each denoising step of each batch.
        Returns:
            Images in the order of the seeds, NumPy uint8 [N, H, W, C] in [0, 255]; C is 1 for grey ones.
        Raises:
            RequestError: If a number is out of its range, there is no such sampler, class or field, or the model asks for more
                images, time or memory than it may.
            OutOfMemoryError: With the largest batch that there is memory for.
        """
        settings = self._settings(sampler, steps, guidance, batch_size, set)
        chosen = self._seeds(n, seeds, settings)
        demand = Demand.of(self._trained, settings, len(chosen), images_from_file=n is None and seeds is None)
        require_affordable(self._trained, settings, demand, Bounds(lifted=no_limits), together(show_notices, on_event))
        return self._draw(chosen, labels, settings, progress, on_event)

    def trajectory(
        self,
        n: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        labels: Labels | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        set: Settings | None = None,
    ) -> NDArray[np.uint8]:
        """Draw the images that `sample` draws, and keep how they came out of noise.

        Args:
            n: See `sample`, as for the others.
            seeds: One for each image.
            labels: One for all images or one for each.
            sampler: Name of the sampler.
            steps: Of the sampler.
            guidance: Scale of the guidance.
            set: Fields of the config's section `sample`.
        Returns:
            x_s after up to 60 of the steps, evenly spread; the last are the images. NumPy uint8 [F, N, H, W, C].
        Raises:
            RequestError: See `sample`.
            OutOfMemoryError: See `sample`.
        """
        settings, frames = self._settings(sampler, steps, guidance, None, set), Frames()
        self._draw(self._seeds(n, seeds, settings), labels, settings, progress=False, on_frame=frames)
        return np.stack([_channels_last(frame) for frame in frames.stacked()])

    def _settings(
        self, sampler: str | None, steps: int | None, guidance: float | None, batch_size: int | None, settings: Settings | None
    ) -> SampleConfig:
        flags = sampling_flags(sampler=sampler, steps=steps, guidance=guidance, batch_size=batch_size)
        return override(self._trained.config, sets=sampling_sets(settings), flags=flags).sample

    def _seeds(self, n: int | None, seeds: Sequence[int] | None, settings: SampleConfig) -> list[int]:
        if n is not None and seeds is not None:
            raise RequestError("seeds says which images to draw, so that n has no place beside it.", "Leave one of them out.")
        found = list(range(settings.n if n is None else n)) if seeds is None else [int(seed) for seed in seeds]
        if not found:
            raise RequestError("There must be at least one image to draw.", "Give a positive n, or seeds.")
        if min(found) < 0 or max(found) > MAX_SEED:
            raise RequestError(f"Seeds must be in [0, {MAX_SEED + 1}).", "Give other seeds.")
        return found

    def _labels(self, labels: Labels, images: int) -> list[int]:
        if not self.class_names:
            raise RequestError(
                f"{self.origin} was trained without class labels, so that they mean nothing to it.",
                'Leave labels out, or train a model with set={"model.num_classes": "auto"}.',
            )
        each = [labels] * images if isinstance(labels, int | str) else labels
        return [find_class(str(label), self.class_names) if isinstance(label, str) else label for label in each]

    def _draw(
        self,
        seeds: list[int],
        labels: Labels | None,
        settings: SampleConfig,
        progress: bool,
        on_event: Listener = ignore,
        on_frame: FrameListener | None = None,
    ) -> NDArray[np.uint8]:
        classes = None if labels is None else self._labels(labels, len(seeds))
        with SamplingView() as view:
            listen = together(view if progress else ignore, on_event)
            batches = shared_samples(Team(), self._trained, seeds, settings, labels=classes, on_event=listen, on_frame=on_frame)
            return _channels_last(np.concatenate([batch.numpy() for batch in batches]))


def _channels_last(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
