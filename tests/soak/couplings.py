"""Optimal transport of noise against torchcfm's, on real images.

pip install --no-deps --target FOLDER torchcfm pot
PYTHONPATH=FOLDER python tests/soak/couplings.py     a few seconds

torchcfm (MIT) solves the same problem by another library's network simplex (POT), and gives a plan, each row of which must have
one entry. The total squared distance must be the same to 1e-6 of it, with and without classes. On 2026-11-29, with torchcfm 1.0.7
and POT 0.9.7, it was the same to 2.2e-16. Of the distance as drawn 0.961, 0.948 and 0.940 are left in batches of 32, 128 and 512,
and within ten classes 0.988, 0.975 and 0.966.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import torch
from tiny_configs import tiny_config
from torch import Tensor
from torchcfm.optimal_transport import OTPlanSampler

from ddpm_cli.build.data import build_dataset
from ddpm_cli.data.batches import normalise
from ddpm_cli.diffusion.objectives.noise_draws import transported_noise

BATCHES = (1, 2, 32, 128, 512)
LIMIT = 1e-6


def cost(x_0: Tensor, eps: Tensor) -> float:
    """The sum of squared distances."""
    return float((x_0 - eps).square().sum())


def theirs(x_0: Tensor, eps: Tensor) -> Tensor:
    """The noise that torchcfm's plan pairs with each image."""
    plan = torch.from_numpy(OTPlanSampler("exact").get_map(x_0, eps))
    assert bool(((plan > 0).sum(1) == 1).all())
    return eps[plan.argmax(1)]


def main() -> int:
    """Print what was found; 1 if a cost is another."""
    train = build_dataset(tiny_config("data.limit=600").data).train
    images, labels = normalise(torch.from_numpy(train.images)).double(), torch.from_numpy(train.labels)
    worst = 0.0
    for count in BATCHES:
        x_0, told = images[:count], labels[:count]
        eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
        classes = [told == label for label in told.unique()]
        whole = cost(x_0, transported_noise(x_0, eps)), cost(x_0, theirs(x_0, eps))
        within = cost(x_0, transported_noise(x_0, eps, told)), sum(cost(x_0[c], theirs(x_0[c], eps[c])) for c in classes)
        apart = [abs(ours / other - 1) for ours, other in (whole, within)]
        worst = max(worst, *apart)
        drawn = cost(x_0, eps)
        print(
            f"{count} images: cost as drawn 1, within classes {within[0] / drawn:.4f}, of all {whole[0] / drawn:.4f}; apart {apart}"
        )
    print(f"{'ok' if worst < LIMIT else 'BAD'}: at most {worst:.1e} apart")
    return int(worst >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
