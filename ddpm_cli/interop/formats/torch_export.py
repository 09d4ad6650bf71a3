"""The denoiser as a program that runs without this package (torch.export)."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.errors import CheckpointError

Denoiser = Callable[..., Tensor]
"""Called as denoiser(x, t), or denoiser(x, t, labels) if it takes class labels."""
STEPS = 1000
"""Random noise levels for comparing are drawn below this."""


def save_program(model: nn.Module, example_x: Tensor, path: Path, *, with_labels: bool = False) -> None:
    """Write the denoiser as a `.pt2` program for the CPU, in evaluation mode, with a batch of any size.

    The program is called as program(x, t) or program(x, t, labels): x as example_x but for the batch, t and labels int64 [B].

    Args:
        model: Denoiser called in the same way; it is not changed.
        example_x: Images of the right shape and dtype, [B, C, H, W].
        path: File to create or replace, as a whole; its folder must exist.
        with_labels: Whether the program takes class labels.
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
    torch.export.save(program, buffer)
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


@torch.no_grad()
def largest_difference(
    a: Denoiser, b: Denoiser, shape: Sequence[int], batches: Sequence[int] = (1, 3), labels: int | None = None
) -> float:
    """Largest absolute difference of two denoisers on random images, noise levels and labels; NaN if either gives NaN.

    Args:
        a: Denoiser on the CPU.
        b: Denoiser on the CPU.
        shape: (C, H, W) of an image.
        batches: Batch sizes to try.
        labels: How many labels the denoisers know, the null label included; None if they take none.
    """
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch in batches:
        x = torch.randn(batch, *shape, generator=generator)
        t = torch.randint(STEPS, (batch,), generator=generator)
        inputs = (x, t) if labels is None else (x, t, torch.randint(labels, (batch,), generator=generator))
        differences.append((a(*inputs) - b(*inputs)).abs().max())
    return torch.stack(differences).max().item()
