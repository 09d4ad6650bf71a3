"""Handle what Accelerate's trackers do each in their own way: begin, go on with a run, take settings and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from accelerate.tracking import GeneralTracker
    from numpy.typing import NDArray

    from ddpm_cli.runs.run_directory import RunDirectory

    Settings = Mapping[str, Any]
    Picture = NDArray[np.uint8]

PROJECT = "ddpm"
"""The project, or experiment, under which trackers file all runs."""
SAMPLES = "samples"


@dataclass(frozen=True)
class Kind:
    """Describe one of Accelerate's trackers.

    Attributes:
        make: A tracker that is not started, from the run, what the tracker calls it (None for a new one), the steps taken before,
            and every setting by its dotted key.
        id_of: What a started tracker calls its run.
        log_picture: Tell a started tracker a picture, uint8 [H, W, 3 or 4], at a step.
        log_config: Tell it the settings of a run that is new to it, where `make` has not.
        finish: End its run.
    """

    make: Callable[[RunDirectory, str | None, int, Settings], GeneralTracker]
    id_of: Callable[[GeneralTracker], str]
    log_picture: Callable[[GeneralTracker, Picture, int], None]
    log_config: Callable[[GeneralTracker, Settings], None] = lambda tracker, config: None
    finish: Callable[[GeneralTracker], None] = lambda tracker: tracker.finish()


def _make_tensorboard(run: RunDirectory, known: str | None, step: int, config: Settings) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    # What a killed process logged after the checkpoint comes again.
    folder = run.tensorboard_folder
    return TensorBoardTracker(folder.name, folder.parent, purge_step=step + 1 if known else None)


def _log_config_as_text(tracker: GeneralTracker, config: Settings) -> None:
    tracker.log({"config": "\n".join(f"    {key} = {value}" for key, value in config.items())}, step=0)


def _log_to_tensorboard(tracker: GeneralTracker, picture: Picture, step: int) -> None:
    tracker.log_images({SAMPLES: picture[None]}, step=step, dataformats="NHWC")


def _make_wandb(run: RunDirectory, known: str | None, step: int, config: Settings) -> GeneralTracker:
    from accelerate.tracking import WandBTracker

    # wandb would take what the terminal shows, bars and all, for a log.
    own = {"name": run.name, "dir": str(run.path), "config": dict(config), "settings": {"console": "off"}}
    return WandBTracker(PROJECT, id=known, resume="allow" if known else None, **own)


def _log_to_wandb(tracker: GeneralTracker, picture: Picture, step: int) -> None:
    tracker.log_images({SAMPLES: [picture]}, step=step)


def _make_trackio(run: RunDirectory, known: str | None, step: int, config: Settings) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=known or run.name, resume="allow" if known else "never", config=dict(config))


def _log_to_trackio(tracker: GeneralTracker, picture: Picture, step: int) -> None:
    import trackio

    tracker.log({SAMPLES: trackio.Image(picture)}, step=step)


def _finish_trackio(tracker: GeneralTracker) -> None:
    import trackio

    trackio.finish()  # the tracker's own way leaves the run to be finished again, on stdout, when Python ends


def _make_mlflow(run: RunDirectory, known: str | None, step: int, config: Settings) -> GeneralTracker:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(PROJECT, run_id=known, run_name=run.name)


def _log_config_to_mlflow(tracker: GeneralTracker, config: Settings) -> None:
    tracker.store_init_configuration(dict(config))


def _log_to_mlflow(tracker: GeneralTracker, picture: Picture, step: int) -> None:
    import mlflow

    mlflow.log_image(picture, key=SAMPLES, step=step)


KINDS = {
    "tensorboard": Kind(_make_tensorboard, lambda tracker: "here", _log_to_tensorboard, _log_config_as_text),
    "wandb": Kind(_make_wandb, lambda tracker: str(tracker.tracker.id), _log_to_wandb),
    "trackio": Kind(_make_trackio, lambda tracker: str(tracker.tracker.name), _log_to_trackio, finish=_finish_trackio),
    "mlflow": Kind(_make_mlflow, lambda tracker: str(tracker.tracker.info.run_id), _log_to_mlflow, _log_config_to_mlflow),
}
