"""Say what `export` and `import` wrote."""

from __future__ import annotations

from dataclasses import asdict

from ddpm_cli.core.io.paths import path_text
from ddpm_cli.render.terminal.console import json_value, show_line
from ddpm_cli.render.terminal.format import shape_text
from ddpm_cli.render.terminal.sampling import show_model
from ddpm_cli.render.terminal.tables import show_table
from ddpm_cli.results.interchange import Comparison, ExportResult, Imported


def show_export(result: ExportResult, *, table: bool) -> None:
    """Say what was written, on stderr, and print each comparison on stdout if `table` is set."""
    largest = max(result.comparisons, key=lambda comparison: comparison.difference)
    show_model(result.origin, result.step, ema=True)
    show_line("wrote:", "green", f"{result.path} ({result.bytes / 1e6:.2f} MB)")
    show_line("checked:", "green", f"largest difference {largest.difference:.3g} ({largest.what})")
    if result.rounding is not None:
        show_line("half:", "cyan", f"rounding the weights changes predictions by up to {result.rounding:.3g}")
    if table:
        show_table(
            "", ("compared", " largest difference", " tolerance", "verdict"), [_cells(found) for found in result.comparisons]
        )


def _cells(found: Comparison) -> tuple[str, ...]:
    return found.what, f"{found.difference:.2e}", f"{found.tolerance:g}", "same" if found.holds else "differs"


def export_json(result: ExportResult, kind: str) -> dict[str, object]:
    """Write a result as a JSON object."""
    return {
        "format": kind,
        "model": path_text(result.origin),
        "step": result.step,
        "file": path_text(result.path),
        "bytes": result.bytes,
        "largest_difference": max(comparison.difference for comparison in result.comparisons),
        "comparisons": json_value([asdict(found) for found in result.comparisons]),
        "rounding": json_value(result.rounding),
    }


def show_imported(result: Imported) -> None:
    """Say which run was made, and what can be done with it."""
    channels, height, width = result.image_shape
    network = f"{result.parameters:,} parameters of {result.weights}, images of {shape_text(height, width, channels)}"
    show_line("imported:", "green", f"{result.origin} as {result.run} ({network})")
    for difference in result.differences:
        show_line("note:", "cyan", difference)
    if result.data is None:
        show_line("note:", "dim", "It has no data, so that it can be sampled and exported, but not evaluated or trained (--data).")


def imported_json(result: Imported) -> dict[str, object]:
    """Write the same as a JSON object."""
    found: dict[str, object] = json_value(asdict(result))
    return found
