"""Tune samplers of few steps in Python: `tune_sampler`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm_cli.api.arguments import (
    Settings,
    as_argument,
    as_given_path,
    as_list,
    as_number,
    as_path,
    as_text,
    as_whole,
    sampling_sets,
)
from ddpm_cli.api.training import Run
from ddpm_cli.render.terminal.evaluate import EvaluateView
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.results.tuning import Tuning
from ddpm_cli.sampling.request import Drawing
from ddpm_cli.sampling.tuning.request import USUAL_IMAGES, USUAL_STEPS, tune_run


def tune_sampler(
    run: Run | str | Path | None = None,
    steps: int | Sequence[int] = USUAL_STEPS,
    *,
    n: int = USUAL_IMAGES,
    seed: int = 0,
    guidance: float | None = None,
    batch_size: int | None = None,
    ema: bool = True,
    set: Settings | None = None,
    device: str = "auto",
    no_limits: bool = False,
    runs: str | Path = "runs",
    progress: bool = True,
    on_event: Listener = ignore,
) -> Tuning:
    """Find the solver and the steps that come closest to a run's own long trajectories, as `ddpm tune-sampler` does.

    What was found is stored with the run; `sample` and `evaluate` take it as the sampler "tuned".

    Args:
        run: A run, its name below `runs`, its folder, or one of its checkpoints; the newest run if None.
        steps: One or more numbers of steps, each from 2 to 50 and at most T.
        n: Noises to search with, from 1 to 10,000; twice as many others decide.
        seed: Another one takes other noises.
        guidance: Scale of guidance; the run's own if None.
        batch_size: Images at a time; the run's own if None.
        ema: Tune for the averaged weights.
        set: Fields of the config's section `sample` by dotted key.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        no_limits: Lift the limits on what the run may ask for.
        runs: The folder of runs.
        progress: Show a bar and notices on stderr.
        on_event: Told of `EvaluateProgress` for each sampler that is tried, and of `Notice`.
    Returns:
        All that is stored with the run now: `samplers`, each with its `steps`, `sampler`, and `distance` beside that of the untuned
        one.
    Raises:
        RequestError: If a number or field cannot be, or the model is an exported file; nothing was written then.
        OutOfMemoryError: If the memory does not suffice.
    """
    numbers = as_list(steps, "steps") if isinstance(steps, Sequence) else [steps]
    scale = None if guidance is None else as_number(guidance, "guidance")
    drawing: Drawing = {"guidance": scale, "batch_size": None if batch_size is None else as_whole(batch_size, "batch_size")}
    with EvaluateView() as view:
        found = tune_run(
            run.path if isinstance(run, Run) else as_path(run, "run"),
            [as_whole(number, "steps") for number in numbers],
            images=as_whole(n, "n"),
            seed=as_whole(seed, "seed", 0),
            drawing=drawing,
            sets=sampling_sets(set),
            ema=ema,
            runs=as_given_path(runs, "runs"),
            device=as_text(device, "device"),
            no_limits=no_limits,
            spelt=as_argument,
            on_event=together(view if progress else ignore, on_event),
        )
    return found.tuning
