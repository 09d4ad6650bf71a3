"""Give where tests draw noise from, and what fails where none may be drawn."""

from __future__ import annotations

import torch
from torch import Tensor


def source(seed: int = 0) -> torch.Generator:
    """Make a generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def no_noise() -> Tensor:
    """Fail: what is called here is deterministic."""
    raise AssertionError("no noise belongs here")
