"""A comparison as tables, for a terminal and as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from ddpm_cli.comparison import Arm, Comparison, Measure, Run
from ddpm_cli.render.console import results
from ddpm_cli.render.format import duration, quantity

SHA_DIGITS = 12
MOST_ITEMS = 8


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        title: Above it.
        columns: Heads; those of numbers start with a blank, which is not shown.
        rows: Cells.
        remark: Below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""


# -------------------------------------------------------------------------------------------------------------- content


def lead(comparison: Comparison) -> list[str]:
    """What must be said before any table."""
    runs, arms = comparison.runs, comparison.arms
    lines = [f"{len(runs)} runs in {len(arms)} {'arm' if len(arms) == 1 else 'arms'}."]
    if comparison.only_seed:
        lines = [_only_seed(comparison)]
    elif any(measure.verdicts for measure in comparison.measures):
        others = len(arms) - 1
        lines.append(
            f"Verdicts: Welch's t-test over the seeds against {comparison.baseline}, corrected for {others} "
            f"{'arm' if others == 1 else 'arms'} (Holm); if nothing differs, a figure says otherwise in at most 5 % of cases."
        )
    return [*lines, *comparison.notes]


def _only_seed(comparison: Comparison) -> str:
    arm = comparison.arms[0]
    seeds = {run.seed for run in arm.runs}
    if len(seeds) == 1:
        return f"The {len(arm.runs)} runs have the same config and the same train.seed: they are one experiment."
    spreads = [
        f"{measure.metric} {number(figures.spread)}"
        for measure in comparison.measures
        for figures in measure.arms[:1]
        if figures.spread is not None
    ]
    noise = f"; their spread is the noise of this experiment (standard deviation: {', '.join(spreads)})" if spreads else ""
    return f"The {len(arm.runs)} runs differ only in train.seed: not different{noise}."


def sheets(comparison: Comparison) -> list[Sheet]:
    """All tables, in their order."""
    return [
        *_difference_sheets(comparison),
        _run_sheet(comparison),
        _loss_sheet(comparison.runs),
        *_measure_sheets(comparison),
        *_apart_sheets(comparison),
    ]


def _difference_sheets(comparison: Comparison) -> list[Sheet]:
    """Keys or arms are the rows, whichever are more."""
    if comparison.only_seed:
        return []
    keys, arms = list(comparison.differences), comparison.arms
    seeds = tuple(_seeds(arm) for arm in arms)
    cells = [tuple(setting(value) for value in values) for values in comparison.differences.values()]
    if len(keys) > len(arms):
        rows = tuple((key, *of_arms) for key, of_arms in zip(["train.seed", *keys], [seeds, *cells], strict=True))
        return [Sheet("what differs", ("key", *(arm.name for arm in arms)), rows)]
    by_arm = tuple((arm.name, *values) for arm, *values in zip(arms, *cells, seeds, strict=True))
    return [Sheet("what differs", ("arm", *keys, "train.seed"), by_arm)]


def _seeds(arm: Arm) -> str:
    return ", ".join(str(run.seed) for run in arm.runs)


def _run_sheet(comparison: Comparison) -> Sheet:
    columns = ("run", " steps", " images", " time", " images/s", " parameters", "device")
    return Sheet("runs", columns, tuple(_run_row(run, comparison.failures) for run in comparison.runs))


def _run_row(run: Run, failures: Mapping[str, str]) -> tuple[str, ...]:
    standing = "" if run.finished else ", failed" if run.name in failures else ", not finished"
    speed = "-" if run.images_per_second is None else f"{run.images_per_second:,.0f}"
    parameters = "-" if run.parameters is None else quantity(run.parameters).replace(" ", "")
    return (run.name + standing, f"{run.step:,}", f"{run.images:,}", duration(run.seconds), speed, parameters, run.device)


def _loss_sheet(runs: Sequence[Run]) -> Sheet:
    rows = tuple(
        (run.name, *(number(value(name)) for name in ("loss", "held_out_loss") for value in (run.last, run.best))) for run in runs
    )
    return Sheet("losses", ("run", " training", " best", " held-out", " best"), rows)


def _measure_sheets(comparison: Comparison) -> list[Sheet]:
    """One for each metric; what varies between its measurements becomes columns, what does not is said below."""
    by_metric: dict[str, list[Measure]] = {}
    for measure in comparison.measures:
        if len(comparison.arms) > 1 or any(figures.spread is not None for figures in measure.arms):
            by_metric.setdefault(measure.metric, []).append(measure)
    return [_measure_sheet(metric, measures, comparison) for metric, measures in by_metric.items()]


def _measure_sheet(metric: str, measures: Sequence[Measure], comparison: Comparison) -> Sheet:
    varying = varying_conditions(measures)
    verdict = (f"against {comparison.baseline}",) if len(comparison.arms) > 1 else ()
    columns = (*varying, "arm", " mean", " spread", " seeds", *verdict)
    rows = tuple(
        (*(setting(measure.conditions.get(name)) for name in varying), *cells)
        for measure in measures
        for cells in _arm_rows(measure)
    )
    common = {name: value for name, value in measures[0].conditions.items() if name not in varying}
    return Sheet(metric, columns, rows, ", ".join(f"{name} {setting(value)}" for name, value in common.items()))


def _arm_rows(measure: Measure) -> Iterable[tuple[str, ...]]:
    for place, figures in enumerate(measure.arms):
        verdict = (measure.verdicts[place].text,) if measure.verdicts else ()
        yield (figures.arm, number(figures.mean), number(figures.spread), str(len(figures.values)), *verdict)


def varying_conditions(measures: Sequence[Measure]) -> list[str]:
    """The conditions that are not the same for all measures; evaluations only where steps do not say as much."""
    names = dict.fromkeys(name for measure in measures for name in measure.conditions)
    varying = [name for name in names if len({str(measure.conditions.get(name)) for measure in measures}) > 1]
    return [name for name in varying if name != "evaluations" or "steps" not in varying]


def _apart_sheets(comparison: Comparison) -> list[Sheet]:
    if not comparison.apart:
        return []
    rows = tuple(
        (apart.run, apart.metric, number(apart.value), ", ".join(f"{k} {setting(v)}" for k, v in apart.conditions.items()))
        for apart in comparison.apart
    )
    remark = "Measured in different ways, or of one run alone: not comparable."
    return [Sheet("measured apart", ("run", "metric", " value", "how"), rows, remark)]


def number(value: float | None) -> str:
    """A figure with five significant digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.5g}"


