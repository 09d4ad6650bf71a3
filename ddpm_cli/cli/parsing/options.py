"""Define options that several commands share, each once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.completion import DEVICES, config_keys, one_of, preset_names, run_names
from ddpm_cli.sampling.request import MAX_SEED


def path_of(named_by: str) -> Callable[[str | os.PathLike[str]], Path]:
    """Make a parser for an option or argument of this name that takes a path, see `paths.user_path`."""

    def parse(text: str | os.PathLike[str]) -> Path:
        from ddpm_cli.core.io.paths import user_path

        return user_path(text, named_by)

    return parse


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        parser=path_of("--config"),
        metavar="FILE",
        help="TOML file with settings. It may name its preset.",
        show_default=False,
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        metavar="NAME",
        help="Start from this preset. `ddpm ls presets` lists them.",
        autocompletion=preset_names,
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="SECTION.KEY=VALUE",
        help="Set any field of the config. May be repeated.",
        autocompletion=config_keys,
        show_default=False,
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="HxW", help="Bring your own pictures to this size (data.size), such as 64 or 64x48.", show_default=False
    ),
]
StrictOption = Annotated[
    bool | None, typer.Option("--strict", help="Refuse pictures if any of them cannot be read (data.strict).", show_default=False)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps.",
        autocompletion=one_of(*DEVICES),
        show_default=False,
    ),
]
DeterministicOption = Annotated[
    bool | None,
    typer.Option(
        "--deterministic",
        help="Get the same bits each time on a GPU too, at some cost in speed (train.deterministic). A CPU gives them anyway.",
        show_default=False,
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the run's folder below runs/.", show_default=False)
]
NoLimitsOption = Annotated[
    bool,
    typer.Option("--no-limits", help="Lift the limits on the images, time and memory that a run or a file may ask for."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]

RunsOption = Annotated[
    Path, typer.Option("--out", "-o", parser=path_of("--out"), metavar="DIR", help="Folder that holds the runs.")
]
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        parser=path_of("RUN"),
        metavar="RUN",
        help="Run folder or name, checkpoint, or exported file. The newest run if left out.",
        autocompletion=run_names,
        show_default=False,
    ),
]
ResumeArgument = Annotated[
    Path | None,
    typer.Argument(
        parser=path_of("RUN"),
        metavar="RUN",
        help="Run folder or name. The newest run if left out.",
        autocompletion=run_names,
        show_default=False,
    ),
]
EpochsOption = Annotated[
    float | None, typer.Option("--epochs", metavar="N", help="Stop after this many passes over the data.", show_default=False)
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", metavar="N", help="Stop after this many optimizer steps.", show_default=False)
]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", metavar="N", help="Stop after this many minutes.", show_default=False)
]
PreviewOption = Annotated[bool, typer.Option("--preview", help="Draw each grid of samples in the terminal too.")]

FirstSeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=MAX_SEED,
        help="Seed of the first image, 0 if left out. Each further image has the next seed.",
        show_default=False,
    ),
]
SeedsOption = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="LIST",
        help="The seeds themselves, such as 0-63 or 1,5,9, in the place of --n and --seed.",
        show_default=False,
    ),
]
EmaOption = Annotated[bool, typer.Option("--ema/--no-ema", help="Use the averaged weights (EMA), or those of the last step.")]
