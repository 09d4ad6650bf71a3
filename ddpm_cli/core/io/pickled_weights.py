"""Read tensors out of what `torch.save` wrote, which is a pickle, without running any of it.

A process of its own reads the file, with bounds on its memory and its time, and hands the tensors over as safetensors; see
`pickled_weights_process.py` for what it refuses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.io.files import UnreadableError, open_regular
from ddpm_cli.core.io.tensor_files import read_tensor_file

if TYPE_CHECKING:
    from torch import Tensor

BASE_SECONDS = 600.0
BYTES_PER_SECOND = 20e6
"""What is waited for: a slow disk, and a machine that does something else meanwhile."""

SCALARS = "scalars"
TENSORS_NAME = "tensors.safetensors"
COMMAND = (sys.executable, "-m", "ddpm_cli.core.io.pickled_weights_process")


@dataclass(frozen=True)
class PickledWeights:
    """Hold what a file of `torch.save` holds.

    Attributes:
        tensors: On the CPU, by the keys that lead to each, joined by "/".
        scalars: Texts, numbers, truth values and None directly below the outermost dict, by key.
        bounded: Whether the process that read it had a bound on its memory, which Windows and macOS do not keep.
    """

    tensors: dict[str, Tensor]
    scalars: dict[str, Any]
    bounded: bool


def read_pickled_weights(path: Path, *, skip: Sequence[str] = ()) -> PickledWeights:
    """Read tensors and plain values of a file that `torch.save` wrote; a link to one is followed.

    Args:
        path: The file.
        skip: Keys of the outermost dict that are passed over, such as those of an optimizer.
    Raises:
        UnreadableError: If it is missing, damaged or of another kind, if it holds anything but tensors in plain containers, or if
            reading it takes more memory or time than a file of its size may.
        OSError: If it cannot be opened, which says nothing about the file.
    """
    target = path.resolve()
    with open(open_regular(target), "rb") as file:
        size = os.fstat(file.fileno()).st_size
    with tempfile.TemporaryDirectory(prefix="ddpm-import-") as folder:
        out = Path(folder, TENSORS_NAME)
        answer = read_apart([*COMMAND, str(target), str(out), json.dumps(list(skip))], BASE_SECONDS + size / BYTES_PER_SECOND)
        if "refused" in answer:
            raise UnreadableError(answer["refused"])
        tensors, metadata = read_tensor_file(out)
        # Copies: what was read is a view of the file, which goes with its folder.
        owned = {name: tensor.clone() for name, tensor in tensors.items()}
    return PickledWeights(owned, json.loads(metadata[SCALARS]), answer["bounded"])


def read_apart(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run the process that reads, and take its answer.

    Raises:
        UnreadableError: If it takes longer than `seconds`, or ends without an answer.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}  # threads' stacks would count as memory
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnreadableError(f"was not read within {seconds:,.0f} s, which is more than a file of its size needs") from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise UnreadableError(
            "ended the process that read it: it needs more memory or time than a file of its size may, or it is damaged"
        ) from error
    return answer
