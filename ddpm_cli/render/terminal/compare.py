"""Write a comparison on a terminal, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ddpm_cli.core.io.paths import path_text
from ddpm_cli.metrics.registry import in_training
from ddpm_cli.render.terminal.compare_tables import lead, sheets
from ddpm_cli.render.terminal.tables import Sheet, show_sheets
from ddpm_cli.results.comparison import Comparison, Measure, Run


def show_comparison(comparison: Comparison) -> None:
    """Print the tables on stdout."""
    show_sheets(lead(comparison), sheets(comparison))


def to_markdown(comparison: Comparison, title: str, pictures: Mapping[str, str]) -> str:
    """Write the comparison as Markdown.

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
        lines += [part for line in sheet.remark.splitlines() for part in (_escaped(line), "")]
    return "\n".join(lines)


def _markdown_table(sheet: Sheet) -> list[str]:
    rule = ["---:" if column.startswith(" ") else "---" for column in sheet.columns]
    return [_line(column.strip() for column in sheet.columns), _line(rule), *(_line(row) for row in sheet.rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\|<`*_[" else letter for letter in text)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Write the comparison as a JSON object."""
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
        "path": path_text(run.path),
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
        **_logged(run),
    }


def _logged(run: Run) -> dict[str, float | None]:
    """Metrics of samples that were logged, each as it was last and at its best."""
    logged: dict[str, float | None] = {}
    for name, metric in in_training().items():
        if name in run.curves:
            logged |= {name: run.last(name), f"best_{name}": run.best(name, metric.direction)}
    return logged


def _measure_json(measure: Measure) -> dict[str, Any]:
    verdicts: list[dict[str, Any] | None] = [asdict(verdict) for verdict in measure.verdicts]
    verdicts = verdicts or [None] * len(measure.arms)
    return {
        "metric": measure.metric,
        "conditions": dict(measure.conditions),
        "floor": measure.floor,
        "notes": list(measure.notes),
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
