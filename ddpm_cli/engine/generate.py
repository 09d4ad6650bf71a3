"""Images out of noise: load a trained model, run the reverse process in batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddpm_cli.config.loader import from_toml_text
from ddpm_cli.data.batches import to_uint8
from ddpm_cli.diffusion.parameterization import make_denoise
from ddpm_cli.diffusion.sampling import ImageNoise, sample_steps
from ddpm_cli.engine.build import build_model, build_sampler, build_schedule
from ddpm_cli.errors import CheckpointError, RunError
from ddpm_cli.events import Listener, SampleProgress, ignore
from ddpm_cli.export.safetensors import load_model_file
from ddpm_cli.runs.checkpoints import latest_checkpoint, load_checkpoint
from ddpm_cli.runs.directory import find_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema import Config, SamplerConfig
    from ddpm_cli.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True)
class TrainedModel:
    """A network with all that is needed to sample from it.

    Attributes:
        network: In evaluation mode, on its device.
        schedule: The noise schedule that it was trained with.
        config: The config that it was trained with.
        image_shape: Channels, height and width of its images.
        origin: The run, checkpoint or file that it came from.
        step: Optimizer steps that it was trained for.
    """

    network: nn.Module
    schedule: NoiseSchedule
    config: Config
    image_shape: tuple[int, int, int]
    origin: Path
    step: int


def load_trained(path: Path | None, device: torch.device, *, ema: bool = True, runs: Path = Path("runs")) -> TrainedModel:
    """Load a model from a run, one of its checkpoints or an exported file.

    Args:
        path: A run folder or the name of one below `runs`, a checkpoint folder, or an exported `.safetensors` file;
            None takes the newest run below `runs`.
        device: Where the network goes.
        ema: Take the averaged weights, which give better images than the last ones.
        runs: The folder of runs.

    Raises:
        RunError: If there is no such run, or it has no complete checkpoint.
        CheckpointError: If the file is damaged or its weights do not fit its config.
    """
    if path is not None and path.is_file():
        return _from_file(path, device, ema)
    if path is not None and (path / "manifest.json").is_file():
        checkpoint = load_checkpoint(path)
    else:
        checkpoint = latest_checkpoint(find_run(runs, path, need_checkpoint=True))
    weights = checkpoint.tensors("ema" if ema else "model")
    return _trained(checkpoint.config_toml, checkpoint.state["image_shape"], weights, checkpoint.path, checkpoint.step, device)


def _from_file(path: Path, device: torch.device, ema: bool) -> TrainedModel:
    if not ema:
        raise RunError(f"{path} holds the EMA weights alone.", "Leave --no-ema out, or name the run instead of the file.")
    weights, metadata = load_model_file(path)
    try:
        facts = json.loads(metadata["ddpm"])
        config, shape, step = facts["config"], facts["image_shape"], facts["step"]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} was not written by `ddpm export`.", "Export the run again.") from error
    return _trained(config, shape, weights, path, step, device)


def model_facts(trained: TrainedModel, config_toml: str) -> dict[str, str]:
    """The metadata of an exported file: all that `load_trained` needs besides the weights."""
    return {"ddpm": json.dumps({"config": config_toml, "image_shape": trained.image_shape, "step": trained.step})}


def _trained(
    config_toml: str, image_shape: Any, weights: Mapping[str, Tensor], origin: Path, step: int, device: torch.device
) -> TrainedModel:
    config = from_toml_text(config_toml, str(origin))
    channels, height, width = _checked_shape(image_shape, origin)
    network = build_model(config.model, (channels, height, width))
    load_weights(network, weights, origin)
    schedule = build_schedule(config.schedule)
    return TrainedModel(
        network.eval().requires_grad_(False).to(device), schedule, config, (channels, height, width), origin, int(step)
    )


def _checked_shape(value: Any, origin: Path) -> tuple[int, int, int]:
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 < v <= 65536 for v in value):
        return value[0], value[1], value[2]
    raise CheckpointError(f"{origin} does not say how large its images are.", "Name another checkpoint.")


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Put weights into a network of the same architecture.

    Raises:
        CheckpointError: If names or shapes differ, naming the first that does.
    """
    expected = network.state_dict()
    for name in expected.keys() | weights.keys():
        ours, theirs = expected.get(name), weights.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            found = (
                "missing"
                if theirs is None
                else "not part of it"
                if ours is None
                else f"{tuple(theirs.shape)}, not {tuple(ours.shape)}"
            )
            raise CheckpointError(
                f"{origin} holds another architecture than its config describes: {name} is {found}.",
                "Use the config that the checkpoint was trained with.",
            )
    network.load_state_dict(dict(weights))


FrameListener = Callable[[int, int, Tensor], None]
MAX_FRAMES = 60


class Frames:
    """A frame listener that keeps up to MAX_FRAMES moments of the denoising, evenly spread, the last one always."""

    def __init__(self) -> None:
        self._kept: dict[int, list[Tensor]] = {}

    def __call__(self, index: int, total: int, x_s: Tensor) -> None:
        """Keep x_s [B, C, H, W] after denoising step `index` of `total` if its turn has come."""
        stride = -(-total // MAX_FRAMES)
        if (total - 1 - index) % stride == 0:
            self._kept.setdefault(index, []).append(to_uint8(x_s).cpu())

    def stacked(self) -> list[NDArray[np.uint8]]:
        """The frames in order, each uint8 [N, C, H, W] with all images."""
        return [torch.cat(self._kept[index]).numpy() for index in sorted(self._kept)]


def generate_samples(
    trained: TrainedModel,
    seeds: Sequence[int],
    *,
    sampler: SamplerConfig | None = None,
    batch_size: int | None = None,
    clip: bool | None = None,
    on_event: Listener = ignore,
    on_frame: FrameListener | None = None,
) -> Iterator[Tensor]:
    """Draw one image for each seed (DDPM, Alg. 2), batch by batch.

    Args:
        trained: The model.
        seeds: One for each image; an image depends on its own seed alone.
        sampler: How to denoise; the config's `sample.sampler` if None.
        batch_size: Images at a time; the config's if None.
        clip: Clip each estimate of x_0; the config's if None.
        on_event: Told of each denoising step.
        on_frame: Given (index of the step, number of steps, x_s [B, C, H, W]) after each denoising step of each batch.

    Yields:
        Images, uint8 [B, C, H, W] on the CPU, in the order of the seeds.
    """
    settings = trained.config.sample
    sampler = sampler or settings.sampler
    size = min(batch_size or settings.batch_size, len(seeds))
    device = next(trained.network.parameters()).device
    denoise = make_denoise(
        trained.network, trained.schedule, trained.config.objective.parameterization, clip=settings.clip if clip is None else clip
    )
    batches = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    done = 0
    for number, batch in enumerate(batches):
        step, timesteps = build_sampler(sampler, trained.schedule)
        noise = ImageNoise(batch, trained.image_shape, device)
        x_T = x_s = noise()
        for index, (x_s, _) in enumerate(sample_steps(denoise, step, timesteps, x_T, noise)):
            if on_frame is not None:
                on_frame(index, len(timesteps), x_s)
            images_done = number * size + (len(batch) if index + 1 == len(timesteps) else 0)
            done += 1
            on_event(SampleProgress(done, len(batches) * len(timesteps), images_done))
        yield to_uint8(x_s).cpu()
