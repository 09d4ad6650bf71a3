"""Share what `interpolate`, `inpaint` and `img2img` have in common: options, and the way from a request to pictures on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli.cli.parsing.completion import run_names
from ddpm_cli.cli.parsing.options import path_of
from ddpm_cli.cli.parsing.requests import require_sample_settings
from ddpm_cli.sampling.request import Drawing, Editing, Way, editing_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.sampling.courses import Course
    from ddpm_cli.sampling.edits import Edit
    from ddpm_cli.sampling.file_bounds import Bounds
    from ddpm_cli.sampling.stored_model import StoredModel
    from ddpm_cli.sampling.trained_model import TrainedModel

    Pixels = NDArray[Any]

RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        "-r",
        parser=path_of("--run"),
        metavar="RUN",
        help="Run folder or name, checkpoint, or exported file. The newest run if left out.",
        autocompletion=run_names,
        show_default=False,
    ),
]
ImageArgument = Annotated[Path, typer.Argument(parser=path_of("IMAGE"), metavar="IMAGE", help="Picture file.", show_default=False)]
EditOption = Annotated[
    Path,
    typer.Option(
        "--out", "-o", parser=path_of("--out"), metavar="FILE", help="Picture of the result. An older file is replaced as a whole."
    ),
]
EachOption = Annotated[
    Path | None,
    typer.Option(
        "--each",
        parser=path_of("--each"),
        metavar="DIR",
        help="Also write each image to DIR/SEED.png, or .tif where PNG does not hold its values.",
        show_default=False,
    ),
]
LabelOption = Annotated[
    str | None,
    typer.Option("--label", metavar="CLASS", help="Class, by number or name. Any class if left out.", show_default=False),
]
VariantsOption = Annotated[
    int | None, typer.Option("--n", "-n", metavar="N", help="Variants to draw, 1 if left out.", show_default=False)
]
ResizeOption = Annotated[
    bool,
    typer.Option(
        "--resize",
        help="Bring pictures to the model's size, cut about the middle. They become grey if the model's images are grey.",
    ),
]
SideBySideOption = Annotated[
    bool, typer.Option("--side-by-side", help="Put the given pictures in front of the result, in one picture.")
]


VIEW = ", a view in 8 bits"
"""What is said of a picture that does not hold the values of its images."""


@dataclass(frozen=True)
class ModelChoice:
    """Hold the options that say which model works, and how.

    Attributes:
        run: --run.
        device: --device.
        ema: --ema or --no-ema.
        label: --label.
        drawing: How it draws.
        sets: --set.
        no_limits: --no-limits.
    """

    run: Path | None
    device: str | None
    ema: bool
    label: str | None
    drawing: Drawing
    sets: list[str] | None
    no_limits: bool


@dataclass(frozen=True)
class Found:
    """Hold a model whose weights are not read yet, and what it is to draw.

    Attributes:
        device: Where it will draw.
        model: The model.
        editing: How it draws.
        facts: What `--json` says of all this.
        bounds: On what its file may ask for.
        guide: The weaker model that images are led away from.
    """

    device: str
    model: StoredModel
    editing: Editing
    facts: dict[str, Any]
    bounds: Bounds
    guide: StoredModel | None

    def read_picture(self, path: Path, resize: bool) -> Pixels:
        """Read a picture as an image of this model, [C, H, W] as it stores them (see `data.model_picture`)."""
        from ddpm_cli.data.sources.model_picture import read_model_picture

        background = getattr(self.model.config.data, "background", "white")
        return read_model_picture(path, self.model.image_shape, self.model.scale, resize=resize, background=background)

    def require_picture(self, out: Path, shown: int) -> None:
        """Refuse a picture of so many images that could not be written once they are drawn.

        Raises:
            OutputError: See `require_grid`.
        """
        from ddpm_cli.render.pictures.limits import require_images

        require_images(out, shown, self.model.image_shape)

    def load(self) -> Opened:
        """Read the weights, and say on stderr which model draws."""
        from ddpm_cli.core.compute.team import sampling_team
        from ddpm_cli.render.terminal.console import show_line, show_notices
        from ddpm_cli.render.terminal.sampling import show_guide, show_model
        from ddpm_cli.sampling.generate import load_model
        from ddpm_cli.sampling.guide import load_guide

        team, settings = sampling_team(self.device), self.editing.settings
        trained = load_guide(load_model(self.model, team.device, on_event=show_notices), self.guide, settings, show_notices)
        show_model(trained.origin, trained.step, ema=self.model.ema, width=trained.width)
        if self.guide is not None:
            show_guide(self.guide.origin, self.guide.step, settings.guide.scale)
        if (label := self.editing.label) is not None:
            scale = settings.guidance.scale
            show_line("class:", "cyan", f"{trained.class_names[label] if scale else 'any'}, guidance {scale:g}")
        return Opened(team, trained, self.editing, self.facts, self.bounds)


@dataclass(frozen=True)
class Opened:
    """Hold a model that is ready to draw.

    Attributes:
        team: The processes.
        trained: The model.
        editing: How it draws.
        facts: What `--json` says of all this.
        bounds: On what the model may ask for.
    """

    team: Team
    trained: TrainedModel
    editing: Editing
    facts: dict[str, Any]
    bounds: Bounds

    def require_possible(self, edit: Edit) -> None:
        """Refuse what could not be drawn.

        Raises:
            RequestError: See `require_affordable`.
        """
        from ddpm_cli.render.terminal.console import show_notices
        from ddpm_cli.sampling.bounds import require_affordable

        require_affordable(self.trained, self.editing.settings, edit.demand(self.trained, self.editing), self.bounds, show_notices)


def find_model(choice: ModelChoice, way: Way) -> Found:
    """Find the model and settle how it draws; no weights are read yet, and torch is not imported.

    Args:
        choice: Which model.
        way: What the command does.
    Raises:
        RequestError: If the options, the model and its classes do not go together.
    """
    require_sample_settings(choice.sets or [])

    from ddpm_cli.core.compute.device import check_device
    from ddpm_cli.render.terminal.console import show_notices
    from ddpm_cli.sampling import stored_model
    from ddpm_cli.sampling.file_bounds import Bounds
    from ddpm_cli.sampling.guide import find_guide, guide_facts

    device = choice.device or "auto"
    check_device(device)
    model = stored_model.find_model(choice.run, ema=choice.ema, on_event=show_notices)
    editing = editing_of(model, choice.label, choice.drawing, choice.sets or [], way, on_event=show_notices)
    settings, T = editing.settings, model.config.schedule.timesteps
    guide = find_guide(model, settings, on_event=show_notices)
    sampler = settings.sampler.model_dump() | {"steps": settings.sampler.number_of_steps(T)}
    facts = {"model": model.origin, "step": model.step, "ema": choice.ema, "sampler": sampler}
    if editing.label is not None:
        facts |= {"label": editing.label if settings.guidance.scale else None, "guidance": settings.guidance.model_dump()}
    if not settings.path.is_own:
        facts["path"] = settings.path.model_dump()
    if guide is not None:
        facts["guide"] = guide_facts(guide, settings)
    return Found(device, model, editing, facts, Bounds(lifted=choice.no_limits), guide)


def draw(opened: Opened, course: Course, seeds: Sequence[int], each: Path | None) -> tuple[list[Pixels], list[Path]]:
    """Draw an image for each seed; all processes draw, the main one writes single images where these are asked for.

    Returns:
        Images, [C, H, W] each as stored, none on other processes than the main one; and the files of the single ones.
    """
    from ddpm_cli.core.io.files import make_folder
    from ddpm_cli.render.pictures.images import save_single
    from ddpm_cli.render.pictures.values import format_of_values, suffix_of
    from ddpm_cli.render.terminal.sampling import SamplingView
    from ddpm_cli.sampling.parallel import shared_samples

    scale = opened.trained.scale
    suffix = suffix_of(format_of_values(scale, opened.trained.image_shape[0]))
    label, settings = opened.editing.label, opened.editing.settings
    labels = None if label is None else [label] * len(seeds)
    with opened.team.watched(), SamplingView() as view:
        drawn = shared_samples(opened.team, opened.trained, seeds, settings, labels=labels, course=course, on_event=view)
        images = [image for batch in drawn for image in batch.numpy()]
    singles: list[Path] = []
    if each is not None and opened.team.is_main:
        make_folder(each)
        for seed, image in zip(seeds, images, strict=True):
            singles.append(each / f"{seed}{suffix}")
            save_single(singles[-1], image, scale)
    return images, singles


def finish(opened: Opened, images: Sequence[Pixels], out: Path, singles: list[Path], facts: dict[str, Any] | None) -> None:
    """Write the picture and say what was written; other processes than the main one do nothing.

    Args:
        opened: The model.
        images: All that the picture shows, [C, H, W] each as stored.
        out: The picture.
        singles: Files that are written already.
        facts: For --json, besides those of the model; None prints nothing.
    """
    from ddpm_cli.render.pictures.images import save_images
    from ddpm_cli.render.terminal.console import print_json, show_line

    if not opened.team.is_main:
        return
    whole = save_images(out, images, opened.trained.scale)
    show_line("wrote:", "green", f"{out}{'' if whole else VIEW}")
    if singles:
        show_line("wrote:", "green", f"{len(singles)} images to {singles[0].parent}")
    if facts is not None:
        print_json(opened.facts | facts | {"files": [out, *singles]})
