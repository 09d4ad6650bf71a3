"""Run `ddpm img2img`."""

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
)
from ddpm_cli.cli.parsing.requests import chosen_seeds, require_writable_pictures
from ddpm_cli.cli.parsing.spread import with_request
from ddpm_cli.sampling.request import VARYING, Drawing


@with_request("drawing", Drawing)
def img2img(
    image: ImageArgument,
    strength: Annotated[
        float,
        typer.Option(
            "--strength",
            metavar="X",
            min=0,
            max=1,
            help="Share of the sampler's steps that are taken: 0 keeps the image, 1 forgets it.",
        ),
    ] = 0.5,
    run: RunOption = None,
    out: EditOption = Path("img2img.png"),
    n: VariantsOption = None,
    seed: FirstSeedOption = None,
    seeds: SeedsOption = None,
    *,
    drawing: Drawing,
    label: LabelOption = None,
    resize: ResizeOption = False,
    side_by_side: SideBySideOption = False,
    each: EachOption = None,
    ema: EmaOption = True,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Make an image anew from a given one, such as a sketch (SDEdit, Meng et al. 2022).

    The new image keeps what is coarse in the given one. The given image is noised part of the way and denoised from there.
    --strength is the share of the sampler's steps that are taken.

    A variant depends on its seed alone. At strength 1 it is what `ddpm sample` draws from that seed.

    For example:

      ddpm img2img sketch.png --strength 0.6

      ddpm img2img sketch.png --strength 0.4 --n 4 --side-by-side --out x.png

      ddpm img2img photo.jpg --resize --run quick-001 --sampler ddim --steps 50
    """
    numbers = chosen_seeds(n, seed, seeds) or [seed or 0]
    require_writable_pictures(out, each)
    found = find_model(ModelChoice(run, device, ema, label, drawing, sets, no_limits), VARYING)
    pixels = found.read_picture(image, resize)
    found.require_picture(out, len(numbers) + side_by_side)
    opened = found.load()

    from ddpm_cli.render.terminal.console import show_line, show_notice
    from ddpm_cli.results.events import Notice
    from ddpm_cli.sampling.editing import steps_of
    from ddpm_cli.sampling.edits import Variation

    edit = Variation(pixels, strength, len(numbers))
    opened.require_possible(edit)
    course = edit.course(opened.trained, opened.editing)
    all_steps = opened.facts["sampler"]["steps"]
    taken = steps_of(course, opened.trained, opened.editing.settings)
    show_line("sampler:", "cyan", f"{opened.editing.settings.sampler.kind}, {taken} of {all_steps} steps")
    if strength and not taken:
        show_notice(Notice(f"--strength {strength:g} of {all_steps} steps is none: the image stays as it is.", important=True))
    images, singles = draw(opened, course, numbers, each)
    facts = {"image": image, "strength": strength, "steps_taken": taken, "seeds": numbers}
    shown = [pixels, *images] if side_by_side else images
    finish(opened, shown, out, singles, facts if json else None)
