"""Learn a noise schedule with the model (Kingma et al. 2021, Variational Diffusion Models, Sec. 3.1, App. H and I).

gamma(u) = -log SNR is a monotone network of u in [0, 1]. In continuous time the diffusion loss depends on gamma's endpoints
alone, so the shape between them is free, and is chosen to lower the variance of the loss over t. One training step:

    probe = learner.probe(network, x_0, t, eps)      stands in for the network in p_losses
    p_losses(probe, ...).mean().backward()           the model's own backward pass also gives d error_i / d gamma_i
    learner.collect(probe, rows)
    learner.step(t)                                  back-propagates those through the small network alone

All but the probe runs on the CPU in float64, so that betas near 1e-8 keep their digits and every process takes the same step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ddpm_cli.diffusion.denoise import Network
from ddpm_cli.diffusion.forward import Levels, at_least_float32
from ddpm_cli.diffusion.objectives.vlb import LEVELS
from ddpm_cli.diffusion.prediction import X0, Eps, V, v_from_x_0_eps
from ddpm_cli.diffusion.schedules import NoiseSchedule

UNITS = 64
LEAST_SLOPE = 1e-3
"""Share of gamma that always rises evenly, so that no weights can make a step add nothing."""
EPS = torch.linspace(-8.0, 8.0, 49, dtype=torch.float64)
"""Nodes of the trapezoid rule for means over a standard normal eps. For smooth functions it converges faster than any power of the
distance of the nodes (Trefethen & Weideman 2014); in the reconstruction 32 Gauss-Hermite nodes are 60 times less exact."""
EPS_WEIGHTS = torch.softmax(-0.5 * EPS.square(), dim=0)

LearnablePrediction = Eps | X0 | V


class GammaNetwork(nn.Module):
    """Compute gamma(u) = -log SNR, strictly rising from its first to its last endpoint (VDM, Sec. 3.1 and App. H).

    rise(u) = u + sum over k of height[k] * (sigmoid(steepness[k] * u + offset[k]) - sigmoid(offset[k])),   height, steepness > 0
    share(u) = 0.999 * rise(u) / rise(1) + 0.001 * u
    gamma(u) = first + (last - first) * share(u)

    At first it is nearly a straight line. The endpoints stay within `endpoint_range` of where they start, whatever the weights.

    Args:
        gamma_min: -log SNR at u = 0 at first.
        gamma_max: -log SNR at u = 1 at first; more than gamma_min.
        endpoint_range: How far each endpoint can move; 0 fixes them.
    """

    def __init__(self, gamma_min: float, gamma_max: float, endpoint_range: float = 0.0) -> None:
        super().__init__()
        self.start = (gamma_min, gamma_max)
        self.endpoint_range = endpoint_range
        steepness = torch.full((UNITS,), float(UNITS) / 2, dtype=torch.float64)
        centres = (torch.arange(UNITS, dtype=torch.float64) + 0.5) / UNITS
        self.height = nn.Parameter(torch.full((UNITS,), -6.0, dtype=torch.float64))
        self.steepness = nn.Parameter(steepness)
        self.offset = nn.Parameter(-steepness * centres)
        self.endpoint_shift = nn.Parameter(torch.zeros(2, dtype=torch.float64), requires_grad=endpoint_range > 0)

    def endpoints(self) -> Tensor:
        """Give gamma at u = 0 and u = 1, float64, [2]."""
        return torch.tensor(self.start, dtype=torch.float64) + self.endpoint_range * torch.tanh(self.endpoint_shift)

    def share(self, u: Tensor) -> Tensor:
        """Tell how far gamma has risen at u in [0, 1], float64 [N]: 0 at u = 0, 1 at u = 1, strictly rising between."""
        curve = self._rise(u) / self._rise(torch.ones(1, dtype=torch.float64))
        share: Tensor = LEAST_SLOPE * u + (1.0 - LEAST_SLOPE) * curve
        return share

    def _rise(self, u: Tensor) -> Tensor:
        # Each bend's own difference: that of their sums would be rounding alone where the heights are huge.
        bends = torch.sigmoid(softplus(self.steepness) * u[:, None] + self.offset) - torch.sigmoid(self.offset)
        return u + bends @ softplus(self.height)

    def forward(self, u: Tensor) -> Tensor:
        """Compute gamma at u, float64 [N]."""
        first, last = self.endpoints()
        gamma: Tensor = first + (last - first) * self.share(u)
        return gamma

    @torch.no_grad()
    def schedule(self, timesteps: int) -> NoiseSchedule:
        """Make the schedule whose step t has u = t / (T - 1); abar = sigmoid(-gamma).

        Args:
            timesteps: T, at least 2.
        """
        gamma = self(torch.linspace(0.0, 1.0, timesteps, dtype=torch.float64)).numpy()
        return NoiseSchedule.from_alphas_cumprod(1.0 / (1.0 + np.exp(gamma)))


class Probe:
    """Stand in for a network in one forward and backward pass, and see how each image's error depends on its gamma.

    The network gets x_t + (d x_t / d gamma) * delta, with a leaf delta = 0 for each image, so that nothing changes but that
    backward() leaves d loss_i / d gamma_i in delta.grad. Here d x_t / d gamma = sqrt(abar * (1 - abar)) / 2 * v.
    """

    def __init__(
        self, network: Network, x_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule, kind: LearnablePrediction
    ) -> None:
        self._network = network
        self._x_0, self._eps, self._kind = at_least_float32(x_0), eps, kind
        self._at = Levels.of_steps(schedule, t, self._x_0)
        self._delta = torch.zeros(len(t), device=x_0.device, requires_grad=True)
        self._prediction: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        """The network's own prediction."""
        direction = self._half_scale() * v_from_x_0_eps(self._x_0, self._eps, self._at)
        prediction = self._network(x_t + direction * self._delta.view(-1, *[1] * (x_t.ndim - 1)), t, *labels)
        prediction.retain_grad()
        self._prediction = prediction
        return prediction

    def pixels(self, levels: int) -> Tensor:
        """Count how often each of so many values of a pixel occurs in the images, int64, [levels]."""
        values = ((self._x_0 + 1.0) * (0.5 * (levels - 1))).round().long().clamp(0, levels - 1)
        return torch.bincount(values.flatten(), minlength=levels)

    def _half_scale(self) -> Tensor:
        return 0.5 * self._at.alpha * self._at.sigma

    @torch.no_grad()
    def errors(self) -> Tensor:
        """Give each image's squared error, a mean over C, H, W in the network's own space, and its derivative by gamma; [B, 2].

        The loss that was back-propagated may weight the images as it likes: what weight an image got is read off the gradient
        of its prediction, which is weight * 2 * error / (C * H * W).
        """
        prediction, slope = self._prediction, self._delta.grad
        if prediction is None or prediction.grad is None or slope is None:
            raise RuntimeError("A probe must go through a forward and a backward pass first.")
        error = (prediction.float() - self._kind.target(self._x_0, self._eps, self._at)).flatten(1)
        squared = error.square().mean(1)
        weight = (prediction.grad.float().flatten(1) * error).mean(1) * error.shape[1] / (2.0 * squared)
        derivative = slope / weight
        if isinstance(self._kind, V):  # the target moves with gamma too: d v / d gamma = -sqrt(abar * (1 - abar)) / 2 * x_t
            x_t = self._at.alpha * self._x_0 + self._at.sigma * self._eps
            derivative = derivative + 2.0 * (error * (self._half_scale() * x_t).flatten(1)).mean(1)
        return torch.stack([squared, derivative], dim=1)


