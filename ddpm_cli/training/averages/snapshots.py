"""Keep power-function averages over the whole training, which any other average can be made of afterwards.

    RUN/averages/step-00000008.safetensors, step-00000009.safetensors, ...   those of each width, float32

An average of twice the age is twice as wide, so that snapshots lie at steps that grow by a tenth: of 1,000 steps there are 47, of a
million 120. They are not checkpoints, and no rule for these removes them. Those of a course of training that a run has left are
removed when it goes on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.io.files import UnreadableError, make_folder, output_errors, parse_json
from ddpm_cli.errors import CheckpointError
from ddpm_cli.runs.checkpoint_state import is_count
from ddpm_cli.runs.model_file import load_model_file, read_model_header, save_model_file
from ddpm_cli.training.averages.power import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.averages.ema import PowerEma

FIRST = 8
"""The first step of a snapshot."""
GROUP = "averages"
"""Of tensors in a checkpoint."""
_NAME = re.compile(r"step-(\d{8,15})\.safetensors")
_KEY = "averages"


@dataclass(frozen=True)
class Snapshot:
    """Hold the averages of one step, or of one checkpoint, as far as its header tells.

    Attributes:
        path: The file.
        step: Optimizer steps of the run.
        profiles: Of its averages, in order.
    """

    path: Path
    step: int
    profiles: tuple[Profile, ...]

    def weights(self) -> list[Mapping[str, Tensor]]:
        """Read the weights of each average.

        Raises:
            CheckpointError: If the file is damaged.
        """
        tensors, _ = load_model_file(self.path)
        return split(tensors, len(self.profiles))


def is_snapshot_step(step: int) -> bool:
    """Tell whether averages are kept after a step: 8, 9, 10, 11, 13, ..., each the one before and a tenth of it, rounded up."""
    at = FIRST
    while at < step:
        at = -(-at * 11 // 10)
    return at == step


def count_snapshots(steps: int) -> int:
    """Count the snapshots of a training of so many steps."""
    count, at = 0, FIRST
    while at <= steps:
        count, at = count + 1, -(-at * 11 // 10)
    return count


def joined(averages: Sequence[PowerEma[Any]], *, keep: bool) -> dict[str, Tensor]:
    """Gather the weights of all averages into one group of tensors; all processes must ask for it, see `sharding.gathered`."""
    from ddpm_cli.core.compute.sharding import gathered

    return {
        f"{number}.{name}": tensor
        for number, average in enumerate(averages)
        for name, tensor in gathered(average.model.state_dict(), keep=keep).items()
    }


def split(tensors: Mapping[str, Tensor], count: int) -> list[Mapping[str, Tensor]]:
    """Take such a group apart into the weights of each average."""
    return [
        {name.removeprefix(f"{number}."): tensor for name, tensor in tensors.items() if name.startswith(f"{number}.")}
        for number in range(count)
    ]


def save_snapshot(run: RunDirectory, step: int, averages: Sequence[PowerEma[Any]], tensors: Mapping[str, Tensor]) -> None:
    """Write the averages of a step, as a whole or not at all.

    Args:
        run: The run, locked by this process.
        step: Optimizer steps taken.
        averages: One or more.
        tensors: See `joined`.
    Raises:
        OutputError: If it cannot be written.
    """
    facts = {"step": step, "updates": int(averages[0].updates), "widths": [average.width for average in averages]}
    make_folder(run.averages_folder)
    save_model_file(run.averages_folder / f"step-{step:08d}.safetensors", tensors, {_KEY: json.dumps(facts)})


def list_snapshots(run: RunDirectory, until: int) -> list[Snapshot]:
    """List the snapshots of a run up to a step, in order; of their files the headers are read alone.

    Raises:
        CheckpointError: If one is damaged.
    """
    return [_snapshot(path) for step, path in _files(run) if step <= until]


def remove_after(run: RunDirectory, step: int) -> None:
    """Remove the snapshots of later steps, which belong to a course of training that a run leaves.

    Raises:
        OutputError: If one cannot be removed.
    """
    with output_errors(run.averages_folder):
        for at, path in _files(run):
            if at > step:
                path.unlink()


def _files(run: RunDirectory) -> list[tuple[int, Path]]:
    folder = run.averages_folder
    if not folder.is_dir():
        return []
    return sorted((int(found[1]), path) for path in folder.iterdir() if (found := _NAME.fullmatch(path.name)))


def _snapshot(path: Path) -> Snapshot:
    from ddpm_cli.config.schema.config import MOST_WIDTHS

    try:
        facts = parse_json(read_model_header(path).metadata[_KEY])
        step, updates, widths = facts["step"], facts["updates"], facts["widths"]
        if not (is_count(step) and is_count(updates) and updates > 0 and 0 < len(widths) <= MOST_WIDTHS):
            raise UnreadableError("has no step, or no such widths")
        profiles = tuple(Profile(updates, checked_width(width)) for width in widths)
    except (KeyError, TypeError, ValueError, UnreadableError) as error:
        raise CheckpointError(f"{path} is no snapshot of averages.", "Remove it, and make the average of the others.") from error
    return Snapshot(path, step, profiles)


def checked_width(width: object) -> float:
    """Take the width of an average.

    Raises:
        ValueError: If it is none.
    """
    from ddpm_cli.config.schema.config import WIDEST

    if not isinstance(width, float) or not 0 < width <= WIDEST:
        raise ValueError(f"no width of an average: {width!r}")
    return width
