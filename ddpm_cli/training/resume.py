"""Prepare what a run goes on with, and say what is to be said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_cli.config.resolve.changes import as_last_said, differences
from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.core.asking import as_option
from ddpm_cli.core.wording import counted
from ddpm_cli.data.images import pixel_sums
from ddpm_cli.errors import ConfigError, DataError, RunError
from ddpm_cli.results.data_change import FROM_THE_START, DataChange, Since
from ddpm_cli.runs.checkpoint_state import checked_scale
from ddpm_cli.runs.data_used import data_changes, kept_sums, missing_from, stand_in_notice, stood_in_for, with_data_of
from ddpm_cli.runs.directory import data_facts, read_info
from ddpm_cli.runs.record import budget_used, data_sha256, has_ended, read_config

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.data.scale import Scale
    from ddpm_cli.runs.checkpoints import Checkpoint
    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.trainer import Trainer


def stored_config(run: RunDirectory, checkpoint: Checkpoint | None) -> Config:
    """Read the config to go on with; a run whose own config is missing or damaged has that of its checkpoint.

    Raises:
        ConfigError: If the checkpoint's is no config.
        RunError: If there is no checkpoint and the run's own is missing or damaged.
    """
    if checkpoint is None:
        return read_config(run)
    stored = with_data_of(from_toml_text(checkpoint.config_toml, str(checkpoint.path)), run)
    try:
        return as_last_said(stored, read_config(run))
    except (RunError, ConfigError):
        return stored


def resume_flags(
    budget: Mapping[str, float | None] | None,
    device: str | None,
    deterministic: bool | None,
    spelt: Callable[[str], str] = as_option,
) -> dict[str, tuple[Any, str]]:
    """Say what the arguments of `ddpm resume` set, by dotted key, with the argument as `spelt` spells it."""
    flags: dict[str, tuple[Any, str]] = {f"train.{key}": (value, spelt(key)) for key, value in (budget or {}).items()}
    return flags | {"train.device": (device, spelt("device")), "train.deterministic": (deterministic, spelt("deterministic"))}


def resume_notices(trainer: Trainer, before: Config, run: RunDirectory, *, new_budget: bool) -> Iterator[str]:
    """Say what is to be known of a run that goes on otherwise than it was begun.

    Args:
        trainer: With its checkpoint restored.
        before: What the run was to go on with, without what was asked for now.
        run: Its folder.
        new_budget: Whether another end was asked for.
    """
    if stood_in_for(run):
        yield stand_in_notice(run)
    if new_budget:
        yield _new_learning_rate(trainer)
    if changed := differences(before, trainer.config):
        yield f"Changed for the rest of the run: {', '.join(changed)}."


def is_finished(run: RunDirectory, checkpoint: Checkpoint, config: Config, *, new_budget: bool) -> bool:
    """Tell whether the files of a run say that it has ended and nothing is due; no, where they do not say it.

    What `train.patience` stopped goes on with a new budget, be it the one of before.
    """
    try:
        info = read_info(run)
    except RunError:
        return False
    counted = isinstance(data_facts(info).get("train_images"), int)
    settled = not checkpoint.state.get("after_step_is_due", False)
    ended = budget_used(checkpoint, config, info) >= 1 if new_budget else has_ended(checkpoint, config, info)
    return (counted or config.train.epochs is None) and settled and ended


def data_since(
    run: RunDirectory, checkpoint: Checkpoint | None, config: Config, dataset: Dataset, *, data_changed: bool
) -> tuple[Since, DataChange | None]:
    """Find out from where on a run has its images, and what changed if it goes on with others.

    Args:
        run: Its folder.
        checkpoint: To go on from.
        config: Of the run.
        dataset: Its images, as they are now.
        data_changed: Whether others than those of the checkpoint are wanted.
    Raises:
        DataError: If they are others and not wanted, or have another range, another size, other channels or other classes.
    """
    step, state = (checkpoint.step, checkpoint.state) if checkpoint else (0, {})
    _require_same_scale(run, checkpoint, dataset)
    known = state["data_sha256"] if checkpoint else data_sha256(run)
    since = Since(**state["data_since"]) if "data_since" in state else FROM_THE_START
    if dataset.sha256 == known:
        return since, None
    info = read_info(run)
    newest = data_changes(info)[-1:]
    said = newest[0] if newest and newest[0].step == step else None  # it was killed before the next checkpoint
    name = run.shell_word
    if not data_changed and not (said and said.sha256 == dataset.sha256):
        raise DataError(
            f"{dataset.source} holds other training images than the run {run.path} was trained on.",
            f"If pictures of the same folder were added, removed or changed: ddpm resume {name} --data-changed. "
            f"To train on other data: ddpm train --from {name} --data DATA",
        )
    _require_same_kind(run, state, config, dataset)
    facts = data_facts(info).get("train_images")
    before = said.images_before if said else facts if isinstance(facts, int) and facts > 0 else len(dataset.train)
    before = max(1, before)  # a stranger's record may say anything
    epochs = since.epochs + (step - since.step) * config.train.batch_size / before
    return Since(step, epochs), _change(run, dataset, step, epochs, before, known, said)


def scale_of_run(run: RunDirectory, checkpoint: Checkpoint | None) -> Scale:
    """Read which values of the pixels are black and white in a run, from its checkpoint or else its run.json.

    Raises:
        CheckpointError: If it says no scale.
        RunError: If there is neither.
    """
    if checkpoint is not None:
        return checked_scale(checkpoint.state.get("scale"), checkpoint.path)
    return checked_scale(data_facts(read_info(run)).get("scale"), run.info_path)


def _require_same_scale(run: RunDirectory, checkpoint: Checkpoint | None, dataset: Dataset) -> None:
    """Refuse images whose values mean something else than those that the model was trained on."""
    before = scale_of_run(run, checkpoint)
    if dataset.scale != before:
        raise DataError(
            f"{dataset.source} has pixels from {dataset.scale} now, and the model of {run.path} was made for {before}.",
            f"Bring back the pictures that it was trained on, or start a new run with its weights: "
            f"ddpm train --from {run.shell_word} --data DATA",
        )


def _require_same_kind(run: RunDirectory, state: Mapping[str, Any], config: Config, dataset: Dataset) -> None:
    shape, classes = state.get("image_shape"), state.get("class_names")
    if shape is not None and tuple(shape) != dataset.image_shape:
        what = f"images of {dataset.image_shape[1]}x{dataset.image_shape[2]} with {counted(dataset.image_shape[0], 'channel')}"
    elif config.model.num_classes and classes is not None and classes != list(dataset.train.class_names):
        what = "other classes"
    else:
        return
    raise DataError(
        f"{dataset.source} has {what} now, which the model of {run.path} was not made for.",
        f"Start a new run with its weights: ddpm train --from {run.shell_word} --data DATA",
    )


def _change(
    run: RunDirectory, dataset: Dataset, step: int, epochs: float, before: int, sha256: str, said: DataChange | None
) -> DataChange:
    if said and said.sha256 == dataset.sha256:
        return said
    old = kept_sums(run) if said is None else None  # those that lie there are of the change that was not trained on
    added = removed = held_out = None
    if old is not None and len(old) == before:
        now = pixel_sums(dataset.train.images)
        added, removed = missing_from(now, old), missing_from(old, now)
        held_out = int(np.isin(pixel_sums(dataset.test.images), old).sum())
    return DataChange(step, epochs, before, len(dataset.train), added, removed, held_out, sha256, dataset.sha256)


def change_notice(change: DataChange) -> str:
    """Say what changed in the images of a run that goes on."""
    counts = f"{counted(change.images_before, 'image')} before, {change.images:,} now"
    if change.added is None or change.removed is None:
        which = ", of which the run has no sums, so that nothing tells which"
    else:
        which = f": {change.added:,} added, {change.removed:,} removed (one that was changed is both)"
    told = f"Goes on with other training images from step {change.step + 1:,} on: {counts}{which}."
    if change.held_out_trained:
        told += (
            f" {counted(change.held_out_trained, 'held-out image was', 'held-out images were')} trained on before, so that the "
            "held-out loss flatters the model."
        )
    return told


def finished_notice(run: RunDirectory, step: int, *, stopped: bool = False) -> str:
    """Say that a run's budget is used up, or that `train.patience` stopped it."""
    extend = f"--epochs, --steps or --minutes, for example: ddpm resume {run.shell_word} --steps {2 * step}"
    if stopped:
        return (
            f"{run.path} was stopped by train.patience at step {step:,}, as it no longer paid; there is nothing left to do. "
            f"Go on to its budget with --set train.patience=none, or to another one with {extend}"
        )
    return f"{run.path} is finished at step {step:,}; there is nothing left to do. Extend it with {extend}"


def _new_learning_rate(trainer: Trainer) -> str:
    decay = trainer.config.optimizer.decay
    if decay == "constant":
        return f"The learning rate stays at {trainer.lr():.2e}: it is constant, whatever the budget."
    return (
        f"The learning rate now falls ({decay}) over the new budget: it goes on from {trainer.lr():.2e}, "
        f"where the new curve stands at step {trainer.step:,}."
    )