def diffusion_losses(
    error: Tensor, derivative: Tensor, gamma_t: Tensor, gamma_s: Tensor, kind: LearnablePrediction, steps: int
) -> Tensor:
    """Estimate the diffusion loss of each image, as a function of gamma (VDM, Eq. 14).

    loss = steps / 2 * (exp(gamma_t - gamma_s) - 1) * mean over C, H, W of (eps - eps_hat)**2

    The error is linear in gamma_t here, which gives the loss the right value and the right gradient.

    Args:
        error: Squared error of each image in the network's own space at gamma_t, [B].
        derivative: Of the error by gamma_t, [B].
        gamma_t: -log SNR at each image's step, [B].
        gamma_s: At the step before, [B].
        kind: What the network predicts.
        steps: How many steps t was drawn from.
    Returns:
        In nats per dimension, [B].
    """
    error_at = error + derivative * (gamma_t - gamma_t.detach())
    match kind:
        case Eps():
            in_eps = error_at
        case X0():
            in_eps = torch.exp(-gamma_t) * error_at
        case V():
            in_eps = torch.sigmoid(-gamma_t) * error_at
        case _:
            assert_never(kind)
    return 0.5 * steps * torch.expm1(gamma_t - gamma_s) * in_eps


def endpoint_losses(endpoints: Tensor, pixels: Tensor) -> Tensor:
    """Compute the terms of the bound that depend on the endpoints alone: prior and reconstruction (VDM, Eq. 4 and 11).

    prior = (sigma**2 + alpha**2 * E[x**2] - 1 - log sigma**2) / 2 at the last endpoint
    reconstruction = -E[log p(x | z_0)] at the first, with p(x | z_0) in proportion to q(z_0 | x) over the L values of a pixel

    Args:
        endpoints: gamma at u = 0 and 1, float64, [2].
        pixels: How often each value of a pixel occurs, float64, [L]; L is 256, or what the depth of the data has.
    Returns:
        Their sum in nats per dimension, a scalar.
    """
    first, last = endpoints
    grid = torch.linspace(-1.0, 1.0, len(pixels), dtype=torch.float64)
    share = pixels / pixels.sum()
    variance = torch.sigmoid(last)
    prior = 0.5 * (variance + torch.sigmoid(-last) * (share @ grid.square()) - 1.0 - nn.functional.logsigmoid(last))
    return prior + share @ _reconstruction(first, len(pixels))


