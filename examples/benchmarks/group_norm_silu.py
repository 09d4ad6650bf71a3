"""GroupNorm followed by SiLU on a CPU: which way is fastest, for the feature maps of examples/benchmarks/unet2d.toml?

    OMP_NUM_THREADS=1 python examples/benchmarks/group_norm_silu.py

Two minutes, of which one is a compiler's (the last way; leave it out with --no-compile). All ways of a row are timed in turn, in
time of the processor, and the lowest of the rounds counts. Exit status 1 if a way computes something else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_cli.core.compute.allocator import keep_freed_memory

BATCH, ROUNDS = 32, 9
MAPS = ((64, 32), (128, 32), (128, 16), (256, 16), (128, 8))
GROUPS = 32
Way = Callable[[nn.GroupNorm, Tensor], Tensor]


def plain(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return functional.silu(norm(x))


def silu_in_place(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return functional.silu(norm(x), inplace=True)


def through_contiguous(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return functional.silu(norm(x.contiguous())).contiguous(memory_format=torch.channels_last)


def by_var_mean(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    by_group = x.unflatten(1, (norm.num_groups, -1))
    var, mean = torch.var_mean(by_group, dim=(2, 3, 4), correction=0)
    return _scaled(norm, x, mean, var)


def by_sums(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Faster on small maps, but a difference of two large numbers where the mean is far from 0."""
    sums, squares = x.sum((2, 3)), (x * x).sum((2, 3))
    mean, mean_square = ((s / x[0, 0].numel()).unflatten(1, (norm.num_groups, -1)).mean(2) for s in (sums, squares))
    return _scaled(norm, x, mean, mean_square - mean.square())


def _scaled(norm: nn.GroupNorm, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Silu of the normalised x; mean and var are [B, groups]."""
    scale = (var + norm.eps).rsqrt()[:, :, None] * norm.weight.view(norm.num_groups, -1)
    shift = norm.bias.view(norm.num_groups, -1) - mean[:, :, None] * scale
    return functional.silu(torch.addcmul(shift.flatten(1)[:, :, None, None], x, scale.flatten(1)[:, :, None, None]))


def microseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Of each call, per image, the lowest of the rounds."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3 + ROUNDS):
        for name, call in calls.items():
            started = time.process_time()
            call()
            taken[name].append(time.process_time() - started)
    return {name: 1e6 * min(times[3:]) / BATCH for name, times in taken.items()}


def train(way: Way, norm: nn.GroupNorm, x: Tensor, gradient: Tensor) -> Callable[[], object]:
    inputs = (x.detach().requires_grad_(), *norm.parameters())
    return lambda: torch.autograd.grad(way(norm, inputs[0]), inputs, gradient)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-compile", action="store_true")
    ways: dict[str, Way] = {
        "channels last": plain,
        "silu in place": silu_in_place,
        "contiguous and back": through_contiguous,
        "var_mean": by_var_mean,
        "sums": by_sums,
    }
    if not parser.parse_args().no_compile:
        ways["compiled"] = torch.compile(plain, dynamic=False)
    keep_freed_memory()
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, batch {BATCH}; microseconds per image")
    print(f"{'':24}{'contiguous':>12}" + "".join(f"{name:>20}" for name in ways))
    same = True
    for channels, side in MAPS:
        norm = nn.GroupNorm(GROUPS, channels)
        contiguous = torch.randn(BATCH, channels, side, side)
        x = contiguous.contiguous(memory_format=torch.channels_last)
        gradient = torch.randn_like(x)
        with torch.no_grad():
            expected = plain(norm, contiguous)
            same &= all(torch.allclose(way(norm, x), expected, atol=1e-4) for way in ways.values())
            forward = {name: partial(way, norm, x) for name, way in ways.items()}
            times = microseconds({"contiguous": partial(plain, norm, contiguous)} | forward)
        _row(f"{channels}x{side}x{side} forward", times)
        training = {name: train(way, norm, x, gradient) for name, way in ways.items()}
        times = microseconds({"contiguous": train(plain, norm, contiguous, gradient.contiguous())} | training)
        _row(f"{channels}x{side}x{side} and backward", times)
    return 0 if same else 1


def _row(what: str, times: dict[str, float]) -> None:
    first, *others = times.values()
    print(f"{what:24}{first:12.1f}" + "".join(f"{value:20.1f}" for value in others))


if __name__ == "__main__":
    sys.exit(main())
