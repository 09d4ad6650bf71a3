"""Run `ddpm interpolate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.editing import (
    EditOption,
    LabelOption,
    ModelChoice,
    ResizeOption,
    RunOption,
    SideBySideOption,
    draw,
    find_model,
    finish,
)
from ddpm_cli.cli.parsing.options import (
    DeviceOption,
    EmaOption,
    JsonOption,
    NoLimitsOption,
    SetOption,
    path_of,
)
from ddpm_cli.cli.parsing.requests import require_writable_pictures
from ddpm_cli.cli.parsing.spread import with_request
from ddpm_cli.sampling.request import BETWEEN_SEEDS, Drawing, way_between

if TYPE_CHECKING:
    from ddpm_cli.cli.editing import Pixels
    from ddpm_cli.data.scale import Scale

LONGEST_SEED = 18


@with_request("drawing", Drawing, "sampler", "steps")
def interpolate(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="Picture file, or the seed of an image.", show_default=False)],
    last: Annotated[str, typer.Argument(metavar="LAST", help="Picture file, or the seed of an image.", show_default=False)],
    n: Annotated[
        int, typer.Option("--n", "-n", metavar="N", min=2, max=10_000, help="Images on the way, both ends included.")
    ] = 11,
    run: RunOption = None,
    out: EditOption = Path("interpolation.png"),
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", help=f"Steps of DDIM, {BETWEEN_SEEDS.usual_steps} if left out.", show_default=False),
    ] = None,
    label: LabelOption = None,
    *,
    drawing: Drawing,
    resize: ResizeOption = False,
    side_by_side: SideBySideOption = False,
    each: Annotated[
        Path | None,
        typer.Option(
            "--each",
            parser=path_of("--each"),
            metavar="DIR",
            help="Also write the images to DIR/0.png, DIR/1.png and so on.",
            show_default=False,
        ),
    ] = None,
    ema: EmaOption = True,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Draw the way from one image to another, as in DDPM, Fig. 8.

    The two ends are two pictures, two seeds, or one of each. Write ./7 for a file whose name is a number.

    DDIM makes an image out of noise. Run backwards, it finds the noise of an image. Between two noises the way is an arc (DDIM,
    Sec. 5.3). A picture at an end is drawn as the model makes it anew. The command says by how much the two differ.

    For example:

      ddpm interpolate shirt.png boot.png --side-by-side

      ddpm interpolate 3 8 --n 7 --out way.png

      ddpm interpolate shirt.png 8 --run quick-001 --steps 100 --each frames
    """
    from ddpm_cli.errors import RequestError

    require_writable_pictures(out, each)
    files = {end: path_of(name)(end) for name, end in (("FIRST", first), ("LAST", last))}
    seeds = {end: int(end) for end in (first, last) if end.isascii() and end.isdigit() and len(end) <= LONGEST_SEED}
    if side_by_side and {first, last} <= seeds.keys():
        raise RequestError("--side-by-side puts pictures beside the result, but both ends are seeds.", "Leave it out.")
    pictures = sum(end not in seeds for end in (first, last))
    choice = ModelChoice(run, device, ema, label, {**drawing, "steps": steps}, sets, no_limits)
    found = find_model(choice, way_between(pictures))
    ends = [seeds[end] if end in seeds else found.read_picture(files[end], resize) for end in (first, last)]
    found.require_picture(out, n + side_by_side * pictures)
    opened = found.load()

    from ddpm_cli.render.terminal.console import show_line
    from ddpm_cli.render.terminal.sampling import SamplingView
    from ddpm_cli.sampling.edits import Interpolation

    edit = Interpolation(ends, n)
    opened.require_possible(edit)
    show_line("sampler:", "cyan", f"ddim, {opened.facts['sampler']['steps']} steps")
    with SamplingView("looking for the noise of the pictures") as view:
        course = edit.course(opened.trained, opened.editing, view)
    images, singles = draw(opened, course, range(n), each)
    before, after = ([end] if side_by_side and not isinstance(end, int) else [] for end in ends)
    facts = {"ends": [seeds.get(end, end) for end in (first, last)], "n": n}
    if opened.team.is_main and (differences := _way_back(ends, images, opened.trained.scale)):
        show_line("way back:", "cyan", f"{', '.join(f'{value:.2g}' for value in differences)} of 255 grey levels off on average")
        facts["grey_levels_off"] = differences
    finish(opened, [*before, *images, *after], out, singles, facts if json else None)


def _way_back(ends: Sequence[Pixels | int], images: Sequence[Pixels], scale: Scale) -> list[float]:
    """How far the first and the last of the images are from the pictures that they are made from: mean |difference| of 255.

    Args:
        ends: Two, each a picture as stored, [C, H, W], or a seed, which is left out.
        images: All of the way, [C, H, W] each as stored.
        scale: Of their values.
    """
    grey = 255 / (scale.high - scale.low)
    pairs = zip(ends, (images[0], images[-1]), strict=True)
    return [grey * float(abs(end.astype(float) - image.astype(float)).mean()) for end, image in pairs if not isinstance(end, int)]
