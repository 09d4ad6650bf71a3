"""What a run will cost, from a few passes through a copy of its network."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, UntypedStorage, nn

PROBE_IMAGES = 16
PROBE_PASSES = 2
TENSORS_PER_PARAMETER = 5  # weight, gradient, two moments of Adam, EMA


def seconds_per_image(network: nn.Module, image_shape: tuple[int, int, int], batch: int, device: torch.device) -> float:
    """Time of one forward and backward pass, divided by the images in it.

    Args:
        network: The model; a copy of it is used, so that nothing in it changes.
        image_shape: Channels, height and width.
        batch: Images in one pass of the run; at most PROBE_IMAGES are timed at once on a CPU.
        device: Where to run.
    """
    size = min(batch, PROBE_IMAGES) if device.type == "cpu" else batch
    probe = copy.deepcopy(network).to(device).train()
    x, t = torch.zeros(size, *image_shape, device=device), torch.zeros(size, device=device)
    probe(x, t).square().mean().backward()
    started = _now(device)
    for _ in range(PROBE_PASSES):
        probe(x, t).square().mean().backward()
    return (_now(device) - started) / (PROBE_PASSES * size)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def training_bytes(network: nn.Module, image_shape: tuple[int, int, int], batch: int) -> int:
    """Memory that training needs in float32: weights and what belongs to them, and what one pass keeps for its backward pass.

    Args:
        network: The model, on the CPU or a device.
        image_shape: Channels, height and width.
        batch: Images in one forward pass.
    """
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return TENSORS_PER_PARAMETER * weights + batch * _activation_bytes(network, image_shape)


def _activation_bytes(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Bytes that one image's forward pass saves for its backward pass, weights left out; each storage counts once."""
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, UntypedStorage] = {}  # alive, so that no address is used twice

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor.detach()  # the tensor itself would hold the graph that holds it, and nothing would ever free the two

    device = next(network.parameters()).device
    x, t = torch.zeros(1, *image_shape, device=device), torch.zeros(1, device=device)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        network(x, t)
    return sum(storage.nbytes() for storage in kept.values())
