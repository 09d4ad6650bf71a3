"""`ddpm data`: look at own pictures before training on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.commands import Command, Group
from ddpm_cli.cli.options import JsonOption, SetOption, SizeOption, StrictOption, path_of

data_app = typer.Typer(name="data", cls=Group, no_args_is_help=True, rich_markup_mode=None)


@data_app.callback()
def data() -> None:
    """Look at own pictures before training on them.

    For example:

      ddpm data check photos --size 64
    """


@data_app.command("check", cls=Command)
def check(
    folder: Annotated[
        Path, typer.Argument(parser=path_of("DIR"), metavar="DIR", help="Folder of pictures, as ddpm train --data takes it.")
    ],
    size: SizeOption = None,
    channels: Annotated[
        str | None, typer.Option("--channels", metavar="N", help="1, 3, 4 or auto (data.channels).", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", parser=path_of("--out"), metavar="FILE", help="File to write; replaced as a whole.", show_default=False
        ),
    ] = None,
    strict: StrictOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say what is in a folder of pictures, and what training would do with it.

    Every picture is decoded. Those that cannot be read are named, and so are copies. With --out a grid of images is written, as
    training would see them. Where training would refuse, the reason and the remedy are told, and that is no error here.

    For example:

      ddpm data check photos

      ddpm data check photos --size 64x48 --out preview.png

      ddpm data check photos --strict --json
    """
    from ddpm_cli.config.data_schema import FolderData
    from ddpm_cli.config.loader import load_config

    named = {
        "data.kind": ("folder", "DIR"),
        "data.root": (folder, "DIR"),
        "data.size": (size, "--size"),
        "data.channels": (channels, "--channels"),
        "data.strict": (strict, "--strict"),
    }
    config = load_config(sets=sets or (), flags=named).config.data
    assert isinstance(config, FolderData)

    from ddpm_cli.files import require_writable_parent
    from ddpm_cli.render.images import save_grid
    from ddpm_cli.render.picture_limits import require_picture_name

    if out is not None:
        require_picture_name(out)
        require_writable_parent(out)

    from dataclasses import asdict

    from ddpm_cli.data.check import check_pictures
    from ddpm_cli.data.folder import scan_folder
    from ddpm_cli.data.image_cache import require_all_readable
    from ddpm_cli.engine.build_data import picture_settings
    from ddpm_cli.events import Notice
    from ddpm_cli.render.console import print_json, show_line, show_notice
    from ddpm_cli.render.data import DataBar, show_report

    pictures, settings = scan_folder(folder), picture_settings(config)
    with DataBar() as bar:
        report, images = check_pictures(pictures, settings, bar, preview=out is not None)
    if settings.strict:
        require_all_readable(pictures, report.unreadable)
    if json:
        print_json(asdict(report))
    else:
        show_report(report)
    if out is not None and images is not None:
        save_grid(out, images)
        show_line("wrote:", "green", str(out))
    elif out is not None:
        show_notice(Notice(f"{out} is not written: there is nothing that training would see.", important=True))
