"""Make averages of the weights in Python: `ema`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm_cli.api.arguments import as_argument, as_given_path, as_list, as_number, as_path, as_whole
from ddpm_cli.api.training import Run
from ddpm_cli.render.terminal.console import show_notices
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.results.interchange import AverageMade
from ddpm_cli.training.averages.making import make_averages


def ema(
    run: Run | str | Path | None = None,
    width: float | Sequence[float] = 0.05,
    *,
    step: int | None = None,
    out: str | Path | None = None,
    runs: str | Path = "runs",
    on_event: Listener = ignore,
) -> list[AverageMade]:
    """Make a model of an average of the weights over any part of the training, after the training, as `ddpm ema` does.

    Args:
        run: A run that was trained with `ema.widths`, its name below `runs` or its folder; the newest run if None.
        width: Relative standard deviation of the average's profile (Karras et al. 2024, EDM2), in (0, 0.28]; or several.
        step: At which the averages end; that of the newest checkpoint if None.
        out: File, for one width; `averages/width-W-step-N.safetensors` in the run's folder if None.
        runs: The folder of runs.
        on_event: Told where what the run kept is too coarse for a width.
    Returns:
        A result for each width: `path` of the model, which `load`, `evaluate` and `export` take, `width`, `step`, `stored`
        averages that it was made of, and `misfit`, how far its profile is from the one that was asked for, as a share of that.
    Raises:
        RequestError: If a width or the step cannot be had, or the run kept no averages; nothing was written then.
        OutputError: If a file cannot be written.
    """
    several = as_list(width, "width") if isinstance(width, Sequence) else [width]
    return make_averages(
        run.path if isinstance(run, Run) else as_path(run, "run"),
        [as_number(one, "width") for one in several],
        None if step is None else as_whole(step, "step"),
        as_path(out, "out"),
        runs=as_given_path(runs, "runs"),
        spelt=as_argument,
        on_event=together(show_notices, on_event),
    )
