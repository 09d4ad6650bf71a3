from __future__ import annotations

import pytest
import torch

from ddpm_cli.core.compute.device import resolve_device, resolve_precision
from ddpm_cli.errors import DeviceError


def test_devices_that_are_absent_are_refused_with_those_present() -> None:
    with pytest.raises(DeviceError, match=r"Present: .*cpu|Devices are auto, .*cpu"):
        resolve_device("cuda:99")
    with pytest.raises(DeviceError, match="'gpu' is no device"):
        resolve_device("gpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_precision_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == "fp32"
    assert resolve_precision("bf16", cpu) == "bf16"
    with pytest.raises(DeviceError, match="fp16 needs a CUDA device"):
        resolve_precision("fp16", cpu)
