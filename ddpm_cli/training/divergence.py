"""End a run whose numbers are lost: go back to where they were good, and say what to try from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ddpm_cli.core.compute.device import precision_of
from ddpm_cli.errors import DivergedError
from ddpm_cli.results.events import Incident, Notice
from ddpm_cli.runs.going_back import newest_until, set_aside_after
from ddpm_cli.training.advice import advice
from ddpm_cli.training.health import CALM_STEPS

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.results.events import Listener
    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.trainer import Trainer


def end_diverged(run: RunDirectory, trainer: Trainer, on_event: Listener) -> NoReturn:
    """Go back to the last checkpoint that is known to be good, and raise the error that says so; for all processes together.

    A checkpoint is known to be good if the step after it was in order; those that are newer are set aside under other names.
    Where none is known to be good all stay as they are. `torchrun --max-restarts` cannot be told that a restart is of no use: it
    makes one, which goes on from that checkpoint, diverges at the same step, and ends with the same message.

    Args:
        run: The run, locked by the main process.
        trainer: Of the run, after the last step.
        on_event: Told of the rollback.
    Raises:
        DivergedError: Always; that of the main process says what was done and what to try.
        OutputError: If the checkpoints cannot be renamed.
    """
    happened = (
        f"Training diverged: the loss or its gradient was not finite in {trainer.health.skipped_in_a_row} steps in a row, "
        f"the last being step {trainer.settled_step:,}."
    )
    error = _roll_back(run, trainer, happened, on_event) if trainer.accelerator.is_main_process else DivergedError(happened)
    trainer.accelerator.wait_for_everyone()
    raise error


def _roll_back(run: RunDirectory, trainer: Trainer, happened: str, on_event: Listener) -> DivergedError:
    step = newest_until(run, trainer.health.last_good_step(trainer.step))
    if step is None:
        done = "No checkpoint from before the trouble is left, so the run cannot go on: it has to be started anew."
    else:
        done = f"The run went back to its checkpoint of step {step:,}.{_told(set_aside_after(run, step))}"
        on_event(Incident(kind="rollback", step=step, from_step=trainer.settled_step))
    remedies = "\n    ".join(advice(trainer.config, run.path, step, precision_of(trainer.accelerator)))
    return DivergedError(f"{happened} {done}", f"Try one of these, or several together:\n    {remedies}")


def _told(moved: list[Path]) -> str:
    return f" Newer ones were set aside: {', '.join(map(str, reversed(moved)))}." if moved else ""


def tell_of_trouble(run: RunDirectory, trainer: Trainer, on_event: Listener) -> None:
    """Tell, at the end of a run, of a loss that left its range and did not come back."""
    since = trainer.health.trouble_since
    if since is None or trainer.step - since < CALM_STEPS:
        return
    step = newest_until(run, trainer.health.last_good_step(trainer.step))
    kept = "no checkpoint from before is left" if step is None else f"the last checkpoint from before is that of step {step:,}"
    message = f"The loss left its range at step {since:,} and has not come back; {kept}. Try again with a lower optimizer.lr."
    on_event(Notice(message, important=True))
