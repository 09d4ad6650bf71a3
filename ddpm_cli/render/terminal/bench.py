"""Show what `bench` does: a bar while it works, and tables of what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from ddpm_cli.core.wording import counted
from ddpm_cli.render.terminal.console import IMPORTANT, messages, results, show_notices
from ddpm_cli.render.terminal.data import DataBar
from ddpm_cli.render.terminal.format import quantity, shape_text
from ddpm_cli.render.terminal.tables import Sheet, show_sheets
from ddpm_cli.results.benchmark import UNDER_OUR_LOOP, Benchmark, Case, Duel, Network, Speed, Spread
from ddpm_cli.results.events import BenchProgress, Compiling, Event

UNITS = {"training": "images/s", "sampling": "evaluations/s"}


class BenchView:
    """Draw a bar on stderr; a listener and a context manager that owns it."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=messages,
            transient=True,
            disable=not messages.is_terminal,
        )
        self._data = DataBar()
        self._task: TaskID | None = None

    def __enter__(self) -> BenchView:
        return self

    def __exit__(self, *error: object) -> None:
        self._data.stop()
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        self._data(event)
        show_notices(event)
        if isinstance(event, BenchProgress):
            if self._task is None:
                self._task = self._progress.add_task("", total=1.0)
                self._progress.start()
            self._progress.update(self._task, completed=event.share, description=event.what)
        elif isinstance(event, Compiling) and self._task is not None:
            self._progress.update(self._task, description="compiling")


def show_benchmark(found: Benchmark) -> None:
    """Print what was found on stdout."""
    show_sheets(lead(found), bench_sheets(found))
    for note in found.notes:
        results.print(Text(note, IMPORTANT))


def benchmark_json(found: Benchmark) -> dict[str, Any]:
    """Write the same as a JSON object."""
    return asdict(found)


def lead(found: Benchmark) -> list[str]:
    """Say what was timed, and where."""
    machine, network = found.machine, found.network
    channels, height, width = found.image_shape
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    return [
        f"{machine.name} ({machine.device}), {counted(machine.threads, 'thread')}, {machine.platform}",
        versions,
        f"network of {network.parameters:,} parameters, {quantity(network.flops_per_image, 'FLOP')} forward per image of "
        f"{shape_text(height, width, channels)}",
        f"compiled: {', '.join(_compiled_works(found.cases)) or 'nothing'}",
    ]


def bench_sheets(found: Benchmark) -> list[Sheet]:
    """List all tables, in their order."""
    sheets = [_work_sheet(work, found.cases) for work in UNITS] + [_peak_sheet(found.cases)] if found.cases else []
    if found.duels:
        sheets.append(_network_sheet(found.network, found.peers))
        sheets += [_duel_sheet(work, [duel for duel in found.duels if duel.work == work]) for work in UNITS]
    return sheets


def _compiled_works(cases: Sequence[Case]) -> list[str]:
    return [work for work in UNITS if cases and all(getattr(case, work).compiled for case in cases)]


def _work_sheet(work: str, cases: tuple[Case, ...]) -> Sheet:
    columns = (" batch", "format", f" {UNITS[work]}", " range", " GFLOP/s", " of conv", " of GEMM")
    rows = tuple((f"{case.batch_size:,}", case.precision, *_speed_cells(getattr(case, work))) for case in cases)
    return Sheet(work, columns, rows)


def _speed_cells(speed: Speed) -> tuple[str, ...]:
    return (
        _figure(speed.per_second.median),
        _range(speed.per_second),
        _figure(speed.gflops.median),
        f"{speed.of_convolution_peak.median:.0%}",
        f"{speed.of_gemm_peak.median:.0%}",
    )


def _peak_sheet(cases: tuple[Case, ...]) -> Sheet:
    columns = (" batch", "format", " conv GFLOP/s", " GEMM GFLOP/s", " memory", " rounds")
    rows = tuple(
        (
            f"{case.batch_size:,}",
            case.precision,
            _figure(case.convolution_gflops.median),
            _figure(case.gemm_gflops.median),
            quantity(case.memory_bytes, "B"),
            str(case.rounds),
        )
        for case in cases
    )
    remark = (
        "Medians, and from the lowest to the highest of the rounds, in which everything is timed in turn. A training step counts "
        "as three forward passes. conv: a 3x3 convolution, GEMM: a matrix product, of sizes that suit the device. On a CPU the "
        "memory is the most this process has had."
    )
    return Sheet("what the device can do, and memory", columns, rows, remark)


def _network_sheet(ours: Network, peers: Sequence[Network]) -> Sheet:
    named = [(ours, "-"), *((peer, "nothing: the same network" if peer.same else "; ".join(peer.differences)) for peer in peers)]
    rows = tuple(
        (network.name, quantity(network.parameters), quantity(network.flops_per_image), differences)
        for network, differences in named
    )
    return Sheet("networks", ("of", " parameters", " FLOP/image", "differs from ours by"), rows)


def _duel_sheet(work: str, duels: list[Duel]) -> Sheet:
    columns = ("against", " batch", "format", " ours", " theirs", " ours/theirs", " range")
    rows = tuple(
        (
            duel.peer,
            f"{duel.batch_size:,}",
            duel.precision,
            _figure(duel.ours.median),
            _figure(duel.theirs.median),
            f"{duel.ratio.median:.2f}",
            f"{duel.ratio.low:.2f}-{duel.ratio.high:.2f}",
        )
        for duel in duels
    )
    return Sheet(f"{work} against others, {UNITS[work]}", columns, rows, _duel_remark(duels))


def _duel_remark(duels: Sequence[Duel]) -> str:
    """What the rows do not say: what runs in whose loop, and what the compiler wrote."""
    compiled = ["ours" for duel in duels if duel.ours_compiled] + [duel.peer for duel in duels if duel.theirs_compiled]
    told = f"Compiled: {', '.join(dict.fromkeys(compiled)) or 'nothing'}."
    if all(duel.peer != UNDER_OUR_LOOP for duel in duels):
        return told
    return f"{UNDER_OUR_LOOP} is diffusers' network in our own loop: its ratio tells of the network alone. {told}"


def _range(spread: Spread) -> str:
    return f"{_figure(spread.low)}-{_figure(spread.high)}"


def _figure(value: float) -> str:
    """Three significant digits, and all digits of whole numbers above."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
