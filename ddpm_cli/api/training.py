"""Train from Python: `train`, `resume` and the run that they leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddpm_cli.api.arguments import Settings, as_argument, as_given_path, as_path, as_sets, as_text
from ddpm_cli.config.resolve.data_choice import data_flags
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.preset_files import preset_names
from ddpm_cli.core.names import as_known
from ddpm_cli.results.events import Listener, TrainSummary, ignore
from ddpm_cli.runs.directory import find_run as find_directory
from ddpm_cli.runs.directory import name_from
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory


@dataclass(frozen=True)
class Run:
    """Hold a run's folder: config, metrics, sample grids and checkpoints.

    Attributes:
        path: The folder.
        summary: How training ended; None for a run that was found rather than trained, or had ended before.
    """

    path: Path
    summary: TrainSummary | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Give the folder's own name."""
        return self.path.resolve().name

    def history(self) -> list[dict[str, float | int | None]]:
        """Read what was logged during training, the rows of metrics.jsonl.

        Returns:
            A row for each logging interval, in order: `step`, `epoch`, `images`, `seconds` and some of `loss` (the mean over the
            interval), `held_out_loss`, `lr`, `grad_norm`, `images_per_second`, and metrics of samples such as `fcd`. None stands
            for a number that was not finite.
        Raises:
            RunError: If the log cannot be read.
        """
        return read_rows(RunDirectory(self.path).metrics_log)


def find_run(run: str | Path | None = None, *, runs: str | Path = "runs") -> Run:
    """Find a run that was trained before.

    Args:
        run: Its name below `runs`, or its folder; the newest if None.
        runs: The folder of runs.
    Raises:
        RunError: If there is none.
    """
    return Run(find_directory(as_given_path(runs, "runs"), as_path(run, "run")).path)


def train(
    config: str | Path | None = None,
    *,
    data: str | Path | None = None,
    from_: Run | str | Path | None = None,
    freeze: str | None = None,
    set: Settings | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | Literal["auto"] | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    progress: bool = True,
    on_event: Listener = ignore,
) -> Run:
    """Train a model, as `ddpm train` does; without arguments a faithful DDPM on Fashion-MNIST.

    Defaults < preset, or without one the network of `from_` < TOML file < set and the other arguments.

    Interrupting (Ctrl-C, a notebook's stop button) saves first.

    Args:
        config: Name of a preset, such as "quick"; or a TOML file, as a Path or as text that ends in .toml.
        data: Name of a data set, a folder or archive of pictures, a folder of scans, a file of arrays such as .npz, or a scan.
        from_: Start from the weights of a run, its name below `runs`, its folder, a checkpoint, an exported file, or a folder of
            diffusers, wherever shapes fit; run.json lists which were taken, and why the others were not. Without a preset the
            schedule, model and objective are taken over too.
        freeze: Block such as "down.0", up to which the weights stay as `from_` gave them.
        set: Fields of the config by dotted key, such as {"schedule.kind": "cosine"}.
        epochs: Budget in passes over the data, above 0. Of several budgets the one that is used up first ends the run.
        steps: Budget in optimizer steps, at least 1.
        minutes: Budget in minutes, above 0.
        batch_size: Images per optimizer step, at least 1; "auto" takes as many as memory holds.
        lr: Peak learning rate, above 0.
        seed: Of everything random, in [0, 2**32).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        name: Of the run's folder; numbered after the config if None.
        runs: The folder of runs.
        progress: Show on stderr what the command shows.
        on_event: Told of everything that happens, see `ddpm_cli.events`: `TrainPlanned`, then `TrainProgress` for each step,
            `MetricsLogged`, `SamplesDrawn`, `CheckpointSaved`, `Notice` and others in between, and `TrainEnded`.
    Returns:
        The run, with its summary. Where a launcher starts again what had ended, the run of that name, or the newest.
    Raises:
        RequestError: If something asked for cannot be had, with all faults of the config; nothing was written then.
        InterruptedRunError: After an interrupt, when the run has been saved; `resume` goes on with it.
        DivergedError: If training produced no finite gradients.
        OutOfMemoryError: If the memory does not suffice.
        SaveFailedError: If the disk took no more; the checkpoints before are intact.
    """
    from ddpm_cli.render.terminal.training import shown_training
    from ddpm_cli.training.start.source import source_opener
    from ddpm_cli.training.train import train as run_training

    is_file = isinstance(config, Path) or (config is not None and as_text(config, "config").endswith(".toml"))
    file = as_path(config, "config") if is_file else None
    preset = str(config) if config is not None and file is None else None
    name = None if name is None else as_text(name, "name")
    find_batch_size = batch_size == "auto"
    flags = data_flags(None if data is None else str(data), "data") | {
        "train.epochs": (epochs, "epochs"),
        "train.steps": (steps, "steps"),
        "train.minutes": (minutes, "minutes"),
        "train.batch_size": (None if find_batch_size else batch_size, "batch_size"),
        "optimizer.lr": (lr, "lr"),
        "train.seed": (seed, "seed"),
        "train.device": (device, "device"),
        "start.weights": (from_.path if isinstance(from_, Run) else as_path(from_, "from_"), "from_"),
        "start.freeze": (freeze, "freeze"),
    }
    root = as_given_path(runs, "runs")
    resolved = load_config(preset=preset, file=file, sets=as_sets(set), flags=flags, open_source=source_opener(root)).config
    prefix = name_from(file) if file is not None else as_known(preset or "default", preset_names())
    with shown_training(on_event, progress=progress) as listen:
        result = run_training(resolved, runs=root, name=name, prefix=prefix, find_batch_size=find_batch_size, on_event=listen)
    return Run(result.run, result) if isinstance(result, TrainSummary) else find_run(name, runs=runs)


