"""`ddpm sample`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.options import DeviceOption, GridOption, JsonOption, RunArgument, SetOption, given

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.config.schema import SampleConfig
    from ddpm_cli.engine.generate import TrainedModel

MAX_SEEDS = 1_000_000


def sample(
    run: RunArgument = None,
    n: Annotated[int | None, typer.Option("--n", "-n", metavar="N", help="Images to draw.", show_default=False)] = None,
    out: GridOption = Path("samples.png"),
    sampler: Annotated[
        str | None, typer.Option("--sampler", metavar="NAME", help="ddpm, ddim or dpm-solver++.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Network evaluations per image.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the first image; the next has the next.")] = 0,
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
        Path | None, typer.Option("--each", metavar="DIR", help="Also write each image to DIR/SEED.png.", show_default=False)
    ] = None,
    trajectory: Annotated[
        Path | None, typer.Option("--trajectory", metavar="FILE", help="Also write the denoising as a GIF.", show_default=False)
    ] = None,
    device: DeviceOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Draw images from a run, a checkpoint or an exported file into one grid.

    An image depends on its seed alone: not on the others, nor on the batch size.

    For example:

      ddpm sample --n 36 --out grid.png

      ddpm sample runs/quick-001 --sampler ddim --steps 50 --seeds 0-63

      ddpm sample model.safetensors --trajectory denoising.gif --each images
    """
    from ddpm_cli.files import require_writable_folder, require_writable_parent

    numbers = parse_seeds(seeds) if seeds is not None else None
    for option, value in (("--n", n), ("--nrow", nrow)):
        require_positive(option, value)
    for path in (out, trajectory):
        if path is not None:
            require_writable_parent(path)
    if each is not None:
        require_writable_folder(each)

    from ddpm_cli.config.loader import override
    from ddpm_cli.engine.device import resolve_device
    from ddpm_cli.engine.generate import load_trained
    from ddpm_cli.render.console import print_json, show_line

    trained = load_trained(run, resolve_device(device or "auto"), ema=ema)
    flags = given(
        {
            "sample.sampler.kind": (sampler, "--sampler"),
            "sample.sampler.steps": (steps, "--steps"),
            "sample.batch_size": (batch_size, "--batch-size"),
        }
    )
    settings = override(trained.config, sets=sets or [], flags=flags).sample
    numbers = numbers if numbers is not None else list(range(seed, seed + (n or settings.n)))
    described = settings.sampler.model_dump() | {"steps": settings.sampler.evaluations(trained.schedule.timesteps)}
    show_line("model:", "cyan", f"{trained.origin} (step {trained.step:,}, {'EMA' if ema else 'last'} weights)")
    show_line("sampler:", "cyan", f"{described['kind']}, {described['steps']} steps")

    singles = draw(trained, settings, numbers, Outputs(out, nrow, each, trajectory))
    written = [path for path in (out, trajectory) if path is not None]
    for path in written:
        show_line("wrote:", "green", str(path))
    if each is not None:
        show_line("wrote:", "green", f"{len(singles)} images to {each}")
    if json:
        facts = {"model": str(trained.origin), "step": trained.step, "ema": ema, "sampler": described, "seeds": numbers}
        print_json(facts | {"files": [str(path) for path in [*written, *singles]]})


@dataclass(frozen=True)
class Outputs:
    """What to write: a grid, and on request single images and an animation."""

    grid: Path
    columns: int | None
    each: Path | None
    trajectory: Path | None


def draw(trained: TrainedModel, settings: SampleConfig, seeds: list[int], outputs: Outputs) -> list[Path]:
    """Draw one image for each seed and write what was asked for; each file appears whole or not at all.

    Returns:
        The files of the single images.
    """
    import numpy as np

    from ddpm_cli.engine.generate import Frames, generate_samples
    from ddpm_cli.render.images import save_animation, save_grid, save_picture
    from ddpm_cli.render.sampling import SamplingView

    frames = Frames() if outputs.trajectory is not None else None
    images: list[NDArray[np.uint8]] = []
    singles: list[Path] = []
    with SamplingView() as view:
        for batch in generate_samples(
            trained,
            seeds,
            sampler=settings.sampler,
            batch_size=settings.batch_size,
            clip=settings.clip,
            on_event=view,
            on_frame=frames,
        ):
            for image in batch.numpy():
                if outputs.each is not None:
                    outputs.each.mkdir(exist_ok=True)
                    singles.append(outputs.each / f"{seeds[len(images)]}.png")
                    save_picture(singles[-1], image)
                images.append(image)
    save_grid(outputs.grid, np.stack(images), outputs.columns)
    if frames is not None and outputs.trajectory is not None:
        save_animation(outputs.trajectory, frames.stacked(), outputs.columns)
    return singles


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
