"""`ddpm sample`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.completion import kinds
from ddpm_cli.cli.options import DeviceOption, GridOption, JsonOption, RunArgument, SetOption, given

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema import SampleConfig
    from ddpm_cli.engine.generate import TrainedModel
    from ddpm_cli.engine.team import Team

MAX_SEEDS = 1_000_000
MAX_SEED = 10**18 - 1
ALL = "all"
IMAGES_PER_CLASS = 8


def sample(
    run: RunArgument = None,
    n: Annotated[int | None, typer.Option("--n", "-n", metavar="N", help="Images to draw.", show_default=False)] = None,
    out: GridOption = Path("samples.png"),
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="NAME",
            help="ddpm, ddim, euler, heun, dpm-solver++ or unipc.",
            autocompletion=kinds("sample.sampler"),
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Steps of the sampler.", show_default=False)] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="CLASS", help="Class by number or name; all: a row of --n images for each class.", show_default=False
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance", metavar="X", help="1 follows the label, more does so closely, 0 ignores it.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            max=MAX_SEED,
            help="Seed of the first image, 0 if left out; the next has the next.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="LIST", help="Seeds themselves, such as 0-63 or 1,5,9; sets --n.", show_default=False),
    ] = None,
    ema: Annotated[bool, typer.Option("--ema/--no-ema", help="Averaged weights, or the last ones.")] = True,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Images at a time; does not change them.", show_default=False)
    ] = None,
    nrow: Annotated[
        int | None, typer.Option("--nrow", metavar="N", help="Images in a row of the grid.", show_default=False)
    ] = None,
    each: Annotated[
        Path | None,
        typer.Option(
            "--each",
            metavar="DIR",
            help="Also write each image to DIR/SEED.png, with --label all CLASS-SEED.png.",
            show_default=False,
        ),
    ] = None,
    trajectory: Annotated[
        Path | None, typer.Option("--trajectory", metavar="FILE", help="Also write the denoising as a GIF.", show_default=False)
    ] = None,
    device: DeviceOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Draw images from a run, a checkpoint or an exported file into one grid.

    An image depends on its seed, and its class, alone: not on the others, nor on the batch size. A model that was trained with
    class labels gives seed number i class i, counted round, if --label is left out.

    For example:

      ddpm sample --n 36 --out grid.png

      ddpm sample runs/quick-001 --sampler ddim --steps 50 --seeds 0-63

      ddpm sample --label all --guidance 2

      ddpm sample model.safetensors --trajectory denoising.gif --each images
    """
    from ddpm_cli.errors import RequestError
    from ddpm_cli.files import require_writable_folder

    if seeds is not None and (n is not None or seed is not None):
        raise RequestError(
            "--seeds says which images to draw, so that --n and --seed have no place beside it.", "Leave one of them out."
        )
    numbers = parse_seeds(seeds) if seeds is not None else None
    for option, value in (("--n", n), ("--nrow", nrow)):
        require_positive(option, value)
    if nrow is not None and label == ALL:
        raise RequestError("--nrow has no place beside --label all, where each class is a row.", "Leave it out; --n is per row.")
    check_outputs(out, trajectory)
    foreign = [text for text in sets or [] if not text.startswith("sample.")]
    if foreign:
        raise RequestError(f"--set {foreign[0]} belongs to training; the model is trained.", "Only sample.* can be set here.")
    if each is not None:
        require_writable_folder(each)

    from ddpm_cli.config.loader import override
    from ddpm_cli.engine.generate import labels_from_seeds, load_trained
    from ddpm_cli.engine.team import sampling_team
    from ddpm_cli.render.console import print_json, show_line, show_notices

    team = sampling_team(device or "auto")
    trained = load_trained(run, team.device, ema=ema, on_event=show_notices)
    flags = given(
        {
            "sample.sampler.kind": (sampler, "--sampler"),
            "sample.sampler.steps": (steps, "--steps"),
            "sample.batch_size": (batch_size, "--batch-size"),
            "sample.guidance.scale": (guidance, "--guidance"),
        }
    )
    settings = override(trained.config, sets=sets or [], flags=flags).sample
    classes = pick_classes(label, trained)
    per_row = n or (IMAGES_PER_CLASS if label == ALL else settings.n)
    numbers = numbers if numbers is not None else list(range(seed or 0, (seed or 0) + per_row))
    outputs = Outputs(out, nrow, each, trajectory)
    if label == ALL:
        outputs = Outputs(out, len(numbers), each, trajectory, row_names=trained.class_names)
    labels = [of_row for of_row in classes for _ in numbers] or labels_from_seeds(numbers, trained.num_classes)
    numbers = numbers * max(len(classes), 1)
    T = trained.schedule.timesteps
    described = settings.sampler.model_dump() | {
        "steps": settings.sampler.number_of_steps(T),
        "evaluations": settings.sampler.evaluations(T),
    }
    show_line("model:", "cyan", f"{trained.origin} (step {trained.step:,}, {'EMA' if ema else 'last'} weights)")
    show_line("sampler:", "cyan", f"{described['kind']}, {described['steps']} steps")

    if labels:
        named = "by seed" if label is None else ALL if label == ALL else trained.class_names[classes[0]]
        show_line("class:", "cyan", f"{named}, guidance {settings.guidance.scale:g}")

    with team.watched():
        singles = draw(team, trained, settings, numbers, labels or None, outputs)
    written = [path for path in (out, trajectory) if path is not None]
    for path in written:
        show_line("wrote:", "green", str(path))
    if each is not None:
        show_line("wrote:", "green", f"{len(singles)} images to {each}")
    if json:
        facts = {"model": str(trained.origin), "step": trained.step, "ema": ema, "sampler": described, "seeds": numbers}
        if labels:
            facts |= {"labels": labels, "guidance": settings.guidance.model_dump()}
        print_json(facts | {"files": [str(path) for path in [*written, *singles]]})


