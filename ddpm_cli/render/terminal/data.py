"""Show data: a bar while pictures are read, and the report of `ddpm data check`."""

from __future__ import annotations

import math
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.check import Histogram, Report, Training
from ddpm_cli.data.pictures.settings import shown
from ddpm_cli.render.terminal.console import messages, results
from ddpm_cli.render.terminal.format import shape_text
from ddpm_cli.render.terminal.tables import show_facts, show_table
from ddpm_cli.results.advice import DataAdvice
from ddpm_cli.results.events import DataProgress, Event

SECONDS_BETWEEN_LINES = 10.0
GROUPS_SHOWN = 5
NAMES_SHOWN = 10
CLASSES_SHOWN = 100
BARS = " ▁▂▃▄▅▆▇█"


class DataBar:
    """Draw a bar on stderr while pictures are read, and in a pipe or log file a line now and then; a listener."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=messages,
            transient=True,
            expand=True,
            disable=not messages.is_terminal,
        )
        self._task: TaskID | None = None
        self._what = ""
        self._last_line = time.monotonic()

    def __enter__(self) -> DataBar:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event; the bar goes away with the last picture."""
        if not isinstance(event, DataProgress):
            return
        if self._task is None or event.what != self._what:
            self.stop()
            self._what, self._task = event.what, self._progress.add_task(event.what, total=event.total)
            self._progress.start()
        self._progress.update(self._task, completed=event.done)
        if event.done == event.total:
            self.stop()
        elif not messages.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            messages.print(f"{event.what}: {event.done:,} of {event.total:,}", soft_wrap=True)


def report_facts(report: Report) -> dict[str, str]:
    """List the rows of the report."""
    facts = {
        "pictures": f"{report.pictures:,}, of which {report.readable:,} can be read; other files: {report.ignored_files:,}",
        "folders": report.layout,
        "sizes": _sizes(report),
        "classes": _counts(report.classes, CLASSES_SHOWN) or "none",
        **_file_facts(report),
        "unreadable": "\n".join(f"{shown(name)}: {reason}" for name, reason in report.unreadable.items()) or "none",
        "values": _values(report.training.values),
        "note": "\n".join((*report.notices, *report.training.notices)),
        "training": training_text(report.training),
    }
    return {name: text for name, text in facts.items() if text}


def _file_facts(report: Report) -> dict[str, str]:
    """The rows about files; none for a data set that is not made of any."""
    if report.duplicates is None or report.same_pixels is None:
        return {}
    return {
        "modes": _counts(report.modes) or "unknown",
        "formats": _counts(report.formats) or "unknown",
        "copies": _groups(report.duplicates, "with the same bytes"),
        "same pixels": _groups(report.same_pixels, "in different files"),
    }


def training_text(training: Training) -> str:
    """Say what training would do, in a sentence."""
    if training.shape is None:
        return f"would refuse: {training.refused}\n{training.remedy}"
    channels, height, width = training.shape
    small = f"; {training.skipped_small:,} too small ones left out" if training.skipped_small else ""
    return (
        f"{counted(training.train_images, 'image')} to train on, {training.held_out_images:,} held out, each "
        f"{shape_text(height, width, channels)}{small}"
    )


def _values(values: Histogram | None) -> str:
    """The extremes, and a bar for each part from black to white, as high as the root of its share, so that rare values show."""
    if values is None:
        return ""
    most = max(*values.counts, 1)
    heights = [math.ceil((len(BARS) - 1) * math.sqrt(count / most)) for count in values.counts]
    bars = "".join(BARS[height] for height in heights)
    kept = f"from {values.smallest:,.7g} to {values.largest:,.7g}, kept as {values.stored}"
    return f"{kept}\n{values.low:,.7g} (black) |{bars}| {values.high:,.7g} (white)"


def _sizes(report: Report) -> str:
    sizes = report.sizes
    if sizes is None:
        return "unknown"
    frequent = ", ".join(f"{height}x{width} ({count:,})" for (height, width), count in sizes.most_frequent)
    if sizes.different == 1:
        return f"{frequent}, height x width"
    smallest, largest = ("x".join(map(str, size)) for size in (sizes.smallest, sizes.largest))
    return f"{sizes.different:,}, height x width from {smallest} to {largest}; most frequent: {frequent}"


def _counts(counts: dict[str, int], most: int | None = None) -> str:
    listed = [f"{name} {count:,}" for name, count in counts.items()]
    return first_few(listed, most or len(listed))


def _groups(groups: tuple[tuple[str, ...], ...], what: str) -> str:
    if not groups:
        return "none"
    lines = [first_few([shown(name) for name in group], NAMES_SHOWN, " = ") for group in groups[:GROUPS_SHOWN]]
    if len(groups) > GROUPS_SHOWN:
        lines.append(f"and {counted(len(groups) - GROUPS_SHOWN, 'more group')} (--json lists all)")
    return "\n".join([f"{counted(len(groups), 'group')} {what}", *lines])


def show_report(report: Report) -> None:
    """Print a report on stdout: a table on a terminal, and lines that are never wrapped in a pipe or file."""
    show_facts(report.source, report_facts(report))


def show_advice(advice: DataAdvice) -> None:
    """Print advice on stdout: a table of points with their sources, what is unknown, and the command, in one line."""
    channels, height, width = advice.image_shape
    held_out = f"{advice.held_out_images:,} held out"
    title = f"{advice.source}: {counted(advice.train_images, 'image')}, {held_out}, {shape_text(height, width, channels)}"
    show_table(title, ("about", "advice", "from"), [(point.about, point.advice, point.reason) for point in advice.points])
    results.print("not known:")
    for line in advice.unknown:
        results.print(f"  {line}", markup=False)
    results.print("train:")
    results.print(f"  {advice.command}", markup=False, soft_wrap=True)