def _reconstruction(first: Tensor, levels: int) -> Tensor:
    """-E[log p(x | z_0)] of each value of a pixel, float64 [levels], at the first endpoint.

    -log p = log of the sum over all values x' of exp(-(eps + d)**2 / 2 + eps**2 / 2), d = (x - x') / noise

    The values are evenly spaced, so that the sums of all of them are running sums of the same terms to either side.
    """
    distance = torch.arange(1, levels, dtype=torch.float64)[:, None] * (2.0 / (levels - 1)) * torch.exp(-0.5 * first)
    below = torch.exp(-0.5 * distance.square() - distance * EPS).cumsum(0)
    above = torch.exp(-0.5 * distance.square() + distance * EPS).cumsum(0)
    none = torch.zeros_like(EPS)[None]
    others = torch.cat([none, below]) + torch.cat([none, above]).flip(0)
    return torch.log1p(others) @ EPS_WEIGHTS


class ScheduleLearner:
    """Train a gamma network beside a model.

    Its shape is moved to lower the variance of the diffusion loss over the t that training draws (VDM, App. I), its endpoints, if
    they may move, to lower the bound itself.

    Args:
        gamma: The network; trained in place.
        timesteps: T, at least 2.
        kind: What the model predicts.
        lr: Learning rate of its Adam.
        batch: Images of a training step, over all processes.
        levels: Values that a pixel has, which the endpoints depend on.
    """

    def __init__(
        self, gamma: GammaNetwork, timesteps: int, kind: LearnablePrediction, lr: float, batch: int, levels: int = LEVELS
    ) -> None:
        self.gamma = gamma
        self.timesteps = timesteps
        self.kind: LearnablePrediction = kind
        self.optimizer = torch.optim.Adam([p for p in gamma.parameters() if p.requires_grad], lr=lr)
        self.schedule = gamma.schedule(timesteps)
        self._errors = torch.zeros(batch, 2, dtype=torch.float64)
        self._pixels = torch.zeros(levels, dtype=torch.float64)

    def refresh(self) -> None:
        """Draw the schedule anew, after the network's weights were changed from outside."""
        self.schedule = self.gamma.schedule(self.timesteps)

    def probe(self, network: Network, x_0: Tensor, t: Tensor, eps: Tensor) -> Probe:
        """Make what p_losses is handed in the network's place, for one forward and backward pass.

        Args:
            network: The model that is trained.
            x_0: Images in [-1, 1], [B, C, H, W].
            t: Their steps, int64, [B].
            eps: The noise, shaped like x_0.
        """
        return Probe(network, x_0, t, eps, self.schedule, self.kind)

    def collect(self, probe: Probe, rows: slice) -> None:
        """Keep what a probe saw in its backward pass.

        Args:
            probe: Of a part of the batch.
            rows: Where that part lies in the whole batch.
        """
        self._errors[rows] = probe.errors().double().cpu()
        if self.gamma.endpoint_range > 0:
            self._pixels += probe.pixels(len(self._pixels)).double().cpu()

    def step(self, t: Tensor, combine: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        """Take one step of Adam with all that was collected; images whose error is not finite are left out.

        Args:
            t: The steps of the whole batch, int64, [batch].
            combine: Adds a float64 CPU tensor up over all processes.
        """
        errors, pixels = combine(self._errors), combine(self._pixels)
        usable = (t.cpu() > 0) & torch.isfinite(errors).all(1)  # t = 0 has no step before: it is the reconstruction's
        if usable.any():
            self.optimizer.zero_grad()
            torch.autograd.backward(self._objective(t.cpu()[usable], errors[usable], pixels))
            self.optimizer.step()
        self.discard()
        self.refresh()

    def discard(self) -> None:
        """Forget what was collected, where the model's own step is skipped."""
        self._errors, self._pixels = torch.zeros_like(self._errors), torch.zeros_like(self._pixels)

    def _objective(self, t: Tensor, errors: Tensor, pixels: Tensor) -> Tensor:
        """Variance, which reaches the shape alone, plus bound, which reaches the endpoints alone: Adam scales each by itself."""
        steps = self.timesteps - 1
        share_t, share_s = self.gamma.share(t.double() / steps), self.gamma.share((t - 1).double() / steps)
        ends = self.gamma.endpoints()

        def losses(ends: Tensor, share_t: Tensor, share_s: Tensor) -> Tensor:
            first, last = ends
            gamma_t, gamma_s = first + (last - first) * share_t, first + (last - first) * share_s
            return diffusion_losses(errors[:, 0], errors[:, 1], gamma_t, gamma_s, self.kind, steps)

        shaped = losses(ends.detach(), share_t, share_s)
        variance = (shaped - shaped.detach().mean()).square().mean()
        if self.gamma.endpoint_range == 0:
            return variance
        return variance + losses(ends, share_t.detach(), share_s.detach()).mean() + endpoint_losses(ends, pixels)
