"""Make a model of any average of the weights, out of those that a run kept while it trained (EDM2, Algorithm 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.config.schema.config import WIDEST
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.core.asking import as_option
from ddpm_cli.core.io.files import make_folder, require_writable_parent
from ddpm_cli.errors import CheckpointError, RequestError, RunError
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.results.interchange import AverageMade
from ddpm_cli.runs.checkpoints import Checkpoint, list_checkpoints, load_checkpoint, step_of
from ddpm_cli.runs.directory import checked_run
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.stored_model import StoredModel, find_model
from ddpm_cli.training.averages.power import Array, Profile, combination, misfit
from ddpm_cli.training.averages.snapshots import GROUP, Snapshot, list_snapshots, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FITTING = 0.06
"""Misfit above which it is told: below it, weights were at most 1e-3 off (tests/training/averages/test_power.py)."""
Spelt = Callable[[str], str]


@dataclass(frozen=True)
class InCheckpoint:
    """Hold the averages that a checkpoint holds.

    Attributes:
        checkpoint: It.
        profiles: Of its averages, in order.
    """

    checkpoint: Checkpoint
    profiles: tuple[Profile, ...]

    @property
    def path(self) -> Path:
        """Give its folder."""
        return self.checkpoint.path

    @property
    def step(self) -> int:
        """Give the step of the checkpoint."""
        return self.checkpoint.step

    def weights(self) -> list[Mapping[str, Tensor]]:
        """Read the weights of each average."""
        return split(self.checkpoint.tensors(GROUP), len(self.profiles))


Stored = Snapshot | InCheckpoint


def make_averages(
    path: Path | None,
    widths: Sequence[float],
    step: int | None = None,
    out: Path | None = None,
    *,
    runs: Path = Path("runs"),
    spelt: Spelt = as_option,
    on_event: Listener = ignore,
) -> list[AverageMade]:
    """Make a model of each width, a file that `sample`, `evaluate` and `export` take.

    Args:
        path: A run folder or the name of one below `runs`; None takes the newest run.
        widths: One or more.
        step: At which the averages end; that of the newest checkpoint if None.
        out: File, for one width; `averages/width-W-step-N.safetensors` in the run's folder if None.
        runs: The folder of runs.
        spelt: Spells the name of an argument as the user knows it.
        on_event: Told where what was kept is too coarse for a width.
    Raises:
        RequestError: If a width or the step cannot be had, or the run kept no averages; nothing was written then.
        OutputError: If a file cannot be written.
    """
    _check_widths(widths, out, spelt)
    if out is not None:
        require_writable_parent(out)
    newest = find_model(path, runs=runs, on_event=on_event)
    run = _run_of(newest)
    if not newest.config.ema.widths:
        raise RunError(
            f"{run.path} kept no averages that others could be made of.",
            "Train with --set ema.widths=[0.05,0.1], which keeps two.",
        )
    stored = _stored(run, newest)
    wanted = _wanted_step(step, newest, stored, spelt)
    model = _at_step(newest, run, wanted)
    before = [one for one in stored if one.step <= wanted]
    updates = next(one for one in before if one.step == wanted).profiles[0].updates
    profiles = [profile for one in before for profile in one.profiles]
    goals = [Profile(updates, width) for width in widths]
    shares = [combination(profiles, goal) for goal in goals]
    made = [out or run.averages_folder / f"width-{width:g}-step-{wanted:08d}.safetensors" for width in widths]
    offs = [misfit(profiles, of_goal, goal) for goal, of_goal in zip(goals, shares, strict=True)]
    for goal, off in zip(goals, offs, strict=True):
        if off > FITTING:
            on_event(Notice(f"What the run kept makes an average of width {goal.width:g} only to {off:.0%}.", important=True))
    sums = _summed(before, shares)
    if out is None:
        make_folder(run.averages_folder)
    for target, weights, goal in zip(made, sums, goals, strict=True):
        _write(model, weights, goal.width, target)
    return [AverageMade(*facts, wanted, len(profiles)) for facts in zip(made, widths, offs, strict=True)]


def _check_widths(widths: Sequence[float], out: Path | None, spelt: Spelt) -> None:
    if not widths:
        raise RequestError(f"{spelt('width')} names no width.", "Name one, such as 0.05.")
    wrong = next((width for width in widths if not 0 < width <= WIDEST), None)
    if wrong is not None:
        message = f"{spelt('width')} must be above 0 and at most {WIDEST:g}, not {wrong:g}: it is a share of the training."
        raise RequestError(message, "Try 0.05.")
    if out is not None and len(set(widths)) > 1:
        raise RequestError(f"{spelt('out')} names one file for {len(widths)} widths.", "Leave it out, or name one width.")


def _run_of(model: StoredModel) -> RunDirectory:
    run = RunDirectory(model.origin.parent.parent)
    if model.checkpoint is None or not run.info_path.is_file():
        raise RunError(f"{model.origin} belongs to no run, which could have kept averages.", "Name a run.")
    return checked_run(run)


def _stored(run: RunDirectory, newest: StoredModel) -> list[Stored]:
    """The snapshots up to the newest checkpoint, and the averages in checkpoints at other steps, in order."""
    snapshots: dict[int, Stored] = {one.step: one for one in list_snapshots(run, newest.step)}
    paths = [path for path in list_checkpoints(run) if step_of(path) <= newest.step and step_of(path) not in snapshots]
    checkpoints = {step_of(path): _in_checkpoint(load_checkpoint(path)) for path in paths}
    return [one for _, one in sorted((snapshots | checkpoints).items()) if one.profiles[0].updates > 0]


def _in_checkpoint(checkpoint: Checkpoint) -> InCheckpoint:
    widths = from_toml_text(checkpoint.config_toml, str(checkpoint.path)).ema.widths
    return InCheckpoint(checkpoint, tuple(Profile(checkpoint.state["ema_updates"], width) for width in widths))


def _wanted_step(step: int | None, newest: StoredModel, stored: Sequence[Stored], spelt: Spelt) -> int:
    there = [one.step for one in stored]
    wanted = newest.step if step is None else step
    if wanted not in there:
        listed = ", ".join(map(str, there)) or "none"
        raise RequestError(f"{spelt('step')} {wanted}: no averages were kept at that step.", f"There are: {listed}.")
    return wanted


def _at_step(newest: StoredModel, run: RunDirectory, step: int) -> StoredModel:
    """The model at that step, whose weights are yet to come; a learned schedule is that of a checkpoint."""
    if step == newest.step or not isinstance(newest.config.schedule, LearnedSchedule):
        return replace(newest, step=step)
    found = {step_of(path): path for path in list_checkpoints(run)}
    if step not in found:
        message = f"The schedule of {run.path} is learned, and at step {step} no checkpoint holds it."
        raise CheckpointError(message, f"Checkpoints: {', '.join(map(str, found))}.")
    return find_model(found[step])


def _summed(stored: Sequence[Stored], shares: Sequence[Array]) -> list[dict[str, Tensor]]:
    """Add up what is stored, in float64 and one file after the other, for each of some lists of shares.

    Raises:
        CheckpointError: If one file holds the weights of another network than the others.
    """
    sums: list[dict[str, Tensor]] = [{} for _ in shares]
    place = 0
    for one in stored:
        for weights in one.weights():
            if sums[0] and _shapes(weights) != _shapes(sums[0]):
                raise CheckpointError(f"{one.path} holds averages of another network than the others.", "Remove it.")
            for total, of_goal in zip(sums, shares, strict=True):
                for name, tensor in weights.items():
                    total[name] = total.get(name, 0.0) + tensor.double() * float(of_goal[place])
            place += 1
    return sums


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _write(model: StoredModel, weights: Mapping[str, Tensor], width: float, out: Path) -> None:
    from ddpm_cli.build.schedule import build_schedule
    from ddpm_cli.runs.model_file import save_model_file
    from ddpm_cli.sampling.generate import all_weights, load_network, model_facts
    from ddpm_cli.sampling.stored import stored_schedule_weights
    from ddpm_cli.sampling.trained_model import TrainedModel

    assert model.checkpoint is not None  # _run_of has seen to it
    of_schedule = stored_schedule_weights(model.checkpoint, model.config.schedule)
    network = load_network(model.config, model.image_shape, {name: one.float() for name, one in weights.items()}, model.origin)
    trained = TrainedModel(
        network,
        build_schedule(model.config.schedule, of_schedule, model.origin),
        model.config,
        model.image_shape,
        model.origin,
        model.step,
        model.class_names,
        schedule_weights=of_schedule,
        width=width,
        scale=model.scale,
    )
    save_model_file(out, all_weights(trained), model_facts(trained, half=False))


def parse_widths(text: str) -> Iterator[float]:
    """Read widths from a list with commas.

    Raises:
        RequestError: If one is no number.
    """
    for part in text.split(","):
        try:
            yield float(part)
        except ValueError:
            raise RequestError(f"--width {text!r}: {part!r} is no number.", "Write for example --width 0.05,0.1") from None
