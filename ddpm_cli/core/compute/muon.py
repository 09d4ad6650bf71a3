"""Move matrices along the orthogonal part of their momentum (Jordan et al. 2024, Muon)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from ddpm_cli.core.compute.sharding import own_parts, spread_like, whole_tensor
from ddpm_cli.models.base import Denoiser

MOMENTUM = "momentum_buffer"
MOMENTS = "moments"
"""Key of a group of parameters whose optimizer keeps other moments of them than Adam."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: it does not converge to 1, but brings every singular value close to it in a few steps."""
RMS_OF_ADAM = 0.2
"""Root mean square of an update of Adam, in multiples of the learning rate (Liu et al. 2025, Muon is scalable, Sec. 2.2)."""

Each = Callable[[Callable[[list[int]], Tensor], Iterable[list[int]]], Iterable[Tensor]]


class Muon(optim.AdamW):
    """Move matrices by Muon, and all other weights by AdamW.

    M <- momentum * M + (1 - momentum) * G    N = momentum * M + (1 - momentum) * G
    W <- W - lr * 0.2 * sqrt(max(rows, columns)) * orthogonal(N)

    A convolution [out, in, H, W] is a matrix of `out` rows. As that of AdamW, the step is skipped on the device where `found_inf`
    is 1, see `core.compute.skipping`.

    Args:
        others: What AdamW moves.
        matrices: What Muon moves, each of two dimensions or more.
        lr: Learning rate of the others.
        matrix_lr: Of the matrices.
        momentum: Share of the old momentum that each step keeps.
        ns_steps: Of Newton and Schulz.
        betas: See AdamW.
        eps: See AdamW.
        weight_decay: Of both.
        fused: See AdamW.
    """

    def __init__(
        self,
        others: Iterable[Tensor],
        matrices: Iterable[Tensor],
        *,
        lr: float,
        matrix_lr: float,
        momentum: float,
        ns_steps: int,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        fused: bool,
    ) -> None:
        groups: list[dict[str, Any]] = [{"params": list(others)}, {"params": list(matrices), "lr": matrix_lr, MOMENTS: (MOMENTUM,)}]
        super().__init__(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)
        self.momentum, self.ns_steps = momentum, ns_steps
        self.each: Each = map
        """Calls a function with each of several things; what does so in several threads makes matrices orthogonal in these."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was stored; Adam's own method asks every parameter for its count of steps, which matrices have not."""
        optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move all weights that have a gradient."""
        others, matrices = self.param_groups
        self.param_groups = [others]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = [others, matrices]
        self._move(matrices)
        return loss

    def _move(self, group: dict[str, Any]) -> None:
        skipped = getattr(self, "found_inf", None)
        if skipped is not None and not skipped.is_cuda:  # the host has the answer without waiting
            if skipped:
                return
            skipped = None
        moving = [parameter for parameter in group["params"] if parameter.grad is not None]
        directions = [self._direction(parameter, skipped) for parameter in moving]
        kept = 1 - group["lr"] * group["weight_decay"]
        for parameter, update in zip(moving, orthogonal(directions, self.ns_steps, self.each), strict=True):
            rate = group["lr"] * RMS_OF_ADAM * max(update.shape) ** 0.5
            weight, change = own_parts([parameter, spread_like(update.reshape(parameter.shape), parameter)])
            _put(weight, kept * weight - rate * change, skipped)

    def _direction(self, parameter: Tensor, skipped: Tensor | None) -> Tensor:
        """Take a gradient into the momentum; returns the direction of Nesterov's step as a matrix, whole."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if MOMENTUM not in state:
            state[MOMENTUM] = torch.zeros_like(parameter)
        momentum = state[MOMENTUM].lerp(parameter.grad, 1 - self.momentum)
        direction = whole_tensor(parameter.grad.lerp(momentum, self.momentum))
        kept, new = own_parts([state[MOMENTUM], momentum])
        _put(kept, new, skipped)
        return direction.reshape(len(direction), -1)


def _put(target: Tensor, value: Tensor, skipped: Tensor | None) -> None:
    """Write a value unless the step is skipped; the host does not wait for the answer."""
    target.copy_(value if skipped is None else torch.where(skipped.bool(), target, value))


def orthogonal(matrices: Sequence[Tensor], ns_steps: int, each: Each = map) -> list[Tensor]:
    """Bring the singular values of matrices close to 1: the iteration of Newton and Schulz, those of one shape at once.

    X <- a X + (b A + c A A) X with A = X X^T    (Jordan et al. 2024)

    Args:
        matrices: [rows, columns] each. They are computed with as `product_type` says.
        ns_steps: Five suffice.
        each: Computes those of one shape after another, as `map` does, or at the same time.
    Returns:
        Matrices of the same shapes and type.
    """
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for place, matrix in enumerate(matrices):
        alike[matrix.shape].append(place)
    found = list(matrices)
    # The most work first, so that no thread is left with it at the end.
    groups = sorted(alike.values(), key=lambda places: -len(places) * _work(matrices[places[0]]))

    def compute(places: list[int]) -> Tensor:
        return _orthogonal(torch.stack([matrices[place] for place in places]), ns_steps)

    for places, results in zip(groups, each(compute, groups), strict=True):
        for place, result in zip(places, results, strict=True):
            found[place] = result
    return found


def _work(matrix: Tensor) -> int:
    """Multiplications of one iteration, but for a factor."""
    short, long = sorted(matrix.shape)
    return short * short * (2 * long + short)


def _orthogonal(stacked: Tensor, ns_steps: int) -> Tensor:
    a, b, c = COEFFICIENTS
    is_tall = stacked.shape[-2] > stacked.shape[-1]
    x = stacked.mT if is_tall else stacked
    x = x.to(product_type(x.device))
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ns_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(stacked.dtype)


def product_type(device: torch.device) -> torch.dtype:
    """Tell in which type the iteration multiplies: bfloat16, whose precision suffices it, where that is faster, else float32.

    It is on CUDA, and on CPUs that multiply bfloat16 by instructions of their own: there in a third of the time.
    """
    if device.type == "cpu":
        able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # earlier releases of torch do not tell
        return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def inner_matrices(network: nn.Module) -> list[Tensor]:
    """List the weights of a network that Muon is for: of its linear maps and convolutions, but for the first and the last one.

    What reads the image and what writes it stay with AdamW, as do norms, biases and embeddings (Jordan et al. 2024). A network that
    does not say which these are is taken to have them as its first and last convolutions.
    """
    maps = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)]
    ends = _ends(network, maps)
    return list(dict.fromkeys(module.weight for module in maps if not any(module.weight is end for end in ends)))


def _ends(network: nn.Module, maps: Sequence[nn.Linear | nn.Conv1d | nn.Conv2d]) -> list[Tensor]:
    named = list(network.image_axes()) if isinstance(network, Denoiser) else []
    if named:
        return [network.get_parameter(name) for name in named]
    convolutions = [module.weight for module in maps if not isinstance(module, nn.Linear)]
    return convolutions[:1] + convolutions[-1:]
