"""Ask for the same bits on the same machine, where fast kernels would add in the order in which their threads happen to end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ddpm_cli.errors import DdpmError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REFUSED = re.compile(r"(\S+) does not have a deterministic implementation|is not deterministic because it uses (\S+)")


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Have torch use deterministic kernels alone inside the block; whatever was set before is set again after it.

    To be entered before CUDA starts, because cuBLAS reads the size of its workspace once.

    Args:
        wanted: False to leave everything as it is.
    Raises:
        DdpmError: If an operation has no deterministic kernel on this device.
    """
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled())
    warn_only, workspace = torch.is_deterministic_algorithms_warn_only_enabled(), os.environ.get(_WORKSPACE)
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if refused := _REFUSED.search(str(error)):
            raise _no_kernel(refused[1] or refused[2]) from error
        raise
    finally:
        cudnn.deterministic, cudnn.benchmark = before[:2]
        torch.use_deterministic_algorithms(before[2], warn_only=warn_only)
        if workspace is None:
            del os.environ[_WORKSPACE]


def _no_kernel(operation: str) -> DdpmError:
    return DdpmError(
        f"train.deterministic is on, but {operation} has no deterministic kernel on this device.",
        "Train without --deterministic (--set train.deterministic=false), or on another device, for instance --device cpu.",
    )
