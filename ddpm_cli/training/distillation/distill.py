"""Distil a trained model into one that draws images in a few steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpm_cli.core.asking import as_option
from ddpm_cli.core.launch import is_main, launch_key
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Listener, TrainPlan, TrainSummary, ignore
from ddpm_cli.runs.directory import check_new_run
from ddpm_cli.training.distillation.student import student_config
from ddpm_cli.training.distillation.teacher import find_teacher
from ddpm_cli.training.train import train

PREFIX = "distilled"


def distill_run(
    path: Path | None,
    *,
    guidance: float | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, tuple[Any, str]] | None = None,
    runs: Path = Path("runs"),
    name: str | None = None,
    dry_run: bool = False,
    spelt: Callable[[str], str] = as_option,
    on_event: Listener = ignore,
) -> TrainSummary | TrainPlan | None:
    """Train a consistency model from the averaged weights of another model, as a run of its own.

    Args:
        path: The teacher: a run folder or the name of one below `runs`, a checkpoint or an exported file; None takes the newest.
        guidance: Scale of guidance that becomes the new model's own; that of the teacher's config if None.
        sets: `section.key=value` texts, over what the teacher's config and distilling say.
        flags: See `load_config`.
        runs: The folder of runs.
        name: Of the new run; numbered if None.
        dry_run: See `train`.
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.
        on_event: Told of everything that happens.
    Returns:
        See `train`.
    Raises:
        RequestError: If something asked for cannot be had; nothing was written then. For the others see `train`.
    """
    tell = on_event if is_main() else ignore
    if path is None and launch_key():
        raise RequestError(
            "Under a launcher, which may start it again, `ddpm distill` must be told the run: the newest may be its own by then.",
            "Name it: ddpm distill RUN",
        )
    if is_main() and not launch_key():  # else the run may be there already, and `train` goes on with it
        check_new_run(runs, name, PREFIX)
    teacher = find_teacher(path, runs, tell)
    flags = {**(flags or {}), "objective.loss.guidance.scale": (guidance, spelt("guidance"))}
    config = student_config(teacher, sets=sets, flags=flags)
    return train(config, runs=runs, name=name, prefix=PREFIX, dry_run=dry_run, on_event=on_event)
