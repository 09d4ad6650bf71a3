"""Check what is asked of tuning, and tune the samplers of a run. What is wrong with a request is found before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.config.schema.objective import ConsistencyLoss
from ddpm_cli.core.asking import as_option
from ddpm_cli.core.compute.device import check_device, resolve_device
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.results.tuning import Tuning
from ddpm_cli.runs.directory import checked_run
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.request import GUIDE, Drawing, settings_of
from ddpm_cli.sampling.stored_model import find_model
from ddpm_cli.sampling.tuning.search import LEAST_STEPS, MOST_STEPS
from ddpm_cli.sampling.tuning.store import stored_steps, write_tuning

if TYPE_CHECKING:
    from ddpm_cli.sampling.trained_model import TrainedModel

USUAL_STEPS = (5, 8, 10)
USUAL_IMAGES = 64
MOST_IMAGES = 10_000
MOST_SEEDS = 10**9


@dataclass(frozen=True)
class TunedRun:
    """Hold what came of tuning.

    Attributes:
        trained: The model.
        run: Its run.
        tuning: All that is stored of it now.
    """

    trained: TrainedModel
    run: RunDirectory
    tuning: Tuning


def tune_run(
    path: Path | None,
    steps: Sequence[int] = USUAL_STEPS,
    *,
    images: int = USUAL_IMAGES,
    seed: int = 0,
    drawing: Drawing | None = None,
    sets: Sequence[str] = (),
    ema: bool = True,
    runs: Path = Path("runs"),
    device: str = "auto",
    no_limits: bool = False,
    spelt: Callable[[str], str] = as_option,
    on_event: Listener = ignore,
) -> TunedRun:
    """Tune samplers of few steps to a run, see `tune`, and store them with it.

    Args:
        path: A run folder or the name of one below `runs`, or one of its checkpoints; None takes the newest run.
        steps: Numbers of steps.
        images: Noises that steps are searched with, from 1 to MOST_IMAGES.
        seed: Of the search, from 0 to MOST_SEEDS.
        drawing: Guidance and batch size, if they are not the run's.
        sets: `sample.key=value` texts.
        ema: Tune for the averaged weights.
        runs: The folder of runs.
        device: auto, cpu, cuda, cuda:N or mps.
        no_limits: Lift the bounds on what the run may ask for.
        spelt: See `flags_of`.
        on_event: Told of `EvaluateProgress` and `Notice`.
    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
        OutOfMemoryError: If the memory does not suffice.
    """
    _require_within("steps", steps, LEAST_STEPS, MOST_STEPS, spelt)
    _require_within("n", [images], 1, MOST_IMAGES, spelt)
    _require_within("seed", [seed], 0, MOST_SEEDS, spelt)
    check_device(device)
    found = find_model(path, ema=ema, runs=runs, on_event=on_event)
    run = RunDirectory(found.origin.parent.parent)
    if found.checkpoint is None or not run.info_path.is_file():
        raise RequestError(
            f"{found.origin} belongs to no run, which tuned samplers could be stored with.",
            "Name a run; what is exported of it later holds them too.",
        )
    checked_run(run)
    if isinstance(found.config.objective.loss, ConsistencyLoss):
        raise RequestError(
            f"{found.origin} was distilled: it says where trajectories end, and has none of its own to come close to.",
            "Tune the run that it was distilled from.",
        )
    settings = settings_of(found, drawing or {}, sets, spelt)
    if settings.guide.model is not None:
        raise RequestError(f"{GUIDE} has no place here: a sampler is tuned for one model alone.", "Leave it out.")
    if not settings.path.is_own:
        remedy = f"Leave it out, or where the run has it: {spelt('set')} sample.path=own"
        raise RequestError("sample.path has no place here: tuned steps are those of the model's own schedule.", remedy)
    T = found.config.schedule.timesteps
    _require_within("steps", steps, LEAST_STEPS, min(T, MOST_STEPS), spelt)

    from ddpm_cli.sampling.bounds import require_affordable
    from ddpm_cli.sampling.generate import load_model
    from ddpm_cli.sampling.tuning.tune import demand_of, tune

    trained = load_model(found, resolve_device(device), on_event=on_event)
    require_affordable(trained, settings, demand_of(trained, steps, images), Bounds(lifted=no_limits, spelt=spelt), on_event)
    weights = "EMA" if ema else "last"
    on_event(Notice(f"Tuning samplers for {trained.origin} (step {trained.step:,}, {weights} weights)."))
    tuning = tune(trained, steps, settings, images=images, seed=seed, on_event=on_event)
    before, stored = stored_steps(run), write_tuning(run, tuning)
    if gone := sorted(before - {found.steps for found in stored.samplers}):
        numbers = ", ".join(map(str, gone))
        on_event(Notice(f"What was tuned before for {numbers} steps is gone: it was for other weights, or found in another way."))
    return TunedRun(trained, run, stored)


def _require_within(name: str, values: Sequence[int], least: int, most: int, spelt: Callable[[str], str]) -> None:
    if not values:
        raise RequestError(f"{spelt(name)} names no number.", f"Name one or more from {least} to {most:,}.")
    wrong = next((value for value in values if not least <= value <= most), None)
    if wrong is not None:
        raise RequestError(f"{spelt(name)} {wrong:,} must be from {least} to {most:,}.", "Choose another number.")