def setting(value: Any) -> str:
    """The value of a setting; a long list by its length, a checksum by its first digits, a missing one as a dash."""
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return f"{len(value):,} values" if len(value) > MOST_ITEMS else f"[{', '.join(map(setting, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text[:SHA_DIGITS] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


# --------------------------------------------------------------------------------------------------------------- output


def show_comparison(comparison: Comparison) -> None:
    """Print the tables on stdout."""
    for line in lead(comparison):
        results.print(Text(line))
    for sheet in sheets(comparison):
        results.print(_table(sheet))


def _table(sheet: Sheet) -> Table:
    table = Table(
        title=sheet.title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE,
        pad_edge=False,
        caption=sheet.remark or None,
        caption_justify="left",
    )
    for column in sheet.columns:
        table.add_column(Text(column.strip()), justify="right" if column.startswith(" ") else "left", overflow="fold")
    for row in sheet.rows:
        table.add_row(*map(Text, row))
    return table


def to_markdown(comparison: Comparison, title: str, pictures: Mapping[str, str]) -> str:
    """The comparison as Markdown.

    Args:
        comparison: See `engine.compare`.
        title: Head line.
        pictures: File of each picture, beside the Markdown, by what it shows.
    """
    lines = [f"# {_escaped(title)}", ""]
    for line in lead(comparison):
        lines += [_escaped(line), ""]
    for name, file in pictures.items():
        lines += [f"![{name}]({file})", ""]
    for sheet in sheets(comparison):
        lines += [f"## {_escaped(sheet.title)}", "", *_markdown_table(sheet), ""]
        lines += [_escaped(sheet.remark), ""] if sheet.remark else []
    return "\n".join(lines)


def _markdown_table(sheet: Sheet) -> list[str]:
    rule = ["---:" if column.startswith(" ") else "---" for column in sheet.columns]
    return [_line(column.strip() for column in sheet.columns), _line(rule), *(_line(row) for row in sheet.rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\|<`*_[" else letter for letter in text)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as a JSON object."""
    return {
        "baseline": comparison.baseline,
        "only_seed": comparison.only_seed,
        "lead": lead(comparison),
        "arms": [{"name": arm.name, "runs": [run.name for run in arm.runs]} for arm in comparison.arms],
        "differences": {key: _by_arm(comparison, values) for key, values in comparison.differences.items()},
        "runs": [_run_json(run, comparison.failures) for run in comparison.runs],
        "measures": [_measure_json(measure) for measure in comparison.measures],
        "apart": [asdict(apart) for apart in comparison.apart],
    }


def _by_arm(comparison: Comparison, values: Sequence[Any]) -> dict[str, Any]:
    return {arm.name: value for arm, value in zip(comparison.arms, values, strict=True)}


def _run_json(run: Run, failures: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "seed": run.seed,
        "finished": run.finished,
        "failure": failures.get(run.name),
        "step": run.step,
        "images": run.images,
        "seconds": run.seconds,
        "images_per_second": run.images_per_second,
        "parameters": run.parameters,
        "device": run.device,
        "loss": run.last("loss"),
        "best_loss": run.best("loss"),
        "held_out_loss": run.last("held_out_loss"),
        "best_held_out_loss": run.best("held_out_loss"),
    }


def _measure_json(measure: Measure) -> dict[str, Any]:
    verdicts: list[dict[str, Any] | None] = [asdict(verdict) for verdict in measure.verdicts]
    verdicts = verdicts or [None] * len(measure.arms)
    return {
        "metric": measure.metric,
        "conditions": measure.conditions,
        "arms": [
            {
                "arm": figures.arm,
                "values": dict(figures.values),
                "mean": figures.mean,
                "spread": figures.spread,
                "verdict": verdict,
            }
            for figures, verdict in zip(measure.arms, verdicts, strict=True)
        ],
    }
