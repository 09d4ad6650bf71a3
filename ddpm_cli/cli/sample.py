"""Run `ddpm sample`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.editing import VIEW
from ddpm_cli.cli.parsing.options import (
    DeviceOption,
    EmaOption,
    FirstSeedOption,
    JsonOption,
    NoLimitsOption,
    RunArgument,
    SeedsOption,
    SetOption,
    path_of,
)
from ddpm_cli.cli.parsing.requests import (
    chosen_seeds,
    require_positive,
    require_sample_settings,
    require_writable_pictures,
)
from ddpm_cli.cli.parsing.spread import with_request
from ddpm_cli.core.names import as_known
from ddpm_cli.data.scale import USUAL
from ddpm_cli.sampling.request import Drawing, class_names_for, settings_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.sampling.stored_model import StoredModel
    from ddpm_cli.sampling.trained_model import TrainedModel

ALL = "all"
IMAGES_PER_CLASS = 8


@with_request("drawing", Drawing)
def sample(
    run: RunArgument = None,
    n: Annotated[int | None, typer.Option("--n", "-n", metavar="N", help="Images to draw.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="FILE",
            help="File for the grid of the images. An older file is replaced as a whole. samples.png if left out, and no grid "
            "then beside --npz.",
            show_default=False,
        ),
    ] = None,
    *,
    drawing: Drawing,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            metavar="CLASS",
            help="Class, by number or name. With all, each class has a row of --n images.",
            show_default=False,
        ),
    ] = None,
    seed: FirstSeedOption = None,
    seeds: SeedsOption = None,
    ema: EmaOption = True,
    nrow: Annotated[
        int | None, typer.Option("--nrow", metavar="N", help="Images in a row of the grid.", show_default=False)
    ] = None,
    each: Annotated[
        Path | None,
        typer.Option(
            "--each",
            parser=path_of("--each"),
            metavar="DIR",
            help="Also write each image to DIR/SEED.png, or with --label all to DIR/CLASS-SEED.png.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Format of --each: png, tiff or npy. If left out, png, or tiff where PNG does not hold the values of the images.",
            show_default=False,
        ),
    ] = None,
    npz: Annotated[
        Path | None,
        typer.Option(
            "--npz",
            parser=path_of("--npz"),
            metavar="FILE",
            help="Write all images as arr_0, uint8 [N, H, W, 3], and classes as arr_1, as guided-diffusion's evaluator and `ddpm "
            "evaluate` read them. Grey is repeated in three channels.",
            show_default=False,
        ),
    ] = None,
    trajectory: Annotated[
        Path | None,
        typer.Option(
            "--trajectory",
            parser=path_of("--trajectory"),
            metavar="FILE",
            help="Also write the denoising. A .gif or .apng file moves, a .png file is a filmstrip.",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview/--no-preview", help="Draw the grid in the terminal, if there is one.")] = True,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Draw images from a run, a checkpoint or an exported file into one grid.

    An image depends on its seed and its class alone. Neither the other images nor the batch size change it.

    The images of --each have the values of the data that the model was trained on: of 16 bits, floats, or up to 16 channels. The
    grid shows them in 8 bits, and two channels or more than four in false colours.

    Without --label, a model that was trained with class labels takes the class from the seed: seed 0 draws class 0, seed 1
    class 1, and so on. After the last class it starts again with class 0.

    For example:

      ddpm sample --n 36 --out grid.png

      ddpm sample runs/quick-001 --sampler ddim --steps 50 --seeds 0-63

      ddpm sample runs/quick-001 --sampler tuned --steps 8

      ddpm sample --label all --guidance 2

      ddpm sample runs/quick-001 --guide-with @1000 --guide-scale 1.5

      ddpm sample model.safetensors --trajectory denoising.gif --each images

      ddpm sample --n 4 --trajectory filmstrip.png --no-preview

      ddpm sample runs/quick-001 --n 50000 --npz samples.npz
    """
    from ddpm_cli.errors import RequestError

    label = None if label is None else as_known(label, (ALL,))
    numbers = chosen_seeds(n, seed, seeds)
    number_from_file = not numbers
    require_positive("--nrow", nrow)
    if nrow is not None and label == ALL:
        raise RequestError("--nrow has no place beside --label all, where each class is a row.", "Leave it out; --n is per row.")
    if out is None and npz is None:
        out = Path("samples.png")
    require_writable_pictures(out, each)
    if form is not None and each is None:
        raise RequestError("--format is of single images, which --each asks for.", "Add --each DIR, or leave --format out.")
    if trajectory is not None:
        check_trajectory(trajectory, out)
    require_sample_settings(sets or [])

    from ddpm_cli.core.compute.device import check_device
    from ddpm_cli.render.pictures.values import format_of_values, suffix_of
    from ddpm_cli.render.terminal.console import print_json, show_line, show_notices
    from ddpm_cli.render.terminal.sampling import show_guide, show_model
    from ddpm_cli.sampling.guide import find_guide, guide_facts, load_guide
    from ddpm_cli.sampling.stored_model import find_model

    check_device(device or "auto")
    found = find_model(run, ema=ema, on_event=show_notices)
    settings = settings_of(found, drawing, sets or [], on_event=show_notices)
    guide = find_guide(found, settings, on_event=show_notices)
    classes = pick_classes(label, found)
    numbers = numbers or list(range(seed or 0, (seed or 0) + (IMAGES_PER_CLASS if label == ALL else settings.n)))
    outputs = Outputs(out, nrow, each, trajectory, npz, preview=preview and not json)
    outputs = replace(outputs, suffix=suffix_of(format_of_values(found.scale, found.image_shape[0], form)))
    if label == ALL:
        outputs = replace(outputs, columns=len(numbers), row_names=found.class_names)
    T = found.config.schedule.timesteps
    outputs.require(len(numbers) * max(len(classes), 1), settings.sampler.number_of_steps(T), found.image_shape)

    from ddpm_cli.core.compute.team import sampling_team
    from ddpm_cli.sampling.bounds import Demand, require_affordable
    from ddpm_cli.sampling.drawing import sampler_notices
    from ddpm_cli.sampling.file_bounds import Bounds
    from ddpm_cli.sampling.generate import labels_from_seeds, load_model

    team = sampling_team(device or "auto")
    trained = load_guide(load_model(found, team.device, on_event=show_notices), guide, settings, show_notices)
    for notice in sampler_notices(settings.sampler, settings.seen(trained.schedule), "sample.sampler"):
        show_notices(notice)
    labels = [of_row for of_row in classes for _ in numbers] or labels_from_seeds(numbers, trained.num_classes)
    numbers = numbers * max(len(classes), 1)
    demand = Demand.of(trained, settings, len(numbers), images_from_file=number_from_file)
    require_affordable(trained, settings, demand, Bounds(lifted=no_limits), show_notices)
    described = settings.sampler.model_dump() | {
        "steps": settings.sampler.number_of_steps(T),
        "evaluations": settings.sampler.evaluations(T),
    }
    show_model(trained.origin, trained.step, ema=ema, width=trained.width)
    along = "" if settings.path.is_own else f", along the path {settings.path.kind}"
    show_line("sampler:", "cyan", f"{described['kind']}, {described['steps']} steps{along}")
    if guide is not None:
        show_guide(guide.origin, guide.step, settings.guide.scale)
    if labels:
        named = "by seed" if label is None else ALL if label == ALL else trained.class_names[classes[0]]
        show_line("class:", "cyan", f"{named}, guidance {settings.guidance.scale:g}")

    with team.watched():
        singles = draw(team, trained, settings, numbers, labels or None, outputs)
    written = [path for path in (out, trajectory, npz) if path is not None]
    for path in written:
        show_line("wrote:", "green", f"{path}{'' if trained.scale == USUAL else VIEW}")
    if each is not None:
        show_line("wrote:", "green", f"{len(singles)} images to {each}")
    if json:
        facts = {"model": trained.origin, "step": trained.step, "ema": ema, "sampler": described, "seeds": numbers}
        facts |= trained.scale.facts()
        if labels:
            facts |= {"labels": labels, "guidance": settings.guidance.model_dump()}
        if not settings.path.is_own:
            facts["path"] = settings.path.model_dump()
        if guide is not None:
            facts["guide"] = guide_facts(guide, settings)
        print_json(facts | {"files": [*written, *singles]})


