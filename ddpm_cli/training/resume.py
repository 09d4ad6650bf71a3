"""Prepare what a run goes on with, and say what is to be said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.resolve.changes import as_last_said, differences
from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.core.asking import as_option
from ddpm_cli.errors import ConfigError, RunError
from ddpm_cli.runs.data_used import stand_in_notice, stood_in_for, with_data_of
from ddpm_cli.runs.directory import data_facts, read_info
from ddpm_cli.runs.record import budget_used, has_ended, read_config

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
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
