"""Write the denoiser as a program that runs without this package (torch.export)."""

from __future__ import annotations

import copy
import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import CheckpointError
from ddpm_cli.interop.half import HalfWeights
from ddpm_cli.interop.same_noise import prediction_difference
from ddpm_cli.results.interchange import Comparison

if TYPE_CHECKING:
    from ddpm_cli.interop.registry import ExportOptions
    from ddpm_cli.sampling.trained_model import TrainedModel

TOLERANCE = 1e-4
SCALE_FILE = "scale.json"
"""What `torch.export.load` gives by this name in `extra_files`: which values of pixels are -1 and 1, and how they are stored."""


def save_program(model: nn.Module, example_x: Tensor, path: Path, *, with_labels: bool = False, scale: Scale = USUAL) -> None:
    """Write the denoiser as a `.pt2` program for the CPU, in evaluation mode, with a batch of any size.

    The program is called as program(x, t) or program(x, t, labels): x as example_x but for the batch, t and labels int64 [B].

    Args:
        model: Denoiser called in the same way; it is not changed.
        example_x: Images of the right shape and dtype, [B, C, H, W].
        path: File to create or replace, as a whole; its folder must exist.
        with_labels: Whether the program takes class labels.
        scale: Which pixels x stands for; one that is not usual is kept in the file as the extra file SCALE_FILE.
    Raises:
        OutputError: If the file cannot be written; what was there before stays.
    """
    # torch.export.save warns of channels_last weights, which it takes for parts of larger tensors.
    on_cpu = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    # Two images: torch.export takes a size of 1 for a constant.
    x = torch.zeros(2, *example_x.shape[1:], dtype=example_x.dtype)
    t = torch.zeros(2, dtype=torch.int64)
    inputs = (x, t, torch.zeros_like(t)) if with_labels else (x, t)
    program = torch.export.export(on_cpu, inputs, dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={SCALE_FILE: json.dumps(told)} if (told := scale.facts()) else None)
    atomic_write(path, buffer.getvalue())


def load_program(path: Path) -> nn.Module:
    """Read a program that `save_program` has just written, to check it.

    Only for files of our own: torch.export.load unpickles parts of a file if the file asks for it (seen in torch 2.15: weights
    marked as pickled, custom constants, and example inputs that plain loading refuses), so a stranger's file could run code.

    Returns:
        The program, on the CPU, called as `save_program` says.
    Raises:
        CheckpointError: If the file is missing, damaged or no such program.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    try:
        with warnings.catch_warnings():
            # torch 2.11 says so of its own reading; the weights are only read.
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            return torch.export.load(io.BytesIO(data)).module()
    except Exception as error:  # a damaged archive can fail anywhere inside torch
        raise CheckpointError(f"{path} is damaged or no torch.export program ({error}).", "Export the run again.") from error


def write(trained: TrainedModel, path: Path, options: ExportOptions) -> list[Comparison]:
    """Write the program, load it again, and compare what both predict."""
    network = HalfWeights(trained.network) if options.half else trained.network
    save_program(
        network, torch.zeros(2, *trained.image_shape), path, with_labels=trained.num_classes is not None, scale=trained.scale
    )
    return [Comparison("prediction in torch.export", prediction_difference(trained, load_program(path)), TOLERANCE)]