@dataclass(frozen=True)
class Outputs:
    """What to write: a grid, its rows named or not, and on request single images and an animation."""

    grid: Path
    columns: int | None
    each: Path | None
    trajectory: Path | None
    row_names: tuple[str, ...] | None = None


def pick_classes(label: str | None, trained: TrainedModel) -> list[int]:
    """The classes that --label asks for; none if it was left out.

    Raises:
        RequestError: If there is no such class, or the model knows none.
    """
    from ddpm_cli.data.classes import find_class
    from ddpm_cli.errors import RequestError

    if label is None:
        return []
    if trained.num_classes is None:
        raise RequestError(
            f"{trained.origin} was trained without class labels, so that --label {label} means nothing to it.",
            "Leave --label out, or train a model with --set model.num_classes=auto.",
        )
    return list(range(len(trained.class_names))) if label == ALL else [find_class(label, trained.class_names)]


def draw(
    team: Team, trained: TrainedModel, settings: SampleConfig, seeds: list[int], labels: list[int] | None, outputs: Outputs
) -> list[Path]:
    """Draw one image for each seed, and class if there are any, and write what was asked for.

    All processes draw, the main one writes; each file appears whole or not at all.

    Returns:
        The files of the single images.
    """
    import numpy as np

    from ddpm_cli.engine.generate import Frames
    from ddpm_cli.engine.shared_samples import shared_frames, shared_samples
    from ddpm_cli.render.images import save_animation, save_grid, save_picture
    from ddpm_cli.render.sampling import SamplingView

    frames = Frames() if outputs.trajectory is not None else None
    images: list[NDArray[np.uint8]] = []
    singles: list[Path] = []
    with SamplingView() as view:
        for batch in shared_samples(team, trained, seeds, settings, labels=labels, on_event=view, on_frame=frames):
            for image in batch.numpy():
                if outputs.each is not None:
                    outputs.each.mkdir(exist_ok=True)
                    row = f"{labels[len(images)]}-" if labels and outputs.row_names else ""
                    singles.append(outputs.each / f"{row}{seeds[len(images)]}.png")
                    save_picture(singles[-1], image)
                images.append(image)
    moments = shared_frames(team, frames, len(seeds)) if frames is not None else []
    if not team.is_main:
        return []
    save_grid(outputs.grid, np.stack(images), outputs.columns, outputs.row_names)
    if outputs.trajectory is not None:
        save_animation(outputs.trajectory, moments, outputs.columns, outputs.row_names)
    return singles


def check_outputs(grid: Path, trajectory: Path | None) -> None:
    """Refuse outputs before the work that would be lost with them.

    Raises:
        RequestError: If a file cannot be written, has a name that stands for something else, or both are the same.
    """
    from ddpm_cli.errors import OutputError
    from ddpm_cli.files import require_writable_parent
    from ddpm_cli.render.images import require_picture_name

    require_picture_name(grid)
    require_writable_parent(grid)
    if trajectory is None:
        return
    require_writable_parent(trajectory)
    if trajectory.suffix.lower() != ".gif":
        raise OutputError(f"Cannot write {trajectory}: an animation is a GIF.", "Give --trajectory a name that ends in .gif.")
    if trajectory.resolve() == grid.resolve():
        raise OutputError(f"--out and --trajectory both name {grid}.", "Give them two names.")


def require_positive(option: str, value: int | None) -> None:
    """Refuse numbers below 1.

    Raises:
        RequestError: Naming the option.
    """
    from ddpm_cli.errors import RequestError

    if value is not None and value < 1:
        raise RequestError(f"{option} must be at least 1, not {value}.", f"Give {option} a positive number.")


def parse_seeds(text: str) -> list[int]:
    """Seeds from a list of numbers and ranges, both ends included: "0-3,7" is 0, 1, 2, 3, 7.

    Raises:
        RequestError: If the text is anything else, or holds more than a million seeds.
    """
    from ddpm_cli.errors import RequestError

    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        if match is None:
            raise RequestError(
                f"--seeds {text!r}: {part!r} is neither a number nor a range.", "Write for example --seeds 0-63 or --seeds 1,5,9."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or len(seeds) + last - first >= MAX_SEEDS:
            raise RequestError(
                f"--seeds {text!r}: {part!r} runs backwards or is too long.", f"At most {MAX_SEEDS:,} seeds, the smaller first."
            )
        seeds.extend(range(first, last + 1))
    return seeds
