from __future__ import annotations

import math

import torch
from torch import nn

from ddpm_cli.training.averages.ema import Ema, ema_weight


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
