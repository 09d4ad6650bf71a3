"""Let the device itself skip a step of the optimizer."""

from __future__ import annotations

from torch import Tensor, optim

SKIPPING_DEVICES = ("cpu", "cuda")
"""Whose fused kernels heed `found_inf`; those of MPS take it and go on."""


def step_if(taken: Tensor, optimizer: optim.Adam) -> None:
    """Take a step unless the gradient is not to be trusted; if not, weights, moments and the count of steps stay as they are.

    The fused kernels read the answer on the device, and the host does not wait for it.

    Args:
        taken: A boolean scalar on the device.
        optimizer: From `build_optimizer`; its parameters have gradients.
    """
    if optimizer.defaults["fused"]:
        optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]  # it is where torch's gradient scaler leaves it, too
        optimizer.step()
    elif taken:
        optimizer.step()
