"""Run `ddpm ls`. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ddpm_cli.cli.parsing.completion import one_of
from ddpm_cli.cli.parsing.options import JsonOption
from ddpm_cli.core.names import as_known

RUNS = "runs"


class Listing(NamedTuple):
    """Describe what can be chosen of one kind.

    Attributes:
        one: What one of them is called.
        rows: Tells of each, by name.
    """

    one: str
    rows: Callable[[], dict[str, dict[str, Any]]]


def presets() -> dict[str, dict[str, Any]]:
    """List by name data, network, budget, sampler, and the preset's own words."""
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
    """List by name what a data set is, and where it lies; of the kind arrays, each format that is recognised."""
    from ddpm_cli.data.places import has_place, place_of
    from ddpm_cli.data.sources.formats.registry import READERS

    kinds = {
        name: about | {"here": (place_of(name) or "downloaded when needed") if has_place(name) else "your own"}
        for name, about in kinds_of("data").items()
    }
    return kinds | {f"arrays: {reader.title}": {"about": reader.about, "here": "your own"} for reader in READERS}


def samplers() -> dict[str, dict[str, Any]]:
    """List by name how many steps a sampler takes if not told, what it is, and its options."""
    from ddpm_cli.config.resolve.outline import sections

    steps = {name: getattr(cls, "usual_steps", None) for name, cls in sections()["sample.sampler"].items()}
    return {name: {"steps": steps[name] or "all"} | about for name, about in kinds_of("sample.sampler", "options").items()}


def kinds_of(path: str, *more: str) -> dict[str, dict[str, Any]]:
    """List the kinds of a section of the config with what they are, and their `options` if asked for."""
    from ddpm_cli.config.resolve.outline import sections

    return {
        name: {"about": cls.__doc__} | {key: [field for field in cls.model_fields if field != "kind"] for key in more}
        for name, cls in sections()[path].items()
    }


def metrics() -> dict[str, dict[str, Any]]:
    """List by name what a metric measures, and what it looks at."""
    from ddpm_cli.metrics.registry import known_metrics

    return {
        name: {
            "about": metric.about,
            "looks at": "samples" if metric.is_of_samples else "held-out images",
            "better": metric.direction,
        }
        for name, metric in known_metrics().items()
    }


def formats() -> dict[str, dict[str, Any]]:
    """List by name what an export format holds."""
    from ddpm_cli.interop.registry import known_formats

    return {name: {"about": format.about} for name, format in known_formats().items()}


LISTINGS = {
    "presets": Listing("preset", presets),
    "datasets": Listing("dataset", datasets),
    "samplers": Listing("sampler", samplers),
    "schedules": Listing("schedule", partial(kinds_of, "schedule", "options")),
    "networks": Listing("network", partial(kinds_of, "model", "options")),
    "losses": Listing("loss", partial(kinds_of, "objective.loss", "options")),
    "parameterizations": Listing("parameterization", partial(kinds_of, "objective.parameterization", "options")),
    "weightings": Listing("weighting", partial(kinds_of, "objective.weighting", "options")),
    "timesteps": Listing("timesteps", partial(kinds_of, "objective.timesteps", "options")),
    "optimizers": Listing("optimizer", partial(kinds_of, "optimizer", "options")),
    "spacings": Listing("spacing", partial(kinds_of, "sample.sampler.spacing", "options")),
    "paths": Listing("path", partial(kinds_of, "sample.path", "options")),
    "metrics": Listing("metric", metrics),
    "formats": Listing("format", formats),
    "thresholds": Listing("threshold", partial(kinds_of, "sample.threshold", "options")),
}
"""What can be chosen, by the name of all."""


def ls(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[WHAT]",
            help=f"{RUNS}, {', '.join(LISTINGS)}, or a folder of runs.",
            autocompletion=one_of(RUNS, *LISTINGS),
        ),
    ] = RUNS,
    json: JsonOption = False,
) -> None:
    """List the runs below runs/, or what can be chosen.

    The list of runs has the data of each, its steps and its state: done, training, or the share of its budget that is used. It has
    the lowest held-out loss, or the last training loss if no images were held out. It has the best metric that was measured, the
    size and the age. A run that cannot be used is listed with its fault.

    For example:

      ddpm ls

      ddpm ls schedules

      ddpm ls runs --json
    """
    from ddpm_cli.render.terminal.console import print_json

    what = what if is_folder(what) else as_known(what, (RUNS, *LISTINGS))
    if what in LISTINGS:
        from ddpm_cli.render.terminal.console import json_value
        from ddpm_cli.render.terminal.overview import show_choices

        choices = LISTINGS[what].rows()
        if json:
            print_json({what: json_value([{"name": name} | about for name, about in choices.items()])})
        else:
            show_choices(LISTINGS[what].one, choices)
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
    """Tell whether it is a folder of runs that the name is spelt like.

    Raises:
        RequestError: If it is no path at all.
    """
    from ddpm_cli.core.io.paths import user_path

    named = user_path(what, "WHAT")
    return any(folder.is_dir() for folder in (Path(RUNS) / named, named))


def folder_named(what: str) -> Path:
    """Find the folder of runs that is asked for: runs/ itself, one below it, or one by its path.

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
    raise RunError(f"There is nothing to list of the name {what!r}.", f"Name {RUNS}, {', '.join(LISTINGS)}, or a folder of runs.")
