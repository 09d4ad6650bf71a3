"""Options that several commands share, each defined once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="TOML file with settings; may name its preset.", show_default=False),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        metavar="NAME",
        help="Start from this preset: default, quick, fashion-mnist-gpu, paper-cifar10.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="SECTION.KEY=VALUE", help="Set any field of the config; may be repeated.", show_default=False
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Name of a data set (see below), a folder of own pictures, or an .npz or .npy file.",
        show_default=False,
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="HxW", help="Bring own pictures to this size (data.size), such as 64 or 64x48.", show_default=False
    ),
]
StrictOption = Annotated[
    bool | None, typer.Option("--strict", help="Refuse pictures if any of them cannot be read (data.strict).", show_default=False)
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Fixes everything random.", show_default=False)]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.", show_default=False)
]
DeterministicOption = Annotated[
    bool | None,
    typer.Option(
        "--deterministic",
        help="Same bits each time on a GPU too, at some cost (train.deterministic); a CPU has them anyway.",
        show_default=False,
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the run's folder below runs/.", show_default=False)
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write; replaced as a whole.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]

GridOption = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Grid of the images; replaced as a whole.")]
RunsOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder that holds the runs.")]
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN", help="Run folder or name, checkpoint, exported file; the newest run if left out.", show_default=False
    ),
]
ResumeArgument = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Run folder or name; the newest run if left out.", show_default=False)
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
PreviewOption = Annotated[bool, typer.Option("--preview", help="Draw each grid of samples in the terminal, too.")]
BatchSizeOption = Annotated[
    str | None,
    typer.Option("--batch-size", metavar="N", help="Images per optimizer step; auto: as many as memory holds.", show_default=False),
]
LrOption = Annotated[float | None, typer.Option("--lr", metavar="X", help="Peak learning rate.", show_default=False)]


def given(flags: Mapping[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """The flags that were used: those whose value is not None."""
    return {key: (value, flag) for key, (value, flag) in flags.items() if value is not None}