@dataclass(frozen=True)
class Outputs:
    """Say what to write: a grid, its rows named or not, and on request single images, the denoising and an array; what to show."""

    grid: Path | None
    columns: int | None
    each: Path | None
    trajectory: Path | None
    npz: Path | None = None
    row_names: tuple[str, ...] | None = None
    preview: bool = False
    suffix: str = ".png"

    def require(self, count: int, steps: int, image_shape: tuple[int, int, int]) -> None:
        """Refuse files that could not be written once `count` images are drawn in so many steps.

        Raises:
            OutputError: See `require_grid`, `require_trajectory` and `require_npz`.
        """
        from ddpm_cli.config.schema.sample import MAX_FRAMES
        from ddpm_cli.render.pictures.limits import require_grid, require_trajectory
        from ddpm_cli.render.pictures.npz import require_npz

        if self.grid is not None:
            require_grid(self.grid, count, image_shape, self.columns, self.row_names)
        if self.npz is not None:
            require_npz(self.npz, count, image_shape)
        if self.trajectory is not None:
            frames = min(steps, MAX_FRAMES)
            require_trajectory(self.trajectory, count, frames, image_shape, self.columns, self.row_names)


def pick_classes(label: str | None, trained: StoredModel) -> list[int]:
    """Find the classes that --label asks for; none if it was left out.

    Raises:
        RequestError: If there is no such class, or the model knows none.
    """
    from ddpm_cli.data.pictures.classes import find_class

    if label is None:
        return []
    names = class_names_for(label, trained)
    return list(range(len(names))) if label == ALL else [find_class(label, names)]


