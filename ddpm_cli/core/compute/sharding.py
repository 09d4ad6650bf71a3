"""Spread weights, gradients, moments and averages over the processes (Rajbhandari et al. 2020, ZeRO; torch's FSDP2).

Each block of the network is whole on a process only while it computes. Checkpoints hold whole tensors all the same: they fit any
number of processes, with sharding and without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

from ddpm_cli.models.base import blocks

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def shard(model: nn.Module, accelerator: Accelerator, *, reshard: bool = True) -> None:
    """Spread a model's parameters over all processes and their devices, in place.

    Args:
        model: A network, the same on every process, best on the CPU, from where only its own part goes to each device.
        accelerator: The processes.
        reshard: Give up what other processes hold again after each block; if False, only when `whole` ends.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in list(blocks(model)):
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard)
    fully_shard(model, mesh=mesh, reshard_after_forward=reshard)


@contextmanager
def whole(model: nn.Module) -> Iterator[nn.Module]:
    """Have all weights of a model on every process for a while, in which each may use it as often as it likes."""
    parts = [module for module in model.modules() if is_sharded(module)]
    for part in parts:
        part.unshard()
    try:
        yield model
    finally:
        for part in parts:
            part.reshard()


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gather the whole of each tensor that is spread, one after the other; all processes must ask for it.

    Args:
        tensors: By name.
        keep: Return them; a process that does not want them lends a hand and gets nothing.
    Returns:
        Those that were spread on the CPU, the others as they are.
    """
    found = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor().cpu() if _is_spread(tensor) else tensor
        if keep:
            found[name] = full
    return found


def spread_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Spread a whole tensor, the same on every process, as another one is; leave it if that is whole."""
    if not _is_spread(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """List what this process holds of each tensor, sharing its memory."""
    return [tensor.to_local() if _is_spread(tensor) else tensor for tensor in tensors]


def whole_tensor(tensor: Tensor) -> Tensor:
    """Gather the whole of a tensor that may be spread, on its device."""
    return tensor.full_tensor() if _is_spread(tensor) else tensor


def _is_spread(tensor: Tensor) -> TypeGuard[DTensor]:
    # By what it can do, because the class takes long to import, which one process has no need for.
    return hasattr(tensor, "full_tensor")


def is_sharded(module: nn.Module) -> TypeGuard[FSDPModule]:
    """Tell whether its weights are spread over the processes."""
    return hasattr(module, "unshard")
