"""Run `ddpm data`: look at pictures before training on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.parsing.commands import Command, Group
from ddpm_cli.cli.parsing.completion import kinds
from ddpm_cli.cli.parsing.options import JsonOption, SetOption, SizeOption, StrictOption, path_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema.data import DataConfig
    from ddpm_cli.data.pictures.check import Report

data_app = typer.Typer(name="data", cls=Group, no_args_is_help=True, rich_markup_mode=None)


@data_app.callback()
def data() -> None:
    """Look at pictures before training on them.

    For example:

      ddpm data check photos --size 64

      ddpm data advise photos --size 64
    """


@data_app.command("check", cls=Command)
def check(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder of pictures or scans, a scan, or another data set that `ddpm train --data` takes.",
            autocompletion=kinds("data"),
        ),
    ],
    size: SizeOption = None,
    channels: Annotated[
        str | None,
        typer.Option("--channels", metavar="N", help="Channels of the images: 1 to 4 or auto (data.channels).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="FILE",
            help="Picture for a grid of the images. An older file is replaced as a whole.",
            show_default=False,
        ),
    ] = None,
    strict: StrictOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say what is in a folder of pictures, and what training would do with it.

    Every picture is decoded. The command names those that cannot be read, and those that are copies of each other. It tells which
    values are black and white, and draws how often values occur in between. With --out it writes a grid of images as training would
    see them, in 8 bits.

    If training would refuse the pictures, the command tells the reason and the remedy. That is no error here.

    Other data sets are loaded as training loads them, and downloaded if they are missing.

    For example:

      ddpm data check photos

      ddpm data check photos --size 64x48 --out preview.png

      ddpm data check photos --strict --json
    """
    from ddpm_cli.config.resolve.data_choice import data_flags, data_notices
    from ddpm_cli.config.resolve.loader import load_config

    named = data_flags(data, "DATA") | {
        "data.size": (size, "--size"),
        "data.channels": (channels, "--channels"),
        "data.strict": (strict, "--strict"),
    }
    config = load_config(sets=sets or (), flags=named).config.data

    from ddpm_cli.core.io.files import require_writable_parent
    from ddpm_cli.render.pictures.images import save_grid
    from ddpm_cli.render.pictures.limits import require_picture_name

    if out is not None:
        require_picture_name(out)
        require_writable_parent(out)

    from dataclasses import asdict

    from ddpm_cli.render.terminal.console import print_json, show_line, show_notice
    from ddpm_cli.render.terminal.data import show_report
    from ddpm_cli.results.events import Notice

    for notice in data_notices(data):
        show_notice(Notice(notice, important=True))
    report, images = _examine(config, preview=out is not None)
    if json:
        print_json(asdict(report))
    else:
        show_report(report)
    if out is not None and images is not None:
        save_grid(out, images)
        show_line("wrote:", "green", str(out))
    elif out is not None:
        show_notice(Notice(f"{out} is not written: there is nothing that training would see.", important=True))


@data_app.command("advise", cls=Command)
def advise(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder of pictures, or another data set that `ddpm train --data` takes.",
            autocompletion=kinds("data"),
        ),
    ],
    size: SizeOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say how to train on so many pictures, and what to expect.

    It counts pictures, copies and classes. From that follow epochs, augmentation, dropout, and when samples may become copies of
    the pictures. Each number has its source beside it. What is not known is said too. The last line is a command that trains so.

    For example:

      ddpm data advise photos --size 64

      ddpm data advise fashion-mnist --set data.limit=300 --json
    """
    from dataclasses import asdict

    from ddpm_cli.build.data import build_dataset
    from ddpm_cli.build.data_advice import PRESET
    from ddpm_cli.build.data_advice import advise as advise_on
    from ddpm_cli.config.resolve.data_choice import data_flags, data_notices
    from ddpm_cli.config.resolve.loader import load_config
    from ddpm_cli.render.terminal.console import print_json, show_notice, show_notices
    from ddpm_cli.render.terminal.data import DataBar, show_advice
    from ddpm_cli.results.events import Notice, together

    named = data_flags(data, "DATA") | {"data.size": (size, "--size")}
    config = load_config(preset=PRESET, sets=sets or (), flags=named).config
    for notice in data_notices(data):
        show_notice(Notice(notice, important=True))
    with DataBar() as bar:
        dataset = build_dataset(config.data, together(show_notices, bar))
    words = ["--data", data, *(["--size", size] if size else []), *(f"--set={text}" for text in sets or ())]
    advice = advise_on(dataset, config, words)
    if json:
        print_json(asdict(advice))
    else:
        show_advice(advice)


def _examine(config: DataConfig, *, preview: bool) -> tuple[Report, NDArray[np.uint8] | None]:
    """What is in a data set, with the notices of a download; files are looked at where there are some."""
    from ddpm_cli.build.data import build_dataset
    from ddpm_cli.config.schema.data import OwnPictures
    from ddpm_cli.data.pictures.check import check_images, check_pictures
    from ddpm_cli.data.pictures.plan import require_all_readable
    from ddpm_cli.render.terminal.console import show_notices
    from ddpm_cli.render.terminal.data import DataBar
    from ddpm_cli.results.events import together

    with DataBar() as bar:
        if not isinstance(config, OwnPictures):
            return check_images(build_dataset(config, together(show_notices, bar)), preview=preview)
        pictures, settings = config.find_pictures(), config.picture_settings(held_out=config.held_out)
        report, images = check_pictures(pictures, settings, bar, limit=config.limit, preview=preview)
    if settings.strict:
        require_all_readable(pictures, report.unreadable)
    return report, images