def draw(
    team: Team, trained: TrainedModel, settings: SampleConfig, seeds: list[int], labels: list[int] | None, outputs: Outputs
) -> list[Path]:
    """Draw one image for each seed, and class if there are any, and write what was asked for.

    All processes draw, the main one writes; each file appears whole or not at all. Images are kept in memory for a grid alone.

    Returns:
        The files of the single images.
    """
    from contextlib import ExitStack

    import numpy as np

    from ddpm_cli.core.io.files import make_folder
    from ddpm_cli.data.pictures.classes import file_names
    from ddpm_cli.render.pictures.images import grid, picture, save_grid, save_single, save_trajectory
    from ddpm_cli.render.pictures.npz import npz_of
    from ddpm_cli.render.terminal.picture import show_picture
    from ddpm_cli.render.terminal.sampling import SamplingView
    from ddpm_cli.sampling.generate import Frames
    from ddpm_cli.sampling.parallel import shared_frames, shared_samples

    frames = Frames() if outputs.trajectory is not None else None
    images: list[NDArray[np.uint8]] = []
    scale = trained.scale
    singles: list[Path] = []
    done, rows = 0, file_names(outputs.row_names or ())
    with SamplingView() as view, ExitStack() as stack:
        add = None
        if outputs.npz is not None and team.is_main:
            add = stack.enter_context(npz_of(outputs.npz, len(seeds), trained.image_shape, labels))
        for batch in shared_samples(team, trained, seeds, settings, labels=labels, on_event=view, on_frame=frames):
            if add is not None:
                add(scale.view_array(batch.numpy()))
            for image in batch.numpy():
                if outputs.each is not None:
                    make_folder(outputs.each)
                    row = f"{rows[labels[done]]}-" if labels and rows else ""
                    singles.append(outputs.each / f"{row}{seeds[done]}{outputs.suffix}")
                    save_single(singles[-1], image, scale)
                if outputs.grid is not None:
                    images.append(scale.view_array(image[None])[0])
                done += 1
    moments = shared_frames(team, frames, len(seeds)) if frames is not None else []
    if not team.is_main:
        return []
    if outputs.trajectory is not None:
        save_trajectory(outputs.trajectory, moments, outputs.columns, outputs.row_names)
    if outputs.grid is not None:
        save_grid(outputs.grid, np.stack(images), outputs.columns, outputs.row_names)
        if outputs.preview:
            show_picture(picture(grid(np.stack(images), outputs.columns)))
    return singles


def check_trajectory(path: Path, grid: Path | None) -> None:
    """Refuse a file for the denoising before the work that would be lost with it.

    Raises:
        OutputError: If it cannot be written, has a name that stands for something else, or is the grid itself.
    """
    from ddpm_cli.core.io.files import require_writable_parent
    from ddpm_cli.errors import OutputError
    from ddpm_cli.render.pictures.images import require_trajectory_name

    require_writable_parent(path)
    require_trajectory_name(path)
    if grid is not None and path.resolve() == grid.resolve():
        raise OutputError(f"--out and --trajectory both name {grid}.", "Give them two names.")
