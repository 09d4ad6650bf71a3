"""Check options of commands that draw images, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ddpm_cli.sampling.request import MAX_SEEDS


def require_positive(option: str, value: int | None) -> None:
    """Refuse numbers below 1.

    Raises:
        RequestError: Naming the option.
    """
    from ddpm_cli.errors import RequestError

    if value is not None and value < 1:
        raise RequestError(f"{option} must be at least 1, not {value}.", f"Give {option} a positive number.")


def require_sample_settings(sets: Sequence[str]) -> None:
    """Refuse a --set of anything that sampling does not read.

    Raises:
        RequestError: Naming it.
    """
    from ddpm_cli.errors import RequestError

    foreign = [text for text in sets if not text.startswith("sample.")]
    if foreign:
        raise RequestError(f"--set {foreign[0]} belongs to training; the model is trained.", "Only sample.* can be set here.")


def require_writable_pictures(out: Path | None, each: Path | None) -> None:
    """Refuse a picture, if there is to be one, and a folder for single images if there is to be one, that cannot be written.

    Raises:
        OutputError: Naming the file or the folder.
    """
    from ddpm_cli.core.io.files import require_writable_folder, require_writable_parent
    from ddpm_cli.render.pictures.limits import require_picture_name

    if out is not None:
        require_picture_name(out)
        require_writable_parent(out)
    if each is not None:
        require_writable_folder(each)


def chosen_seeds(n: int | None, seed: int | None, seeds: str | None) -> list[int]:
    """List the seeds that --n, --seed and --seeds ask for; none if their number is left open.

    Raises:
        RequestError: If they contradict each other or one of them makes no sense.
    """
    from ddpm_cli.errors import RequestError

    if seeds is not None and (n is not None or seed is not None):
        raise RequestError(
            "--seeds says which images to draw, so that --n and --seed have no place beside it.", "Leave one of them out."
        )
    require_positive("--n", n)
    if n is not None and n > MAX_SEEDS:
        raise RequestError(
            f"--n {n:,} is more than the {MAX_SEEDS:,} images that are drawn at a time.", "Draw them in parts: --seeds."
        )
    if seeds is not None:
        return parse_seeds(seeds)
    return list(range(seed or 0, (seed or 0) + (n or 0)))


def parse_seeds(text: str) -> list[int]:
    """Parse seeds from a list of numbers and ranges, both ends included: "0-3,7" is 0, 1, 2, 3, 7.

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
        if last < first:
            raise RequestError(f"--seeds {text!r}: {part!r} runs backwards.", f"Put the smaller first: {last}-{first}.")
        if len(seeds) + last - first >= MAX_SEEDS:
            raise RequestError(f"--seeds {text!r} holds more than {MAX_SEEDS:,} seeds.", "Draw them in parts.")
        seeds.extend(range(first, last + 1))
    return seeds
