"""What a sampler's step costs beyond its network evaluations, and what guidance costs.

    python examples/benchmarks/sampler_overhead.py [--device cuda] [--batch 64] [--steps 10] [--repeats 5]

The network is that of the `quick` preset with ten classes and random weights. Targets: a step takes at most 5 % more than its
network evaluations, and a guided step at most twice as long as an unguided one. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import get_args

import torch
from torch import Tensor, nn

from ddpm_cli.build.network import build_model
from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.sample import (
    DdimSampler,
    DdpmSampler,
    DpmSolverSampler,
    GuidanceConfig,
    HeunSampler,
    SampleConfig,
    SamplerBase,
)
from ddpm_cli.core.compute.allocator import keep_freed_memory
from ddpm_cli.diffusion.denoise import make_denoise, predictor
from ddpm_cli.diffusion.sampling import ImageNoise, sample

CLASSES = 10
IMAGE_SHAPE = (1, 28, 28)
MOST_OVERHEAD = 0.05
MOST_FOR_GUIDANCE = 2.0
SAMPLERS: dict[str, SamplerBase] = {
    cls.model_fields["kind"].default: cls() for cls in get_args(SampleConfig.model_fields["sampler"].annotation)
} | {
    "ddpm fixed-large": DdpmSampler(variance="fixed-large"),
    "ddim eta 1": DdimSampler(eta=1.0),
    "heun churn": HeunSampler(s_churn=5.0),
    "dpm-solver++ 3": DpmSolverSampler(order=3),
    "dpm-solver++ sde": DpmSolverSampler(sde=True),
}


class Timed(nn.Module):
    """A network that adds up the time spent in it."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.device = device
        self.seconds = 0.0

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        start = now(self.device)
        output: Tensor = self.network(x_t, t, labels)
        self.seconds += now(self.device) - start
        return output


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Bench:
    """Samples with one network, and times it."""

    def __init__(self, device: torch.device, batch: int, steps: int) -> None:
        self.config = load_config(preset="quick", sets=[f"model.num_classes={CLASSES}"]).config
        self.device, self.batch, self.steps = device, batch, steps
        self.schedule = build_schedule(self.config.schedule)
        torch.manual_seed(0)
        self.network = Timed(build_model(self.config.model, IMAGE_SHAPE).eval().requires_grad_(False).to(device), device)

    def seconds(self, sampler: SamplerBase, guidance: GuidanceConfig) -> tuple[float, float]:
        """Of one batch of images: in all, and in the network alone."""
        predict = predictor(self.network, self.schedule, self.config.objective.build_prediction())
        denoise = make_denoise(
            guidance.build(predict, CLASSES),
            self.schedule,
            threshold=self.config.sample.threshold.build(),
            labels=torch.arange(self.batch, device=self.device) % CLASSES,
        )
        step, levels = sampler.model_copy(update={"steps": self.steps}).prepare(self.schedule)
        noise = ImageNoise(range(self.batch), IMAGE_SHAPE, self.device)
        x_T = noise()
        self.network.seconds = 0.0
        start = now(self.device)
        sample(denoise, step, levels, x_T, noise)
        return now(self.device) - start, self.network.seconds


def verdict(value: float, most: float) -> str:
    return "ok" if value <= most else "TOO MUCH"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    bench = Bench(options.device, options.batch, options.steps)
    plain, guided = GuidanceConfig(), GuidanceConfig(scale=2.0)
    bench.seconds(DdimSampler(), plain)  # warm-up

    print(f"{options.steps} steps of {options.batch} images on {options.device}, median of {options.repeats}")
    print(f"{'sampler':<18} {'ms/step':>9} {'network':>9} {'beyond':>8}")
    for name, sampler in SAMPLERS.items():
        runs = [bench.seconds(sampler, plain) for _ in range(options.repeats)]
        total, network = (statistics.median(column) * 1000 / options.steps for column in zip(*runs, strict=True))
        beyond = statistics.median(all_of_it / inside - 1 for all_of_it, inside in runs)
        print(f"{name:<18} {total:>9.2f} {network:>9.2f} {beyond:>8.1%}  {verdict(beyond, MOST_OVERHEAD)}")

    pairs = [(bench.seconds(DdimSampler(), guided)[0], bench.seconds(DdimSampler(), plain)[0]) for _ in range(options.repeats)]
    ratio = statistics.median(with_it / without for with_it, without in pairs)
    print(f"guidance: a guided step takes {ratio:.2f} times an unguided one  {verdict(ratio, MOST_FOR_GUIDANCE)}")


if __name__ == "__main__":
    main()
