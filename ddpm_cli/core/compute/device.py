"""Choose the device and number format to work in. torch is imported where a device has to be asked."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.names import nearest
from ddpm_cli.errors import DeviceError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

KINDS = ("auto", "cpu", "cuda", "mps")
OTHER_NAMES = dict.fromkeys(("gpu", "nvidia", "rocm", "hip"), '"cuda"') | dict.fromkeys(("apple", "metal", "m1"), '"mps"')
_NAME = re.compile(r"auto|cpu|mps|cuda(:\d{1,4})?")
_DRIVER = "libcuda.so.1"
"""Which CUDA itself loads, by this name."""


def check_device(name: str) -> None:
    """Refuse what is known without torch to be no device of this machine; whether a CUDA device works, torch alone can tell.

    Args:
        name: As `resolve_device` takes it.
    Raises:
        DeviceError: If it is no device's name, or names a kind that this machine cannot have.
    """
    known = name.lower()
    if not _NAME.fullmatch(known):
        raise DeviceError(f"{name!r} is no device; {nearest(known, KINDS, OTHER_NAMES)}.", REMEDY)
    if known == "mps" and sys.platform != "darwin":
        raise DeviceError("There is no device 'mps' on this machine: it is in Apple's computers alone.", REMEDY)
    if known.startswith("cuda") and (why := _why_no_cuda()):
        raise DeviceError(f"There is no device {known!r} on this machine: {why}.", REMEDY)


REMEDY = "Devices are auto, which takes the fastest there is, cpu, cuda, cuda:N and mps; `ddpm doctor` tries those of this machine."


def _why_no_cuda() -> str:
    """Why CUDA cannot be had here, as far as that is known without torch; empty if it may be there."""
    if sys.platform == "darwin":
        return "it is NVIDIA's and AMD's, for which there is no driver on a Mac"
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return ""
    built = built_for(Path(found.origin).with_name("version.py"))
    if built is not None and not built:
        return "this PyTorch was built without it"
    if built == {"cuda"} and sys.platform == "linux" and not has_driver():
        return f"NVIDIA's driver ({_DRIVER}) is not installed"
    return ""


def built_for(version: Path) -> set[str] | None:
    """List those of cuda and hip that torch's own version file says it was built for; None if it does not say."""
    try:
        text = version.read_text("utf-8")
    except OSError:
        return None
    said = dict(re.findall(r"^(cuda|hip)\b[^=\n]*=\s*(\S+)", text, re.MULTILINE))
    return {name for name, value in said.items() if value != "None"} if said.keys() == {"cuda", "hip"} else None


def has_driver() -> bool:
    """Tell whether NVIDIA's driver is installed."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def available_devices() -> list[str]:
    """List the names that `--device` takes on this machine, the fastest first."""
    import torch

    devices = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def resolve_device(name: str) -> torch.device:
    """Find the device that `name` means here; on CUDA, multiply matrices in float32 in TF32 from here on, as in convolutions.

    Args:
        name: auto, cpu, cuda, cuda:N or mps; auto takes the fastest that is present.

    Raises:
        DeviceError: If the machine has no such device.
    """
    import torch

    check_device(name)
    name, present = name.lower(), available_devices()
    if name not in ("auto", *present):
        raise DeviceError(f"There is no device {name!r} on this machine.", f"Present: {', '.join(present)}.")
    device = torch.device(present[0] if name == "auto" else name)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device


def check_precision(name: str, device: str) -> None:
    """Refuse fp16 on devices that are known without torch not to be CUDA's.

    Args:
        name: As `resolve_precision` takes it.
        device: A device's name.
    Raises:
        DeviceError: For fp16 anywhere but on CUDA, where no gradient scaling exists.
    """
    if device == "auto" and sys.platform == "linux" and _why_no_cuda():
        device = "cpu"
    if name == "fp16" and not device.startswith(("cuda", "auto")):
        raise DeviceError(
            f"Training in fp16 needs a CUDA device; this run would use {device}.", "Set train.precision to auto or fp32."
        )


def resolve_precision(name: str, device: torch.device) -> str:
    """Choose the number format of the network's forward pass: fp32, bf16 or fp16.

    Args:
        name: auto, fp32, bf16 or fp16; auto takes bf16 on CUDA devices that have it, fp16 on older ones, else fp32.
        device: Where the network runs.

    Raises:
        DeviceError: For fp16 anywhere but on CUDA, where no gradient scaling exists.
    """
    check_precision(name, str(device))
    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def precision_of(accelerator: Accelerator) -> str:
    """Tell the number format that an accelerator works in: fp32, bf16 or fp16."""
    mixed: str = accelerator.mixed_precision
    return "fp32" if mixed == "no" else mixed
