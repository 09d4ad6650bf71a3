"""What a sweep will do: its runs, checked against what lies in its folder, and how long they will take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ddpm_cli.config.changes import differences
from ddpm_cli.config.loader import override
from ddpm_cli.engine.build import self_contained
from ddpm_cli.engine.run_record import budget_used, read_config
from ddpm_cli.engine.train import train
from ddpm_cli.errors import RequestError, RunError
from ddpm_cli.events import Event, Listener, Notice, PlannedRun, SweepPlan, TrainPlan, ignore
from ddpm_cli.files import require_writable_folder
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.directory import RunDirectory, read_info
from ddpm_cli.runs.sweep_state import read_failures
from ddpm_cli.wording import first_few

if TYPE_CHECKING:
    from ddpm_cli.config.schema import Config
    from ddpm_cli.config.sweep import Sweep, SweepRun

Standing = Literal["new", "begun", "finished", "failed"]
LEFT = ("new", "begun")


@dataclass(frozen=True)
class CheckedSweep:
    """A sweep of which every run fits what lies in its folder.

    Attributes:
        sweep: What was asked for.
        plan: What is left to do.
        failures: Why runs failed, by name.
    """

    sweep: Sweep
    plan: SweepPlan
    failures: Mapping[str, str]


def plan_sweep(sweep: Sweep, *, runs: Path = Path("runs"), on_event: Listener = ignore) -> CheckedSweep:
    """See what is left to do, and resolve every arm with its data and its network; nothing is written.

    Raises:
        RunError: If a run of that name was made with another config.
        RequestError: If an arm cannot be trained or a metric does not exist.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError("A sweep makes its runs in one process.", "Start it without torchrun.")
    if sweep.evaluate is not None:
        from ddpm_cli.engine.evaluate import check_metrics

        check_metrics(sweep.evaluate.metrics)
    folder = runs / sweep.name
    require_writable_folder(folder if runs.is_dir() else runs)
    if RunDirectory(folder).info_path.exists():
        raise RunError(f"{folder} is a run, not the folder of a sweep.", "Give the sweep another name: --name NAME")
    failures = read_failures(folder)
    standings = {run.name: _standing(run, RunDirectory(folder / run.name), failures) for run in sweep.runs}
    plans = _plans(sweep, standings, notices_once(on_event))
    planned = []
    for run in sweep.runs:
        standing, seconds = standings[run.name], 0.0
        if standing in LEFT:
            seconds = (plans[run.arm].estimated_seconds or 0.0) + _sampling_seconds(sweep, run.config, plans[run.arm])
        planned.append(PlannedRun(run.name, run.arm, run.config.train.seed, run.settings, standing, seconds))
    points = sweep.points if sweep.evaluate else ()
    return CheckedSweep(sweep, SweepPlan(sweep.name, folder, tuple(planned), points), failures)


def _standing(run: SweepRun, folder: RunDirectory, failures: Mapping[str, str]) -> Standing:
    if not folder.config_path.exists():
        return "new"
    _require_same(run, folder)
    if run.name in failures:
        return "failed"
    if not any(folder.checkpoints_folder.glob("step-*")):
        return "new"
    return "finished" if budget_used(latest_checkpoint(folder), run.config, read_info(folder)) >= 1 else "begun"


def _require_same(run: SweepRun, folder: RunDirectory) -> None:
    stored = read_config(folder)
    if changed := differences(_compared(stored, stored), _compared(run.config, stored)):
        raise RunError(
            f"{folder.path} was made with another config than the file asks for now: {first_few(changed)}.",
            "Restore the file, give the sweep another name (--name NAME), or remove that folder to make the run anew.",
        )


def _compared(config: Config, stored: Config) -> Config:
    """A config without its device, and with what training fills in from the data as `stored` has it."""
    config = self_contained(config)
    model = config.model
    if model.num_classes == "auto":
        model = model.model_copy(update={"num_classes": stored.model.num_classes})
    return config.model_copy(update={"model": model, "train": config.train.model_copy(update={"device": "auto"})})


def _plans(sweep: Sweep, standings: Mapping[str, Standing], on_event: Listener) -> dict[str, TrainPlan]:
    """What one run of each arm that still trains will cost."""
    left = {run.arm: run for run in sweep.runs if standings[run.name] in LEFT}
    plans = {}
    for arm, run in left.items():
        plan = train(run.config, dry_run=True, on_event=on_event)
        assert isinstance(plan, TrainPlan)
        plans[arm] = plan
    return plans


def notices_once(on_event: Listener) -> Listener:
    """A listener that hands on each notice once, however many arms or settings give it, and every other event."""
    said: set[str] = set()

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            if event.message in said:
                return
            said.add(event.message)
        on_event(event)

    return listen


def _sampling_seconds(sweep: Sweep, config: Config, plan: TrainPlan) -> float:
    """Roughly, a forward pass being a third of a step of training; 0 where that is not known."""
    if sweep.evaluate is None or plan.total_steps is None or plan.estimated_seconds is None:
        return 0.0
    forward = plan.estimated_seconds / (3 * plan.total_steps * plan.batch_size)
    samplers = [override(config, flags=sampling_flags(point)).sample.sampler for point in sweep.points]
    evaluations = sum(sampler.evaluations(config.schedule.timesteps) for sampler in samplers)
    return forward * evaluations * sweep.evaluate.repeats * (sweep.evaluate.n or 1000)


def sampling_flags(point: Mapping[str, object]) -> dict[str, tuple[object, str]]:
    """Settings of sampling, as `config.loader` takes flags."""
    return {key: (value, "[evaluate]") for key, value in point.items()}
