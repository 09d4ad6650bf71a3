"""DDPM, Alg. 1, as plainly as it can be written: what the training loop must come to, whatever it does to be fast."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_cli.core.compute.seeds import generator
from ddpm_cli.data.batches import Batches


@dataclass
class PlainRun:
    """What 50 lines of training leave: the loss of each step, and both models."""

    losses: list[float]
    model: nn.Module
    average: nn.Module


def train_plainly(
    model: nn.Module, images: Tensor, *, steps: int, batch_size: int, lr: float, max_grad_norm: float, ema_decay: float, seed: int
) -> PlainRun:
    """Predict the noise in images under the linear schedule of Ho et al. 2020, with Adam and an average of the weights.

    Args:
        model: Takes x_t [B, C, H, W] and t [B].
        images: Pixels, uint8 [N, C, H, W].
        seed: Of batches, steps and noise, as the command's own.
    """
    T = 1000
    alphas_cumprod = (1.0 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64)).cumprod(0).float()
    batches = Batches(images, batch_size=batch_size, seed=seed)
    average = copy.deepcopy(model)
    first = [torch.zeros_like(parameter) for parameter in model.parameters()]
    second = [torch.zeros_like(parameter) for parameter in model.parameters()]
    losses = []
    for step in range(steps):
        draws = generator(torch.device("cpu"), seed, "noise", step)
        x_0 = batches.images_at(step)
        t = torch.randint(T, (batch_size,), generator=draws)
        eps = torch.randn(x_0.shape, generator=draws)
        abar = alphas_cumprod[t].view(-1, 1, 1, 1)
        x_t = abar.sqrt() * x_0 + (1 - abar).sqrt() * eps

        model.zero_grad()
        loss = functional.mse_loss(model(x_t, t), eps)
        loss.backward()
        losses.append(loss.item())

        norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
        scale = min(1.0, max_grad_norm / norm.item())
        decay = min(ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for parameter, m, v, averaged in zip(model.parameters(), first, second, average.parameters(), strict=True):
                gradient = scale * parameter.grad
                m.copy_(0.9 * m + 0.1 * gradient)
                v.copy_(0.999 * v + 0.001 * gradient**2)
                m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                parameter -= lr * m_hat / (v_hat.sqrt() + 1e-8)
                averaged.copy_(decay * averaged + (1 - decay) * parameter)
    return PlainRun(losses, model, average)
