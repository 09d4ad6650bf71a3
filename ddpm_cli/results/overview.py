"""Hold what `ddpm ls`, `info` and `doctor` tell of, as `experiments` and `bench` find it and `render` draws it: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ddpm_cli.results.figure import StoredFigure
from ddpm_cli.results.outlook import Outlook
from ddpm_cli.results.tuning import Tuning

RunState = Literal["finished", "no longer paid", "training", "stopped", "imported", "broken"]
FindingState = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class RunRow:
    """Hold a run in a list.

    Attributes:
        name: Below the folder of runs, as other commands take it.
        path: Its folder.
        state: "training" while a process works in it, "no longer paid" if `train.patience` stopped it, "imported" until it is
            trained further, "broken" if it cannot be used.
        fault: Why it is broken; empty if it is not.
        data: Name of its data set; empty if unknown.
        step: Optimizer steps that were logged.
        share: Part of its budget that they are, in [0, 1]; None if unknown.
        seconds: Time in training.
        loss: The training loss that was logged last.
        held_out_loss: The lowest that was logged.
        metric: Name of the figure that it is judged by; None if nothing was measured.
        value: The best value of that metric.
        bytes: Of all its files.
        created: In seconds since 1970; None if unknown.
    """

    name: str
    path: Path
    state: RunState
    fault: str = ""
    data: str = ""
    step: int = 0
    share: float | None = None
    seconds: float = 0.0
    loss: float | None = None
    held_out_loss: float | None = None
    metric: str | None = None
    value: float | None = None
    bytes: int = 0
    created: float | None = None


@dataclass(frozen=True)
class CheckpointRow:
    """Hold a checkpoint, after its files were read.

    Attributes:
        path: Its folder.
        step: Optimizer steps taken.
        best: Whether it was the best of the run so far when it was written.
        bytes: Of its files.
        fault: Why it cannot be used; empty if all its files agree with their sums.
    """

    path: Path
    step: int
    best: bool
    bytes: int
    fault: str


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Hold a run, a checkpoint or an exported file.

    Attributes:
        path: Where it is.
        kind: What it is.
        row: How the run went; None for what is no run.
        step: Optimizer steps of the newest weights; None if there are none.
        parameters: Numbers in the network; None if there are no weights.
        image_shape: Channels, height and width; None if unknown.
        config: What it was trained with, as JSON values by section.
        settings: What differs from the defaults in it: key to (default, value).
        provenance: What run.json says; empty for what is no run.
        ema_width: Of a power-function average that `ddpm ema` made; None for others.
        training: State of the training as the newest checkpoint has it.
        incidents: How many of each kind went wrong with the numbers.
        checkpoints: Oldest first.
        figures: What `ddpm evaluate` stored.
        outlook: What the last of its time gained, and what twice the time would give; None for what is no run.
        tuning: What `ddpm tune-sampler` stored; None if nothing.
        tuning_fault: What is wrong with that, and what to do; empty if nothing is. All else of the model is as good without it.
        tuned_for_others: For which other weights that is; empty if it is for the newest ones.
        faults: What is wrong with it, a sentence each.
        bytes: Of all its files.
        pixels: The range of its pixels and how they are stored, a phrase for people; empty for the usual 8 bits.
    """

    path: Path
    kind: Literal["run", "checkpoint", "exported file"]
    row: RunRow | None = None
    step: int | None
    parameters: int | None
    image_shape: tuple[int, ...] | None
    config: Mapping[str, Any]
    settings: Mapping[str, tuple[Any, Any]]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    ema_width: float | None = None
    incidents: Mapping[str, int] = field(default_factory=dict)
    checkpoints: tuple[CheckpointRow, ...] = ()
    figures: tuple[StoredFigure, ...] = ()
    outlook: Outlook | None = None
    tuning: Tuning | None = None
    tuning_fault: str = ""
    tuned_for_others: str = ""
    faults: tuple[str, ...] = ()
    bytes: int
    pixels: str = ""


@dataclass(frozen=True)
class Finding:
    """Hold one thing that `ddpm doctor` has looked at.

    Attributes:
        topic: The heading it stands below.
        name: What was looked at.
        state: "missing" is what can be had and is not needed by all; "broken" is what should work here and does not.
        text: What was found.
        remedy: What to do about it; empty if there is nothing to do.
    """

    topic: str
    name: str
    state: FindingState
    text: str
    remedy: str = ""
