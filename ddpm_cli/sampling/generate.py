"""Draw images out of noise: load a trained model, run the reverse process in batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddpm_cli.build.network import build_network
from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.sample import MAX_FRAMES
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.core.compute.allocator import keep_freed_memory
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.core.compute.out_of_memory import out_of_memory, sampling_error
from ddpm_cli.core.compute.weights import check_weights, load_weights
from ddpm_cli.data.batches import to_uint8
from ddpm_cli.diffusion.denoise import make_denoise
from ddpm_cli.errors import CheckpointError, OutOfMemoryError, RequestError, RunError
from ddpm_cli.results.events import Listener, Notice, SampleProgress, ignore
from ddpm_cli.runs.model_file import load_model_file
from ddpm_cli.sampling.bounds import with_fitting_batch
from ddpm_cli.sampling.courses import Course, FromNoise
from ddpm_cli.sampling.noise_ahead import noise_of_images
from ddpm_cli.sampling.stored import stored_schedule_weights
from ddpm_cli.sampling.stored_model import StoredModel, find_model
from ddpm_cli.sampling.trained_model import TrainedModel, guided_predictor, rehearse
from ddpm_cli.sampling.tuning.store import KEY, find_tuning, tuning_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.sample import SampleConfig

SCHEDULE = "schedule."


def load_trained(
    path: Path | None, device: torch.device, *, ema: bool = True, runs: Path = Path("runs"), on_event: Listener = ignore
) -> TrainedModel:
    """Load a model from a run, one of its checkpoints or an exported file.

    Args:
        path: See `find_model`, as for `ema`, `runs` and `on_event`.
        device: Where the network goes.
        ema: Take the averaged weights.
        runs: The folder of runs.
        on_event: Told of damaged checkpoints that were passed over.

    Raises:
        RunError: If there is no such run, or it has no complete checkpoint.
        CheckpointError: If the file is damaged or its weights do not fit its config.
    """
    return load_model(find_model(path, ema=ema, runs=runs, on_event=on_event), device, on_event=on_event)


def load_model(found: StoredModel, device: torch.device, *, on_event: Listener = ignore) -> TrainedModel:
    """Read the weights of a model that was found, and build its network with them.

    Args:
        found: See `find_model`.
        device: Where the network goes.
        on_event: Told of damaged checkpoints that were passed over, if another has to be taken.

    Raises:
        CheckpointError: If the file is damaged or its weights do not fit its config.
    """
    keep_freed_memory()
    try:
        weights, of_schedule = _weights(found)
    except CheckpointError:
        if found.origin.exists():
            raise
        # A process that trains in this run has saved a newer one, and removed this.
        return load_trained(found.asked, device, ema=found.ema, runs=found.runs, on_event=on_event)
    network = load_network(found.config, found.image_shape, weights, found.origin)
    schedule = build_schedule(found.config.schedule, of_schedule, found.origin)
    place_network(network.eval().requires_grad_(False), device)
    return TrainedModel(
        network,
        schedule,
        found.config,
        found.image_shape,
        found.origin,
        found.step,
        found.class_names,
        ema=found.ema,
        schedule_weights=of_schedule,
        runs=found.runs,
        width=found.width,
        scale=found.scale,
    )


def _weights(found: StoredModel) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Those of the network, and of a learned schedule."""
    schedule = found.config.schedule
    if found.checkpoint is not None:
        weights = found.checkpoint.tensors("ema" if found.ema else "model")
        return weights, stored_schedule_weights(found.checkpoint, schedule)
    weights, _ = load_model_file(found.origin)
    if not isinstance(schedule, LearnedSchedule):
        return weights, None
    of_schedule = {name.removeprefix(SCHEDULE): weights.pop(name) for name in list(weights) if name.startswith(SCHEDULE)}
    return weights, of_schedule


def all_weights(trained: TrainedModel) -> dict[str, Tensor]:
    """Collect the tensors of an exported file: the network's, and those of a learned schedule, whose names start with SCHEDULE."""
    of_schedule = trained.schedule_weights or {}
    return trained.network.state_dict() | {f"{SCHEDULE}{name}": weight for name, weight in of_schedule.items()}


def model_facts(trained: TrainedModel, *, half: bool) -> dict[str, str]:
    """Write the metadata of an exported file: all that `load_trained` needs besides the weights, and how these are stored."""
    facts: dict[str, Any] = {"image_shape": trained.image_shape, "step": trained.step, "class_names": trained.class_names}
    if trained.width is not None:
        facts["ema_width"] = trained.width
    facts |= trained.scale.facts()
    with suppress(RunError):  # damaged, of which `ddpm info` tells; the weights are as good without it
        if (tuning := find_tuning(trained.origin)) is not None:
            facts[KEY] = tuning_json(tuning)
    return {"ddpm": json.dumps({"config": to_toml(trained.config), **facts}), "ddpm_dtype": "float16" if half else "float32"}


