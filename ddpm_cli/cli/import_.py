"""Run `ddpm import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ddpm_cli.cli.parsing.options import JsonOption, NameOption, RunsOption, SetOption, path_of


def import_(
    origin: Annotated[
        Path,
        typer.Argument(
            parser=path_of("PATH"),
            metavar="PATH",
            help="Folder of a diffusers pipeline with a UNet2DModel, or file of weights that another program's training wrote.",
        ),
    ],
    name: NameOption = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="HxW",
            help="Height and width of the images, where the pipeline or file leaves them open.",
            show_default=False,
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            metavar="NAME",
            help="Which of a pipeline's sets of weights to read, such as fp16 or ema.",
            show_default=False,
        ),
    ] = None,
    flags: Annotated[
        str | None,
        typer.Option(
            "--flags",
            metavar="TEXT",
            help="The other program's own flags that a file's model was trained with, in quotes.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Literal["ema", "model"] | None,
        typer.Option(
            "--weights",
            help="Averaged weights or those that were trained, of a file that holds both. Without it the averaged ones.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Images to measure the model against and to train it further on, as for `ddpm train`.",
            show_default=False,
        ),
    ] = None,
    out: RunsOption = Path("runs"),
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make a run of a model that another program trained.

    The run can then be sampled, measured, trained further and exported. The other program is not needed.

    A folder is a diffusers pipeline that `save_pretrained` wrote, or that was downloaded, such as google/ddpm-cifar10-32. It holds
    unet/ and scheduler/, or the files of both themselves. Weights are read from .safetensors, one file or shards, of full
    precision or a variant such as fp16, or else from .bin. The command says what the pipeline's scheduler does otherwise.

    A file is a checkpoint of improved-diffusion, guided-diffusion, pytorch-ddpm or smalldiffusion (.pt, .pth). What its weights do
    not say, such as the number of heads and the schedule, --flags says as that program's command did.

    Files that torch.save wrote are read by a process of its own that runs nothing of them: it takes tensors in dicts, lists and
    tuples, and refuses all else.

    Without --data the run can be sampled and exported. `ddpm evaluate` and `ddpm resume`, which trains it further, need images of
    its size.

    For example:

      ddpm import ddpm-cifar10-32 --name cifar

      ddpm import ddpm-cifar10-32 --data photos --set optimizer.lr=1e-5

      ddpm import ckpt.pt --flags "--img_size 32"
    """
    from ddpm_cli.config.resolve.data_choice import data_flags, data_notices

    of_data = data_flags(data)

    from ddpm_cli.interop.import_model import import_model
    from ddpm_cli.render.terminal.console import print_json, show_notice, show_notices
    from ddpm_cli.render.terminal.export import imported_json, show_imported
    from ddpm_cli.results.events import Notice

    for notice in data_notices(data):
        show_notice(Notice(notice, important=True))
    result = import_model(
        origin,
        name,
        data=of_data,
        sets=sets or [],
        runs=out,
        size=None if size is None else _height_and_width(size),
        variant=variant,
        flags=flags,
        which=weights,
        on_event=show_notices,
    )
    show_imported(result)
    if json:
        print_json(imported_json(result))


def _height_and_width(text: str) -> tuple[int, int]:
    from ddpm_cli.config.schema.data import parse_size
    from ddpm_cli.errors import RequestError

    try:
        height, width = parse_size(text)
    except ValueError as error:
        raise RequestError(f"--size {error}.", "Write for example --size 32 or --size 64x48.") from error
    if not height or not width:
        raise RequestError(f"--size {text} leaves no image.", "Write for example --size 32 or --size 64x48.")
    return height, width
