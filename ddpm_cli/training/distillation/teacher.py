"""Find the model that another one is distilled from, and refuse what no consistency model can be made of. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.config.schema.objective import ConsistencyLoss
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.core.io.paths import shell_word
from ddpm_cli.core.wording import first_few
from ddpm_cli.errors import CheckpointError, ConfigError, DataError
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.sampling.stored import require_data
from ddpm_cli.sampling.stored_model import StoredModel, find_model

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.scale import Scale
    from ddpm_cli.training.start.source import Source
    from ddpm_cli.training.start.transfer import Transfer

ANOTHER = "Distil another run, or train one first: ddpm train --preset quick"


def find_teacher(path: Path | None, runs: Path = Path("runs"), on_event: Listener = ignore) -> StoredModel:
    """Find a model that can be distilled; of a run that still trains, its newest checkpoint.

    Args:
        path: See `find_model`.
        runs: The folder of runs.
        on_event: Told of damaged checkpoints that were passed over.
    Raises:
        RunError: If there is no such run, or it has no complete checkpoint or no data.
        CheckpointError: If it is damaged.
        ConfigError: If nothing can be distilled from it, saying why.
    """
    model = find_model(path, runs=runs, on_event=on_event)
    require_data(model.config, model.origin)
    if model.checkpoint is not None and not model.checkpoint.has("ema"):
        raise CheckpointError(f"{model.origin} has no ema tensors.", ANOTHER)
    _require_distillable(model)
    return model


def require_whole(config: Config, source: Source, image_shape: tuple[int, int, int], scale: Scale, transfer: Transfer) -> None:
    """Refuse a distillation that would not start from all of its teacher, or give its weights another meaning.

    Args:
        config: Of the new run.
        source: The teacher.
        image_shape: Of the new run's images.
        scale: Of their pixels.
        transfer: Which weights are taken.
    Raises:
        ConfigError: If the schedule, the prediction or the network is another, or the noise that the teacher is asked about; or if
            the teacher is a consistency model itself.
        DataError: If the images have another shape, or another range.
    """
    theirs = source.config
    if isinstance(theirs.objective.loss, ConsistencyLoss):
        raise ConfigError(
            f"{source.origin} is a consistency model already, and no teacher of one.",
            "Start from its teacher, or train another loss: --set objective.loss=simple --set objective.timesteps=uniform",
        )
    parts: dict[str, tuple[object, object]] = {
        "schedule": (config.schedule, theirs.schedule),
        "objective.parameterization": (config.objective.parameterization, theirs.objective.parameterization),
    }
    loss = config.objective.loss
    if isinstance(loss, ConsistencyLoss) and loss.needs_teacher:  # it is asked about noisy images, and knows those it has learned
        for field in ("coupling", "noise_candidates"):
            parts[f"objective.{field}"] = (getattr(config.objective, field), getattr(theirs.objective, field))
    for name, (ours, other) in parts.items():
        if ours != other:
            raise ConfigError(
                f"{name} is not that of the teacher {source.origin}: {_told(ours, other)}.", "Leave it out: it is the teacher's."
            )
    if source.image_shape != image_shape:
        sizes = [f"{channels} x {height} x {width}" for channels, height, width in (image_shape, source.image_shape)]
        raise DataError(f"The images are {sizes[0]}, but those of the teacher {sizes[1]}.", "Distil on the teacher's own data.")
    if isinstance(source.stored, StoredModel) and source.stored.scale != scale:
        raise DataError(
            f"The pixels go from {scale}, but those of the teacher from {source.stored.scale}.",
            "Distil on the teacher's own data, with its data.range.",
        )
    if others := [*transfer.new, *transfer.left, *transfer.adapted]:
        raise ConfigError(
            f"The network is not that of the teacher {source.origin}: {first_few(others)}.",
            "Leave model.* and data.augment out: they are the teacher's.",
        )


def _require_distillable(model: StoredModel) -> None:
    objective, origin = model.config.objective, model.origin
    if isinstance(objective.loss, ConsistencyLoss):
        own = model.config.start.weights
        again = f", or distil its teacher again: ddpm distill {shell_word(own)}" if own else ""
        raise ConfigError(f"{origin} is a consistency model already: there is nothing to distil.", f"Go on with its run{again}")
    if isinstance(model.config.schedule, LearnedSchedule):
        raise ConfigError(f"{origin} has a learned schedule, and distilling needs one that stays as it is.", ANOTHER)
    if not objective.parameterization.keeps_images:
        kind = objective.parameterization.kind
        message = (
            f'{origin} predicts "{kind}". Its estimate of an image without noise need not be that image, as distilling needs it.'
        )
        raise ConfigError(message, 'Train a teacher with objective.parameterization = "v".')
    if objective.reverse_variance == "learned-range":
        message = f"{origin} has learned the variance of its steps, of which a consistency model has no use."
        raise ConfigError(message, 'Train a teacher with objective.loss = "simple".')


def _told(ours: object, theirs: object) -> str:
    kinds = [getattr(part, "kind", "") for part in (ours, theirs)]
    return f'"{kinds[0]}", not "{kinds[1]}"' if kinds[0] != kinds[1] else f"{ours}, not {theirs}"
