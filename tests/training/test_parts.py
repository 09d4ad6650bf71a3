"""The small pieces around the training loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ddpm_cli.build.budget import Budget, lr_factor
from ddpm_cli.config.schema.config import OptimizerConfig, TrainConfig
from ddpm_cli.config.schema.objective import ObjectiveConfig
from ddpm_cli.core.compute.device import resolve_device, resolve_precision
from ddpm_cli.core.compute.seeds import generator, seed_of
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.errors import DeviceError
from ddpm_cli.training.ema import Ema, ema_weight
from ddpm_cli.training.held_out import held_out_loss_sum


def test_seeds_differ_by_purpose_and_place_and_never_else() -> None:
    places = [(s, p, c) for s in (0, 1) for p in ("noise", "dropout") for c in ((), (0,), (1,), (0, 1), (1, 0))]
    seeds = {seed_of(s, p, *c) for s, p, c in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(3, "noise", 7) == seed_of(3, "noise", 7)
    draws = [torch.randn(4, generator=generator(torch.device("cpu"), 3, "noise", 7)) for _ in range(2)]
    assert torch.equal(*draws)


def test_ema_follows_its_formula() -> None:
    """The seventh step is not taken: nothing moves, and the warm-up does not go on."""
    model = nn.Linear(2, 1, bias=False)
    ema = Ema(model, decay=0.5, warmup=True)
    expected = model.weight.detach().clone()
    n = 0
    for step in range(20):
        with torch.no_grad():
            model.weight.add_(1.0)
        ema.update(model.parameters(), torch.tensor(step != 7))
        if step != 7:
            decay = min(0.5, (1 + n) / (10 + n))
            expected = decay * expected + (1 - decay) * model.weight.detach()
            n += 1
        average = next(ema.model.parameters())
        torch.testing.assert_close(average, expected)
    assert int(ema.updates) == n == 19


def test_ema_warm_up_forgets_the_initial_weights() -> None:
    def kept(warmup: bool) -> float:
        return math.prod(1.0 - float(ema_weight(torch.tensor(n), 0.9999, warmup)) for n in range(1000))

    assert kept(True) < 1e-12
    assert kept(False) > 0.9


@pytest.mark.parametrize(
    ("train", "images", "steps"),
    [
        (TrainConfig(epochs=2, batch_size=8), 10, 3),  # 20 images in batches of 8
        (TrainConfig(steps=7), 10, 7),
        (TrainConfig(epochs=100, steps=7, batch_size=8), 10, 7),
        (TrainConfig(minutes=1), 10, None),
    ],
)
def test_budget_counts_steps(train: TrainConfig, images: int, steps: int | None) -> None:
    assert Budget.of(train, images).steps == steps


def test_budget_ends_at_whichever_limit_comes_first() -> None:
    budget = Budget(steps=100, seconds=60)
    assert budget.share(50, 6) == 0.5
    assert budget.share(10, 45) == 0.75
    assert budget.share(100, 1) == budget.share(1, 61) == 1


def test_learning_rate_warms_up_and_decays() -> None:
    linear = OptimizerConfig(warmup_steps=4, decay="linear", final_lr_share=0.1)
    assert lr_factor(linear, 0, 0.0) == 0.25
    assert lr_factor(linear, 3, 0.0) == 1
    assert lr_factor(linear, 50, 0.5) == pytest.approx(0.55)
    assert lr_factor(linear, 99, 1.0) == pytest.approx(0.1)
    cosine = OptimizerConfig(decay="cosine")
    assert lr_factor(cosine, 10, 0.25) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert lr_factor(OptimizerConfig(), 10, 0.9) == 1


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


def test_the_held_out_loss_depends_on_neither_the_batch_size_nor_the_processes() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return self.scale * x + t[:, None, None, None] / 100

    images = torch.randint(256, (150, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    sizes: list[int] = []

    def loss(batch_size: int, *parts: slice) -> float:
        schedule, of_config = NoiseSchedule.from_betas(make_beta_schedule("linear", 20)), ObjectiveConfig().build_loss()
        return sum(float(held_out_loss_sum(Affine(), images, schedule, of_config, batch_size, part)) for part in parts)

    whole = loss(64, slice(0, 150))
    assert sizes == [64, 64, 22]
    for batch_size in (1, 7, 100, 1000):
        assert loss(batch_size, slice(0, 150)) == pytest.approx(whole, rel=1e-6)
    assert loss(50, slice(0, 37), slice(37, 37), slice(37, 140), slice(140, 150)) == pytest.approx(whole, rel=1e-6)
    assert max(sizes) == 64
