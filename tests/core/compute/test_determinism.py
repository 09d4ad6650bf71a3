"""Deterministic kernels: inside the block alone, and a message where there is none."""

from __future__ import annotations

import os

import pytest
import torch

from ddpm_cli.core.compute.determinism import deterministic_algorithms
from ddpm_cli.errors import DdpmError


def settings() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    enabled, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return enabled, warn_only, cudnn.deterministic, cudnn.benchmark, os.environ.get("CUBLAS_WORKSPACE_CONFIG")


def test_it_holds_inside_the_block_and_leaks_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with deterministic_algorithms(True):
        assert settings() == (True, False, True, False, ":4096:8")
    assert settings() == before
    with pytest.raises(ZeroDivisionError), deterministic_algorithms(True):
        raise ZeroDivisionError
    assert settings() == before
    with deterministic_algorithms(False):
        assert settings() == before


def test_a_workspace_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic_algorithms(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_operation_without_a_deterministic_kernel_is_named() -> None:
    """torch refuses put_ on every device."""
    with pytest.raises(DdpmError, match=r"put_\b.* no deterministic kernel") as refused, deterministic_algorithms(True):
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.ones(2))
    assert "--deterministic" in refused.value.remedy


@pytest.mark.parametrize(
    "message",
    [
        "upsample_bilinear2d_backward_out_cuda does not have a deterministic implementation, but you set ...",
        "Deterministic behavior was enabled, but this operation is not deterministic because it uses CuBLAS and you have CUDA.",
    ],
)
def test_what_torch_says_on_cuda_is_understood(message: str) -> None:
    with pytest.raises(DdpmError, match=r"(upsample_bilinear2d_backward_out_cuda|CuBLAS) has no"), deterministic_algorithms(True):
        raise RuntimeError(message)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"), deterministic_algorithms(True):
        torch.zeros(2) + torch.zeros(3)
