"""The end of a run whose numbers are lost: back to where they were good, and what to try from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.engine.advice import advice
from ddpm_cli.engine.health import CALM_STEPS
from ddpm_cli.errors import DivergedError
from ddpm_cli.events import Incident
from ddpm_cli.runs.going_back import newest_until, set_aside_after

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.engine.trainer import Trainer
    from ddpm_cli.events import Listener
    from ddpm_cli.runs.directory import RunDirectory


def roll_back(run: RunDirectory, trainer: Trainer, on_event: Listener) -> DivergedError:
    """Make the last checkpoint that is known to be good the newest of the run; for the main process.

    A checkpoint is known to be good if the step after it was in order; those that are newer are set aside under other names.
    Where none is known to be good all stay as they are.

    Args:
        run: The run, locked by this process.
        trainer: Of the run, after the last step.
        on_event: Told of the rollback.
    Returns:
        The error to raise, with what was done and what to try.
    Raises:
        OutputError: If the checkpoints cannot be renamed.
    """
    good = trainer.health.last_good_step
    step = None if good is None else newest_until(run, good)
    if step is None:
        done = "No checkpoint from before the trouble is left, so the run cannot go on: it has to be started anew."
    else:
        done = f"The run went back to its checkpoint of step {step:,}.{_told(set_aside_after(run, step))}"
        on_event(Incident(kind="rollback", step=step, from_step=trainer.step))
    precision = {"no": "fp32"}.get(trainer.accelerator.mixed_precision, trainer.accelerator.mixed_precision)
    remedies = "\n    ".join(advice(trainer.config, run.path, step, precision))
    return DivergedError(f"{what_happened(trainer)} {done}", f"Try one of these, or several together:\n    {remedies}")


def trouble_at_the_end(run: RunDirectory, trainer: Trainer) -> str | None:
    """What to say of a run that ends with a loss that leapt and did not come back; None if there is nothing to say."""
    health = trainer.health
    since, good = health.trouble_since, health.last_good_step
    if since is None or good is None or trainer.step - since < CALM_STEPS:
        return None
    step = newest_until(run, good)
    kept = "no checkpoint from before is left" if step is None else f"the last checkpoint from before is that of step {step:,}"
    return f"The loss left its range at step {since:,} and has not come back; {kept}. Try again with a lower optimizer.lr."


def what_happened(trainer: Trainer) -> str:
    """Why training cannot go on, in one sentence."""
    return (
        f"Training diverged: the loss or its gradient was not finite in {trainer.health.skipped_in_a_row} steps in a row, "
        f"the last being step {trainer.step:,}."
    )


def _told(moved: list[Path]) -> str:
    return f" Newer ones were set aside: {', '.join(map(str, reversed(moved)))}." if moved else ""
