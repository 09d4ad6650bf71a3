"""Tell experiment trackers of a run, through Accelerate's trackers."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.extras import missing_packages, require_packages
from ddpm_cli.core.io.files import UnreadableError, atomic_write, read_json_object, to_json
from ddpm_cli.errors import RunError
from ddpm_cli.render.pictures.images import shown_channels
from ddpm_cli.results.events import Event, Listener, MetricsLogged, Notice, SamplesDrawn
from ddpm_cli.training.logging.tracker_kinds import KINDS

if TYPE_CHECKING:
    import numpy as np
    from accelerate.tracking import GeneralTracker
    from numpy.typing import NDArray

    from ddpm_cli.runs.run_directory import RunDirectory

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        RequestError: With the line that installs them.
    """
    require_packages("train.trackers", ",".join(missing_packages(*names)), *names)  # each has an extra of its own name


class Trackers:
    """Hand metrics and sample grids to trackers, on the main process alone; a listener.

    What a tracker does wrong costs it its place, and training nothing: it is left out from there on, and a notice says so.

    Args:
        names: Of `train.trackers`.
        run: The run that they are told of.
        on_event: Told of trackers that fail.
    """

    def __init__(self, names: Sequence[str], run: RunDirectory, on_event: Listener) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._run = run
        self._on_event = on_event
        self._active: dict[str, GeneralTracker] = {}

    @contextmanager
    def started(self, config: Mapping[str, Any], step: int) -> Iterator[None]:
        """Begin, or go on with, the run that each tracker knows, and finish it at the end of the block.

        Args:
            config: Every setting by its dotted key; told to a tracker that did not know the run.
            step: Steps taken before.
        """
        ids = _read_ids(self._run)
        try:
            for name in self._names:
                self._guarded(name, partial(self._start, name, config, step, ids))
            yield
        finally:
            for name, tracker in list(self._active.items()):
                self._guarded(name, partial(KINDS[name].finish, tracker))
            self._active.clear()

    def __call__(self, event: Event) -> None:
        """Tell the trackers of one event."""
        if not self._active:
            return
        if isinstance(event, MetricsLogged):
            step, values = int(event.row["step"] or 0), _values(event.row)
            self._tell(lambda name, tracker: tracker.log(values, step=step))
        elif isinstance(event, SamplesDrawn):
            grid = sample_grid(event.images)
            self._tell(lambda name, tracker: KINDS[name].log_picture(tracker, grid, event.step))

    def _start(self, name: str, config: Mapping[str, Any], step: int, ids: dict[str, str]) -> None:
        kind = KINDS[name]
        tracker = kind.make(self._run, ids.get(name), step, config)
        tracker.start()
        self._active[name] = tracker
        if ids.get(name) != (known := kind.id_of(tracker)):
            kind.log_config(tracker, config)
            ids[name] = known
            atomic_write(self._run.trackers_path, to_json(ids))

    def _tell(self, action: Callable[[str, GeneralTracker], None]) -> None:
        for name, tracker in list(self._active.items()):
            self._guarded(name, partial(action, name, tracker))

    def _guarded(self, name: str, action: Callable[[], None]) -> None:
        """Do what may fail in any way; what a tracker prints goes to stderr, as stdout is for results."""
        try:
            with redirect_stdout(sys.stderr):
                action()
        except Exception as error:  # noqa: BLE001 - a stranger's code, which must not end training
            self._active.pop(name, None)
            reason = " ".join(str(error).split())[:300] or "no reason given"
            self._on_event(
                Notice(f"The tracker {name} failed and is left out from here on: {type(error).__name__}: {reason}", important=True)
            )


def _values(row: Mapping[str, float | int | None]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step" and value is not None and math.isfinite(value)}


def sample_grid(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put all images into one picture, near-square.

    Args:
        images: uint8 [N, C, H, W]; channels that make no colours are shown in false ones.
    Returns:
        uint8 [height, width, 3], or 4 with alpha.
    """
    import torch
    from torchvision.utils import make_grid

    drawn = make_grid(torch.from_numpy(shown_channels(images)), nrow=math.ceil(math.sqrt(len(images))))
    grid: NDArray[np.uint8] = drawn.permute(1, 2, 0).numpy()
    return grid


def _read_ids(run: RunDirectory) -> dict[str, str]:
    """What each tracker calls the run; a file that is missing, or says nothing of use, makes the trackers begin anew."""
    try:
        found = read_json_object(run.trackers_path)
    except (UnreadableError, OSError, RunError):
        return {}
    return {name: known for name, known in found.items() if isinstance(known, str) and _ID.fullmatch(known)}
