"""`ddpm ls`. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli.cli.parsing.completion import one_of
from ddpm_cli.cli.parsing.options import JsonOption
from ddpm_cli.core.names import as_known

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = "runs"


def ls(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[WHAT]",
            help="runs, presets, datasets, samplers, schedules, or a folder of runs.",
            autocompletion=one_of(RUNS, "presets", "datasets", "samplers", "schedules"),
        ),
    ] = RUNS,
    json: JsonOption = False,
) -> None:
    """List the runs below runs/, or what can be chosen.

    Of a run: its data, steps, what it has come to (done, training, or the part of its budget that is used), its lowest held-out
    loss (its last loss in training if none was held out), the best metric that was measured, its size and its age. A run that
    cannot be used is listed with its fault.

    For example:

      ddpm ls

      ddpm ls schedules

      ddpm ls runs --json
    """
    from ddpm_cli.render.terminal.console import print_json

    what = what if is_folder(what) else as_known(what, (RUNS, *CHOICES))
    if what in CHOICES:
        from ddpm_cli.render.terminal.console import json_value
        from ddpm_cli.render.terminal.overview import show_choices

        choices = CHOICES[what]()
        if json:
            print_json({what: json_value([{"name": name} | about for name, about in choices.items()])})
        else:
            show_choices(what.removesuffix("s"), choices)
        return
    from ddpm_cli.experiments.run_list import list_rows
    from ddpm_cli.render.terminal.overview import runs_json, show_runs

    folder = folder_named(what)
    rows = list_rows(folder)
    if json:
        print_json(runs_json(rows))
    else:
        show_runs(rows, folder)


def is_folder(what: str) -> bool:
    """Whether it is a folder of runs that the name is spelt like.

    Raises:
        RequestError: If it is no path at all.
    """
    from ddpm_cli.core.io.paths import user_path

    named = user_path(what, "WHAT")
    return any(folder.is_dir() for folder in (Path(RUNS) / named, named))


def folder_named(what: str) -> Path:
    """The folder of runs that is asked for: runs/ itself, one below it, or one by its path.

    Raises:
        RunError: If there is no such folder.
    """
    from ddpm_cli.core.io.paths import user_path
    from ddpm_cli.errors import RunError

    root = Path(RUNS)
    if what == RUNS:
        return root
    named = user_path(what, "WHAT")
    for folder in (root / named, named):
        if folder.is_dir():
            return folder
    raise RunError(f"There is nothing to list of the name {what!r}.", f"Name {RUNS}, {', '.join(CHOICES)}, or a folder of runs.")


def presets() -> dict[str, dict[str, Any]]:
    """By name: data, network, budget, sampler, and the preset's own words."""
    from ddpm_cli.config.resolve.loader import load_config
    from ddpm_cli.config.resolve.preset_files import preset_about, preset_names

    configs = {name: load_config(preset=name).config for name in preset_names()}
    return {
        name: {
            "data": config.data.kind,
            "schedule": config.schedule.kind,
            "sampler": config.sample.sampler.kind,
            "about": preset_about(name),
        }
        for name, config in configs.items()
    }


def datasets() -> dict[str, dict[str, Any]]:
    """By name: what it is, and where it lies."""
    from ddpm_cli.data.places import has_place, place_of

    return {
        name: about | {"here": (place_of(name) or "downloaded when needed") if has_place(name) else "your own"}
        for name, about in kinds_of("data").items()
    }


def samplers() -> dict[str, dict[str, Any]]:
    """By name: how many steps it takes if not told, what it is, and its options."""
    from ddpm_cli.config.resolve.outline import sections

    steps = {name: getattr(cls, "usual_steps", None) for name, cls in sections()["sample.sampler"].items()}
    return {name: {"steps": steps[name] or "all"} | about for name, about in kinds_of("sample.sampler", "options").items()}


def schedules() -> dict[str, dict[str, Any]]:
    """By name: what it is, and its options."""
    return kinds_of("schedule", "options")


def kinds_of(path: str, *more: str) -> dict[str, dict[str, Any]]:
    """The kinds of a section of the config with what they are, and their `options` if asked for."""
    from ddpm_cli.config.resolve.outline import sections

    return {
        name: {"about": cls.__doc__} | {key: [field for field in cls.model_fields if field != "kind"] for key in more}
        for name, cls in sections()[path].items()
    }


CHOICES: dict[str, Callable[[], dict[str, dict[str, Any]]]] = {
    "presets": presets,
    "datasets": datasets,
    "samplers": samplers,
    "schedules": schedules,
}
