"""Offer what the shell shows when Tab is pressed. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

Completion = Callable[[str], list[str]]

DEVICES = ("auto", "cpu", "cuda", "mps")


def run_names(incomplete: str) -> list[str]:
    """Offer runs below runs/, the newest first, and those of the folder that was typed; where none fits, the shell offers files."""
    from ddpm_cli.runs.directory import list_runs

    folder = "".join(incomplete.rpartition("/")[:2])
    runs = [run for root in (Path("runs", folder), Path(folder)) if folder or root.name for run in list_runs(root)]
    names = dict.fromkeys(f"{folder}{run.path.name}" for run in runs)
    return starting_with(incomplete, (name for name in names if name.isprintable()))


def preset_names(incomplete: str) -> list[str]:
    """Offer presets."""
    from ddpm_cli.config.resolve.preset_files import preset_names as names

    return starting_with(incomplete, names())


def metric_names(incomplete: str) -> list[str]:
    """Offer metrics."""
    from ddpm_cli.metrics.registry import known_metrics

    return starting_with(incomplete, usable(known_metrics))


def format_names(incomplete: str) -> list[str]:
    """Offer export formats."""
    from ddpm_cli.interop.registry import known_formats

    return starting_with(incomplete, usable(known_formats))


def usable(names: Callable[[], Iterable[str]]) -> Iterable[str]:
    """List names; none where a package that adds some cannot be used, which the command itself will say."""
    from ddpm_cli.errors import ExtensionError

    try:
        return names()
    except ExtensionError:
        return ()


def config_names(incomplete: str) -> list[str]:
    """Offer what `ddpm config diff` compares: presets and runs."""
    return [*preset_names(incomplete), *run_names(incomplete)]


def kinds(path: str, *more: str) -> Completion:
    """Offer the kinds of a section of the config, such as "data", and more names."""

    def complete(incomplete: str) -> list[str]:
        from ddpm_cli.config.resolve.outline import sections

        return starting_with(incomplete, usable(lambda: [*sections()[path], *more]))

    return complete


def one_of(*choices: str) -> Completion:
    """Offer some choices."""
    return lambda incomplete: starting_with(incomplete, choices)


def listed(complete: Completion) -> Completion:
    """Offer several, separated by commas: what was typed before the last comma stays."""

    def complete_last(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in complete(last)]

    return complete_last


def config_keys(incomplete: str) -> list[str]:
    """Offer keys of the config, with the sign after which their value follows."""
    from ddpm_cli.config.resolve.outline import all_keys

    return starting_with(incomplete, (f"{key}=" for key in usable(all_keys)))


def starting_with(incomplete: str, names: Iterable[str]) -> list[str]:
    """List the names that go on from what was typed."""
    return [name for name in names if name.startswith(incomplete)]
