"""Say on what a benchmark ran, and how much memory it took."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from ddpm_cli import __version__
from ddpm_cli.results.benchmark import Machine


def peak_bytes(device: torch.device) -> int:
    """Measure the most bytes that were in use: on CUDA of the device's memory since the last reset, elsewhere of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def machine(device: torch.device, packages: Sequence[str]) -> Machine:
    """Describe what a benchmark ran on, with the versions of packages."""
    versions = {"ddpm": __version__, "python": platform.python_version()} | {name: version(name) for name in packages}
    return Machine(str(device), _device_name(device), torch.get_num_threads(), platform.platform(), versions)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
