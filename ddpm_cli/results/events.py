"""Tell listeners, such as the progress bar or the metrics log, what long jobs do; they know nothing of consoles or log files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.results.outlook import NoLongerPaid, Outlook
    from ddpm_cli.results.start import StartReport


@dataclass(frozen=True, slots=True)
class Event:
    """Tell that something happened; all events are below it."""


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Tell the user something that is no error.

    Attributes:
        message: One or two sentences.
        important: True where it changes what the result means.
    """

    message: str
    important: bool = False


@dataclass(frozen=True, slots=True)
class DataProgress(Event):
    """Tell that one more image of a data set was worked on.

    Attributes:
        done: Images so far.
        total: All of them.
        what: What is done with them, such as "decoding pictures".
    """

    done: int
    total: int
    what: str


@dataclass(frozen=True, slots=True)
class Compiling(Event):
    """Tell that a network is being compiled, which takes up to minutes in which nothing else happens, or has been.

    Attributes:
        seconds: It took; None at the beginning.
    """

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """Hold what a run will do, known before its first step.

    Attributes:
        run: Its folder, or None for a dry run.
        data: Name of the data set.
        data_source: Where its files came from.
        train_images: Images to train on.
        held_out_images: Images that are not trained on; 0 if none are held out.
        evaluated_images: Of these, those that the held-out loss is measured on.
        image_shape: Channels, height and width.
        network: What the network is called.
        parameters: Numbers in it.
        flops_per_image: Floating-point operations of one forward pass of one image.
        device: Where it trains.
        precision: fp32, bf16 or fp16.
        processes: Processes that share each batch.
        batch_size: Images per optimizer step over all processes.
        objective: One line on what is learned.
        start_step: Steps taken already.
        total_steps: Steps at the end, or None where minutes alone end the run.
        minutes: Budget in minutes, or None.
        epochs: Passes over the data at the end, or None where minutes alone end the run.
        estimated_seconds: Until the end, from a few timed passes; None for a sharded model, of which one process cannot tell.
        estimated_bytes: The most memory that each process will hold: on a CPU all of it, on an accelerator its tensors there;
            None likewise.
        batch_size_found: Whether `--batch-size auto` found the batch size.
        lost_to_others: Part of the processors that other programs had while passes were timed, in [0, 1]; the estimate holds as
            long as they go on.
        start: What the weights start from; None for random ones, and for a run that goes on.
        frozen_parameters: How many of the numbers stay as they are.
        pixels: The range of the pixels and how they are stored, a phrase for people; empty for the usual 8 bits.
    """

    run: Path | None
    data: str
    data_source: str
    train_images: int
    held_out_images: int
    evaluated_images: int
    image_shape: tuple[int, int, int]
    network: str
    parameters: int
    flops_per_image: int
    device: str
    precision: str
    processes: int
    batch_size: int
    objective: str
    start_step: int
    total_steps: int | None
    minutes: float | None
    epochs: float | None
    estimated_seconds: float | None
    estimated_bytes: int | None
    batch_size_found: bool = False
    lost_to_others: float = 0.0
    start: StartReport | None = None
    frozen_parameters: int = 0
    pixels: str = ""


@dataclass(frozen=True, slots=True)
class TrainPlanned(Event):
    """Tell that everything is resolved and no step has been taken."""

    plan: TrainPlan


@dataclass(frozen=True, slots=True)
class TrainProgress(Event):
    """Tell that one optimizer step was taken.

    Attributes:
        step: Steps taken so far.
        share: Part of the budget that is used, in [0, 1].
        images_per_second: Since training started in this process.
        seconds_left: Estimate from the progress so far, or None at the start.
        lost_to_others: Part of the processors that other programs have had in the last seconds, in [0, 1].
    """

    step: int
    share: float
    images_per_second: float
    seconds_left: float | None
    lost_to_others: float = 0.0


@dataclass(frozen=True, slots=True)
class MetricsLogged(Event):
    """Tell a row of metrics.jsonl.

    Attributes:
        row: `step`, `epoch`, `images`, `seconds` and some of `loss`, `held_out_loss`, `lr`, `grad_norm`, `images_per_second`,
            and metrics of samples such as `fcd`.
    """

    row: Mapping[str, float | int | None]


IncidentKind = Literal["non-finite", "overflow", "spike", "rollback"]


@dataclass(frozen=True, slots=True)
class Incident(Event):
    """Tell a row of incidents.jsonl: something went wrong with the numbers.

    Attributes:
        kind: non-finite: the loss or its gradient is not finite and the step was skipped. overflow: a gradient overflowed in fp16,
            which the gradient scaler expects, and the step was skipped. spike: the loss is far above the last ones.
            rollback: training diverged and the run went back to a checkpoint.
        step: Its number, from 1; for a rollback the step gone back to.
        loss: The mean of the images' losses, or None if it is not finite.
        grad_norm: Norm of the gradient before it was clipped, or None if it is not finite.
        timesteps: The t of the images responsible.
        images: The numbers of these images in the training set: those whose loss is not finite; where there is none, those with
            the largest losses.
        affected: How many images were responsible; no more than LISTED_IMAGES of them are listed.
        from_step: For a rollback the step at which training had diverged.
    """

    kind: IncidentKind
    step: int
    loss: float | None = None
    grad_norm: float | None = None
    timesteps: tuple[int, ...] = ()
    images: tuple[int, ...] = ()
    affected: int = 0
    from_step: int | None = None


