"""Show what `evaluate` does: bars while it works, and the figures with all that they depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ddpm_cli.core.wording import counted
from ddpm_cli.render.terminal.bars import Bars
from ddpm_cli.render.terminal.compare_tables import NO_OPTIONS
from ddpm_cli.render.terminal.console import print_text, results
from ddpm_cli.render.terminal.format import SHORT_SHA256
from ddpm_cli.results.events import DataProgress, EvaluateProgress, Event
from ddpm_cli.results.figure import Figure

SHOWN_ELSEWHERE = {
    *("extractor", "extractor_sha256", "sampler", "steps", "evaluations", "threshold", "guidance"),
    *("sampler_options", "threshold_options", "guidance_options", "guide", "guide_scale", "guide_options", "path", "path_options"),
    *("samples", "samples_sha256"),
}


class EvaluateView(Bars):
    """Draw one bar for each kind of work, see `Bars`; a listener."""

    def __init__(self) -> None:
        named, unit = TextColumn("[bold]{task.description}"), TextColumn("{task.fields[unit]}")
        super().__init__(named, BarColumn(), MofNCompleteColumn(), unit, TimeRemainingColumn())
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        super().__call__(event)
        if isinstance(event, DataProgress):
            self._advance(event.what, event.done, event.total, "pictures")
        elif isinstance(event, EvaluateProgress):
            self._advance(event.metric, event.done, event.total, event.unit)

    def _advance(self, name: str, done: int, total: int, unit: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, unit=unit)
        self._progress.update(self._tasks[name], completed=done, total=total)


def figure_lines(figure: Figure) -> list[tuple[str, str]]:
    """Write one figure as labels and texts: the value, its terms or its curve, and what it depends on."""
    lines = [(figure.metric, _value(figure))]
    lines += [(f"  {name}", f"{value:.4f}") for name, value in figure.terms.items()]
    lines += [(f"  t {row['t_first']}-{row['t_last']}", f"{row['loss']:.5f} +- {row['standard_error']:.5f}") for row in figure.rows]
    lines += [(f"  {label}", text) for label, text in _circumstances(figure)]
    return lines + [("  note" if number == 0 else "", note) for number, note in enumerate(figure.notes)]


def _value(figure: Figure) -> str:
    parts = [f"{figure.value:.4f} {figure.unit}".strip()]
    if figure.standard_error is not None:
        parts.append(f"+- {figure.standard_error:.4f} (standard error over images)")
    if figure.spread is not None:
        parts.append(f"+- {figure.spread:.4f} (standard deviation over {figure.repeats} sets of samples)")
    return " ".join(parts)


def _circumstances(figure: Figure) -> Iterator[tuple[str, str]]:
    details = figure.details
    if "extractor" not in details:
        yield "images", f"{figure.n:,} of {figure.data} ({figure.split}), sha256 {figure.sha256[:SHORT_SHA256]}, seed {figure.seed}"
    else:
        if figure.floor is not None:
            yield "floor", f"{figure.floor:.4f} (the same of {figure.floor_n:,} real images)"
        yield "samples", _samples(figure)
        yield "reference", "none is needed" if figure.split == "none" else _reference(figure)
        yield "extractor", f"{details['extractor']}, sha256 {str(details['extractor_sha256'])[:SHORT_SHA256]}"
        if "sampler" in details:
            yield "sampler", _sampler(figure)
    shown = {name: value for name, value in details.items() if name not in _shown(figure) and value != NO_OPTIONS}
    rest = [f"{name.replace('_', ' ')} {_short(value)}" for name, value in shown.items()]
    if rest:
        yield "method", ", ".join(rest)


def _shown(figure: Figure) -> set[str]:
    return SHOWN_ELSEWHERE | {"reference_images"} if "extractor" in figure.details else set()


def _samples(figure: Figure) -> str:
    if "samples" in figure.details:
        return f"{figure.n:,} images of {figure.details['samples']}, sha256 {_start(figure.details['samples_sha256'])}"
    return f"{_sets(figure)}, seed {figure.seed}"


def _reference(figure: Figure) -> str:
    known = figure.details.get("reference_images")
    count = "an unknown number of" if known is None else f"{int(known):,}"
    return f"{count} images of {figure.data} ({figure.split}), sha256 {_start(figure.sha256)}"


def _start(sha256: str | int | float) -> str:
    return str(sha256)[:SHORT_SHA256]


def _sets(figure: Figure) -> str:
    return f"{figure.n:,}" if figure.repeats == 1 else f"{figure.repeats} sets of {figure.n:,}"


def _sampler(figure: Figure) -> str:
    details = figure.details
    sampler, threshold, guidance = (_options(details, name) for name in ("sampler", "threshold", "guidance"))
    steps, evaluations = (counted(int(details[name]), name.removesuffix("s")) for name in ("steps", "evaluations"))
    return (
        f"{details['sampler']}{sampler}, {steps} ({evaluations} an image), {_path(details)}"
        f"guidance {details['guidance']:g}{guidance}, {_guide(details)}threshold {details['threshold']}{threshold}"
    )


def _path(details: Mapping[str, str | int | float]) -> str:
    return f"along the path {details['path']}{_options(details, 'path')}, " if "path" in details else ""


def _guide(details: Mapping[str, str | int | float]) -> str:
    if "guide" not in details:
        return ""
    return f"guide {details['guide']}, scale {_short(details.get('guide_scale', '?'))}{_options(details, 'guide')}, "


def _options(details: Mapping[str, str | int | float], name: str) -> str:
    options = details.get(f"{name}_options", NO_OPTIONS)
    return "" if options == NO_OPTIONS else f" {options}"


def _short(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_figures(figures: Sequence[Figure]) -> None:
    """Print figures on stdout: wrapped into columns on a terminal, one line for each fact in a pipe."""
    for number, figure in enumerate(figures):
        lines = figure_lines(figure)
        if number:
            print_text("")
        if results.is_terminal:
            results.print(_grid(lines))
        else:
            width = max(len(label) for label, _ in lines)
            print_text("\n".join(f"{label:<{width}}  {text}" for label, text in lines))


def _grid(lines: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for number, (label, text) in enumerate(lines):
        table.add_row(Text(label, "bold" if number == 0 else "cyan"), Text(text, "bold" if number == 0 else ""))
    return table
