"""Check what is asked of a benchmark before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_cli.core.compute.device import check_device, check_precision
from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.launch import processes
from ddpm_cli.errors import RequestError

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config

PEER_PACKAGES = {
    "diffusers": ("diffusers",),
    "lucidrains": ("denoising-diffusion-pytorch", "ema-pytorch"),
    "smalldiffusion": ("smalldiffusion", "torch-ema"),
}
"""Libraries that are timed against ours, with what must be installed for each, see `require_packages`."""


@dataclass(frozen=True)
class BenchRequest:
    """Say what to time.

    Attributes:
        batch_sizes: Images at a time, each at least 1.
        precisions: Number formats; empty takes fp32, and on CUDA bf16 too.
        seconds: Time to spend, about; large batches of large networks take longer.
        against: Names of peers, see PEER_PACKAGES.
    """

    batch_sizes: Sequence[int]
    precisions: Sequence[str] = ()
    seconds: float = 30.0
    against: Sequence[str] = ()


def check_bench(config: Config, request: BenchRequest) -> None:
    """Refuse what cannot be had, as far as that is known without torch.

    Raises:
        RequestError: If this is one of several processes, or a peer is not installed.
        DeviceError: If this machine lacks the device or a number format.
    """
    if processes() > 1:
        raise RequestError(f"ddpm bench times one process, and is one of {processes()} here.", "Start it without a launcher.")
    check_device(config.train.device)
    for precision in request.precisions:
        check_precision(precision, config.train.device)
    require_peers(request.against)


def require_peers(names: Sequence[str]) -> None:
    """Check that the packages of these peers are there.

    Raises:
        RequestError: If one is not installed.
    """
    require_packages("--against", "peers", *(package for name in names for package in PEER_PACKAGES[name]))