@dataclass(frozen=True, slots=True)
class EpochEnded(Event):
    """Tell that a pass over the data, or the last part of one, is over.

    Attributes:
        history: All rows of metrics.json so far, this epoch's last.
    """

    history: Sequence[Mapping[str, float | int | None]]


@dataclass(frozen=True, slots=True)
class SamplesDrawn(Event):
    """Show samples of the EMA weights, taken during training.

    Attributes:
        images: Their view in 8 bits, uint8 [N, C, H, W].
        step: Steps taken so far.
        path: Where the run keeps the picture of this step.
        newest: Where the run keeps the newest picture.
    """

    images: NDArray[np.uint8]
    step: int
    path: Path
    newest: Path


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """Tell that a checkpoint is complete on disk."""

    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """Hold how a run ended.

    Attributes:
        run: Its folder.
        step: Optimizer steps taken, over all sessions of the run.
        epochs: Passes over the data.
        images: Training images seen.
        seconds: Time in training, over all sessions of the run.
        images_per_second: In this session.
        loss: Mean training loss of the last logging interval, or None if there was none.
        held_out_loss: Last held-out loss, or None.
        best_held_out_loss: Lowest held-out loss, or None.
        non_finite_steps: Steps that were skipped because their loss or gradient was not finite.
        incidents: How many incidents of each kind there were, see `Incident`.
        no_longer_paid: Why `train.patience` stopped it; None if it did not.
        outlook: What the last tenth of its time gained, and what twice the time would.
    """

    run: Path
    step: int
    epochs: float
    images: int
    seconds: float
    images_per_second: float
    loss: float | None
    held_out_loss: float | None
    best_held_out_loss: float | None
    non_finite_steps: int
    incidents: Mapping[str, int]
    no_longer_paid: NoLongerPaid | None = None
    outlook: Outlook | None = None


@dataclass(frozen=True, slots=True)
class TrainEnded(Event):
    """Tell that the budget is used up, or that `train.patience` stopped the run."""

    summary: TrainSummary


@dataclass(frozen=True, slots=True)
class SampleProgress(Event):
    """Tell that one denoising step of one batch was taken.

    Attributes:
        done: Denoising steps taken over all batches.
        total: Denoising steps that there are over all batches.
        images_done: Images that are finished.
    """

    done: int
    total: int
    images_done: int


@dataclass(frozen=True, slots=True)
class EvaluateProgress(Event):
    """Tell that a piece of an evaluation's work is done; one bar for each `metric`.

    Attributes:
        metric: What is measured, or done for it.
        done: Pieces done.
        total: Pieces that there are.
        unit: What the pieces are.
    """

    metric: str
    done: int
    total: int
    unit: str = "evaluations"


@dataclass(frozen=True, slots=True)
class BenchProgress(Event):
    """Tell that a piece of a benchmark is done.

    Attributes:
        share: Of the whole that is done, in [0, 1].
        what: What is being timed.
    """

    share: float
    what: str


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Hold a run of a sweep and what is left of it to do.

    Attributes:
        name: Of its folder.
        arm: Its settings, as a name.
        seed: Its train.seed.
        settings: What makes the arm, by dotted key.
        standing: new, begun, finished or failed.
        seconds: Estimate of what is left, the samples for its figures included.
    """

    name: str
    arm: str
    seed: int
    settings: Mapping[str, Any]
    standing: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Hold what a sweep will do, known before its first run.

    Attributes:
        name: Of the sweep.
        folder: Of its runs.
        runs: In the order in which they are made.
        points: The settings of sampling that each run is measured with; none if nothing is measured.
    """

    name: str
    folder: Path
    runs: tuple[PlannedRun, ...]
    points: tuple[Mapping[str, Any], ...]

    @property
    def seconds(self) -> float:
        """Estimate what is left of all runs."""
        return sum(run.seconds for run in self.runs)


@dataclass(frozen=True, slots=True)
class SweepProgress(Event):
    """Tell that a sweep turns to its next run.

    Attributes:
        number: Of the run, from 1.
        total: Runs of the sweep.
        run: Its name.
        standing: new, begun, finished or failed before this.
        seconds_left: Estimate of what is left of the whole sweep.
    """

    number: int
    total: int
    run: str
    standing: str
    seconds_left: float


@dataclass(frozen=True, slots=True)
class NearestPairs(Event):
    """Show the samples that lie closest to training images.

    Attributes:
        samples: uint8 [N, C, H, W], the closest first.
        neighbours: The training image nearest to each, uint8 [N, C, H, W].
        path: Where they are drawn.
    """

    samples: NDArray[np.uint8]
    neighbours: NDArray[np.uint8]
    path: Path


@dataclass(frozen=True, slots=True)
class TimestepLosses(Event):
    """Tell that the loss over t was measured.

    Attributes:
        rows: See `Figure.rows`.
        path: Where they are plotted.
    """

    rows: Sequence[Mapping[str, float]]
    path: Path


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing; the default listener of every long job."""


def together(*listeners: Listener) -> Listener:
    """Make a listener that tells several of each event, in their order."""

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return listen
