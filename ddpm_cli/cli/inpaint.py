"""Run `ddpm inpaint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.editing import (
    EachOption,
    EditOption,
    ImageArgument,
    LabelOption,
    ModelChoice,
    ResizeOption,
    RunOption,
    SideBySideOption,
    VariantsOption,
    draw,
    find_model,
    finish,
)
from ddpm_cli.cli.parsing.options import (
    DeviceOption,
    EmaOption,
    FirstSeedOption,
    JsonOption,
    NoLimitsOption,
    SeedsOption,
    SetOption,
    path_of,
)
from ddpm_cli.cli.parsing.requests import chosen_seeds, require_positive, require_writable_pictures
from ddpm_cli.cli.parsing.spread import with_request
from ddpm_cli.sampling.request import FILLING, USUAL_JUMP, Drawing


@with_request("drawing", Drawing, "sampler", "steps")
def inpaint(
    image: ImageArgument,
    mask: Annotated[
        Path,
        typer.Argument(
            parser=path_of("MASK"),
            metavar="MASK",
            help="Picture of the same size. White is filled, black is kept.",
            show_default=False,
        ),
    ],
    run: RunOption = None,
    out: EditOption = Path("inpainted.png"),
    n: VariantsOption = None,
    seed: FirstSeedOption = None,
    seeds: SeedsOption = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="N", help=f"Steps from noise to image, {FILLING.usual_steps} if left out.", show_default=False
        ),
    ] = None,
    resample: Annotated[int, typer.Option("--resample", metavar="N", help="How often each block of steps is taken.")] = 10,
    jump: Annotated[
        int | None,
        typer.Option("--jump", metavar="N", help=f"Steps in a block, {USUAL_JUMP} if left out.", show_default=False),
    ] = None,
    label: LabelOption = None,
    *,
    drawing: Drawing,
    resize: ResizeOption = False,
    side_by_side: SideBySideOption = False,
    each: EachOption = None,
    ema: EmaOption = True,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Fill a part of an image so that it goes with the rest (RePaint, Lugmayr et al. 2022).

    The rest stays as it is.

    Each block of --jump steps of ancestral sampling is taken --resample times, with noise in between. In this way what is filled
    comes to agree with what is known. A filling depends on its seed alone.

    For example:

      ddpm inpaint photo.png mask.png

      ddpm inpaint photo.png mask.png --n 4 --side-by-side --out fillings.png

      ddpm inpaint photo.png mask.png --run quick-001 --resample 5 --jump 5
    """
    numbers = chosen_seeds(n, seed, seeds) or [seed or 0]
    for option, count in (("--resample", resample), ("--jump", jump)):
        require_positive(option, count)
    require_writable_pictures(out, each)
    found = find_model(ModelChoice(run, device, ema, label, {**drawing, "steps": steps}, sets, no_limits), FILLING)

    from ddpm_cli.data.sources.one_picture import read_mask

    pixels = found.read_picture(image, resize)
    unknown = read_mask(mask, found.model.image_shape[1:], resize=resize)
    found.require_picture(out, len(numbers) + 2 * side_by_side)
    opened = found.load()

    from ddpm_cli.render.pictures.images import hidden
    from ddpm_cli.render.terminal.console import show_line
    from ddpm_cli.sampling.editing import steps_of
    from ddpm_cli.sampling.edits import Filling

    edit = Filling(pixels, unknown, len(numbers), resample, jump)
    opened.require_possible(edit)
    course = edit.course(opened.trained, opened.editing)
    taken = steps_of(course, opened.trained, opened.editing.settings)
    show_line("sampler:", "cyan", f"ddpm, {opened.facts['sampler']['steps']} steps, with those taken again {taken:,}")
    images, singles = draw(opened, course, numbers, each)
    facts = {"image": image, "mask": mask, "filled_pixels": int(unknown.sum())}
    facts |= {"resample": course.resample, "jump": course.jump, "steps_taken": taken, "seeds": numbers}
    shown = [pixels, hidden(pixels, unknown, opened.trained.scale), *images] if side_by_side else images
    finish(opened, shown, out, singles, facts if json else None)
