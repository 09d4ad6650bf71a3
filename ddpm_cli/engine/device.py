"""Which device and number format to work in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ddpm_cli.errors import DeviceError

if TYPE_CHECKING:
    from accelerate import Accelerator


def available_devices() -> list[str]:
    """Names that `--device` takes on this machine, the fastest first."""
    devices = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def resolve_device(name: str) -> torch.device:
    """The device that `name` means here; on CUDA, matrices in float32 are from here on multiplied in TF32, as convolutions are.

    Args:
        name: auto, cpu, cuda, cuda:N or mps; auto takes the fastest that is present.

    Raises:
        DeviceError: If the machine has no such device.
    """
    present = available_devices()
    if name not in ("auto", *present):
        raise DeviceError(f"There is no device {name!r} on this machine.", f"Present: {', '.join(present)}.")
    device = torch.device(present[0] if name == "auto" else name)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """The number format of the network's forward pass: fp32, bf16 or fp16.

    Args:
        name: auto, fp32, bf16 or fp16; auto takes bf16 on CUDA devices that have it, fp16 on older ones, else fp32.
        device: Where the network runs.

    Raises:
        DeviceError: For fp16 anywhere but on CUDA, where no gradient scaling exists.
    """
    if name == "fp16" and device.type != "cuda":
        raise DeviceError(
            f"Training in fp16 needs a CUDA device; this run would use {device}.", "Set train.precision to auto or fp32."
        )
    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def precision_of(accelerator: Accelerator) -> str:
    """The number format that an accelerator works in: fp32, bf16 or fp16."""
    mixed: str = accelerator.mixed_precision
    return "fp32" if mixed == "no" else mixed