def load_network(config: Config, image_shape: tuple[int, int, int], weights: Mapping[str, Tensor], origin: Path) -> nn.Module:
    """Load the network of a config with these weights, float32 on the CPU.

    Raises:
        CheckpointError: If they are another network's; `origin` is what the message names.
    """
    with torch.device("meta"):
        check_weights(build_network(config, image_shape), weights, origin)  # before one takes memory that is larger than the file
    network = build_network(config, image_shape)
    load_weights(network, weights, origin)
    return network


FROM_NOISE = FromNoise()
FrameListener = Callable[[int, int, Tensor], None]


class Frames:
    """Keep up to MAX_FRAMES moments of the denoising, evenly spread, the last one always; a frame listener."""

    def __init__(self) -> None:
        self._kept: dict[int, list[Tensor]] = {}

    def __call__(self, index: int, total: int, x_s: Tensor) -> None:
        """Keep the view in 8 bits of x_s [B, C, H, W] after denoising step `index` of `total` if its turn has come."""
        stride = -(-total // MAX_FRAMES)
        if (total - 1 - index) % stride == 0:
            self._kept.setdefault(index, []).append(to_uint8(x_s).cpu())

    def stacked(self) -> list[NDArray[np.uint8]]:
        """List the frames in order, each uint8 [N, C, H, W] with all images."""
        return [torch.cat(self._kept[index]).numpy() for index in sorted(self._kept)]


def generate_samples(
    trained: TrainedModel,
    seeds: Sequence[int],
    settings: SampleConfig | None = None,
    *,
    labels: Sequence[int] | None = None,
    course: Course = FROM_NOISE,
    on_event: Listener = ignore,
    on_frame: FrameListener | None = None,
) -> Iterator[Tensor]:
    """Draw one image for each seed (DDPM, Alg. 2), batch by batch; where memory does not suffice for a batch, in smaller ones.

    Args:
        trained: The model.
        seeds: One for each image; an image depends on its own seed and label alone.
        settings: Sampler, guidance, batch size and threshold; those of the model's config if None.
        labels: Class of each image, for a model that was trained with classes; those of `labels_from_seeds` if None.
        course: How images come about; out of noise alone if left out.
        on_event: Told of each denoising step.
        on_frame: Given (index of the step, number of steps, x_s [B, C, H, W]) after each denoising step of each batch.

    Yields:
        Images [B, C, H, W] on the CPU in the order of the seeds, as the model's data are stored (`trained.scale`), usually uint8.
    Raises:
        RequestError: If there are labels that the model does not know, or more or fewer than seeds.
        OutOfMemoryError: If there is no memory for a single image, or no longer for a batch whose first step went well.
    """
    settings = with_fitting_batch(trained, settings or trained.config.sample, len(seeds), on_event)
    size = min(settings.batch_size, len(seeds))
    device = trained.device
    num_classes = trained.num_classes
    labels = labels_from_seeds(seeds, num_classes) if labels is None else _checked_labels(labels, len(seeds), num_classes)
    predict, threshold = guided_predictor(trained, settings), settings.threshold.build()
    done = start = 0
    while start < len(seeds):
        batch = seeds[start : start + size]
        step, levels = settings.prepare(trained.schedule)
        of_batch = torch.tensor(labels[start : start + len(batch)], device=device) if labels else None
        denoise = make_denoise(predict, trained.schedule, threshold=threshold, labels=of_batch)
        length = course.length(levels)
        total = done + -(-(len(seeds) - start) // size) * length
        taken = 0
        try:
            with (
                out_of_memory(partial(sampling_error, partial(rehearse, trained, settings), len(batch), device)),
                noise_of_images(batch, trained.image_shape, device) as noise,
            ):
                for number, (x_s, _) in enumerate(course.run(denoise, step, levels, batch, noise), 1):
                    taken = min(number, length)
                    if on_frame is not None:
                        on_frame(taken - 1, length, x_s)
                    on_event(SampleProgress(done + taken, total, start + (len(batch) if taken == length else 0)))
        except OutOfMemoryError as error:
            if taken or error.fitted is None:  # of what took some steps, frames may have gone out
                raise
            size = error.fitted
            on_event(Notice(f"{error.message} Going on with as many, which changes no image.", important=True))
            continue
        done, start = done + taken, start + len(batch)
        yield trained.scale.restore(x_s).cpu()


def labels_from_seeds(seeds: Sequence[int], num_classes: int | None) -> list[int]:
    """Choose the class of each image where none is asked for: seed modulo num_classes, so that it follows from the seed alone.

    Empty for a model without classes.
    """
    return [] if num_classes is None else [seed % num_classes for seed in seeds]


def _checked_labels(labels: Sequence[int], images: int, num_classes: int | None) -> list[int]:
    if num_classes is None:
        raise RequestError("The model was trained without class labels.", "Train one with --set model.num_classes=auto.")
    if len(labels) != images or not all(0 <= label < num_classes for label in labels):
        raise RequestError(f"There must be {images:,} labels in [0, {num_classes}), one for each seed.", "Correct the labels.")
    return list(labels)