def distill(
    run: Run | str | Path | None = None,
    *,
    guidance: float | None = None,
    set: Settings | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    progress: bool = True,
    on_event: Listener = ignore,
) -> Run:
    """Make a new run of a trained one that draws images in 1, 2 or 4 steps, as `ddpm distill` does.

    It starts from the averaged weights of the old run, in which nothing changes. See `train` for all other arguments and errors.

    Args:
        run: A run, its name below `runs`, its folder, one of its checkpoints, or an exported file; the newest run if None.
        guidance: Scale of guidance that becomes the new model's own; that of the old run's config if None.
        set: Fields of the config by dotted key, over those of the old run and of distilling.
        epochs: Budget in passes over the data; without any budget it is three fifths of the old run's.
        steps: Budget in optimizer steps.
        minutes: Budget in minutes.
        seed: Of everything random; that of the old run if None.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        name: Of the new run's folder; numbered if None.
        runs: The folder of runs.
        progress: Show on stderr what the command shows.
        on_event: See `train`.
    Returns:
        The new run, with its summary.
    Raises:
        RequestError: If something asked for cannot be had, or nothing can be distilled from the old run; nothing was written then.
    """
    from ddpm_cli.render.terminal.training import shown_training
    from ddpm_cli.training.distillation.distill import distill_run

    root, path = as_given_path(runs, "runs"), run.path if isinstance(run, Run) else as_path(run, "run")
    name = None if name is None else as_text(name, "name")
    flags = {
        "train.epochs": (epochs, "epochs"),
        "train.steps": (steps, "steps"),
        "train.minutes": (minutes, "minutes"),
        "train.seed": (seed, "seed"),
        "train.device": (device, "device"),
    }
    with shown_training(on_event, progress=progress) as listen:
        result = distill_run(
            path,
            guidance=guidance,
            sets=as_sets(set),
            flags=flags,
            runs=root,
            name=name,
            spelt=as_argument,
            on_event=listen,
        )
    return Run(result.run, result) if isinstance(result, TrainSummary) else find_run(name, runs=root)


def resume(
    run: Run | str | Path | None = None,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    set: Settings | None = None,
    device: str | None = None,
    runs: str | Path = "runs",
    no_limits: bool = False,
    data_changed: bool = False,
    progress: bool = True,
    on_event: Listener = ignore,
) -> Run:
    """Go on with a run from its newest complete checkpoint, exactly where it stopped, as `ddpm resume` does.

    Args:
        run: A run, its name below `runs`, or its folder; the newest if None.
        epochs: New total in passes over the data, which extends a finished run; likewise the next two.
        steps: New total in optimizer steps.
        minutes: New total in minutes.
        set: Fields of the config that the rest of the run is to have, such as {"optimizer.lr": 1e-4}.
        device: Another device than the one it was started on.
        runs: The folder of runs.
        no_limits: Lift the limits on the images, time and memory that the run may ask for.
        data_changed: Go on with the images that its data has now: added, removed or changed since.
        progress: Show on stderr what the command shows.
        on_event: See `train`.
    Returns:
        The run, with its summary; without one if it had ended before and no new total extends it.
    Raises:
        RunError: If there is no such run, or another process works in it.
        ConfigError: If a field is none, or cannot change in the middle of a run.
        DataError: If its images have changed, without `data_changed`.
        CheckpointError: If there are checkpoints and all are damaged.
        InterruptedRunError: See `train`; so are the other errors.
    """
    from ddpm_cli.render.terminal.training import shown_training
    from ddpm_cli.training.train import resume as resume_training

    root, path = as_given_path(runs, "runs"), run.path if isinstance(run, Run) else as_path(run, "run")
    found = find_directory(root, path).path
    with shown_training(on_event, progress=progress) as listen:
        summary = resume_training(
            found,
            runs=root,
            budget={"epochs": epochs, "steps": steps, "minutes": minutes},
            device=device,
            sets=as_sets(set),
            no_limits=no_limits,
            data_changed=data_changed,
            spelt=as_argument,
            on_event=listen,
        )
    return Run(found, summary)
