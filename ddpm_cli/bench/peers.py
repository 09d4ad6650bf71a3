"""Run other libraries' training loops and samplers, to be timed against ours.

Each loop does what the library's own trainer or example does in a step, on images that lie in memory, decoded and normalised,
behind torch's DataLoader: reading and decoding files is not held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from ddpm_cli.bench.networks import Nearest, Shape, dit2d, lucidrains_unet, smalldiffusion_unet, unet2d
from ddpm_cli.bench.request import PEER_PACKAGES
from ddpm_cli.errors import RequestError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config


@dataclass(frozen=True)
class Loop:
    """Hold what a peer's training and sampling need.

    Attributes:
        network: The peer's, a module of its own class, on its device.
        accelerator: Device and number format.
        images: In [-1, 1], float32, [N, C, H, W], on the CPU.
        batch_size: Images per step.
        timesteps: T of the schedule.
        sampling_steps: Reverse steps, each an evaluation, of one sampling.
    """

    network: Any
    accelerator: Accelerator
    images: Tensor
    batch_size: int
    timesteps: int
    sampling_steps: int

    def batches(self, images: Tensor) -> Any:
        """Load shuffled images, on the device."""
        loader: Any = DataLoader(images, batch_size=self.batch_size, shuffle=True, drop_last=True)  # type: ignore[arg-type]  # it is indexed
        return self.accelerator.prepare(loader)


Steps = tuple[Callable[[], None], Callable[[], None]]
"""Takes a training step; draws a batch of images."""


@dataclass(frozen=True)
class Peer:
    """Describe a library that is timed against ours.

    Attributes:
        packages: What must be installed, see `require_packages`.
        networks: By the kind of ours, what builds its nearest network.
        steps: Builds its training step and its sampler.
    """

    packages: tuple[str, ...]
    networks: Mapping[str, Callable[[Any, Shape], Nearest]]
    steps: Callable[[Loop], Steps]


def _diffusers_steps(loop: Loop) -> Steps:
    """The loop of diffusers' script for unconditional images, with its default settings and EMA; DDIM as in its pipeline."""
    from diffusers import DDIMScheduler, DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    accelerator = loop.accelerator
    noising, denoising = DDPMScheduler(loop.timesteps), DDIMScheduler(loop.timesteps)
    denoising.set_timesteps(loop.sampling_steps)
    parameters = loop.network.parameters()
    ema = EMAModel(
        parameters, decay=0.9999, use_ema_warmup=True, power=0.75, model_cls=type(loop.network), model_config=loop.network.config
    )
    ema.to(accelerator.device)
    adam = torch.optim.AdamW(loop.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    schedule = get_scheduler("cosine", adam, num_warmup_steps=500, num_training_steps=100_000)
    network, optimizer, schedule = accelerator.prepare(loop.network, adam, schedule)
    batches = _endless(loop.batches(loop.images))

    def train_step() -> None:
        network.train()
        x_0 = next(batches)
        eps = torch.randn_like(x_0)
        t = torch.randint(0, loop.timesteps, (len(x_0),), device=x_0.device)
        with accelerator.accumulate(network):
            predicted = network(noising.add_noise(x_0, eps, t), t).sample
            loss = functional.mse_loss(predicted.float(), eps.float())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        ema.step(network.parameters())
        loss.item()  # as the script does, for its bar and log

    @torch.no_grad()
    def sample() -> None:
        network.eval()
        x = torch.randn(loop.batch_size, *loop.images.shape[1:], device=accelerator.device)
        for t in denoising.timesteps:
            x = denoising.step(network(x, t).sample, t, x).prev_sample

    return train_step, sample


def _lucidrains_steps(loop: Loop) -> Steps:
    """The loop of denoising-diffusion-pytorch's Trainer, and its ancestral sampler."""
    from denoising_diffusion_pytorch import GaussianDiffusion
    from ema_pytorch import EMA

    accelerator = loop.accelerator
    size = loop.images.shape[-2:]
    diffusion = GaussianDiffusion(loop.network, image_size=tuple(size), timesteps=loop.timesteps).to(accelerator.device)
    ema = EMA(diffusion, beta=0.995, update_every=10)
    adam = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    model, optimizer = accelerator.prepare(diffusion, adam)
    batches = _endless(loop.batches((loop.images + 1) / 2))

    def train_step() -> None:
        model.train()
        with accelerator.autocast():
            loss = model(next(batches))
        loss.item()  # as its Trainer does, for its bar
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()

    def sample() -> None:
        diffusion.eval()
        x = torch.randn(loop.batch_size, *loop.images.shape[1:], device=accelerator.device)
        for t in torch.linspace(loop.timesteps - 1, 0, loop.sampling_steps).int().tolist():
            x, _ = diffusion.p_sample(x, t)

    return train_step, sample


def _smalldiffusion_steps(loop: Loop) -> Steps:
    """The loop of smalldiffusion's `training_loop` and of its example for a U-Net, whose EMA it takes from torch-ema."""
    from smalldiffusion import ScheduleLogLinear, generate_train_sample, samples
    from torch_ema import ExponentialMovingAverage

    accelerator = loop.accelerator
    schedule = ScheduleLogLinear(loop.timesteps, sigma_min=0.01, sigma_max=20)
    ema = ExponentialMovingAverage(loop.network.parameters(), decay=0.999)
    get_loss = type(loop.network).get_loss
    adam = torch.optim.AdamW(loop.network.parameters(), lr=7e-4)
    network, optimizer = accelerator.prepare(loop.network, adam)
    batches = _endless(loop.batches(loop.images))

    def train_step() -> None:
        network.train()
        optimizer.zero_grad()
        x_0, sigma, eps, _ = generate_train_sample(next(batches), schedule)
        loss = get_loss(network, x_0, sigma, eps)
        accelerator.backward(loss)
        optimizer.step()
        loss.item()  # as its example does, for its bar
        ema.update()

    def sample() -> None:
        sigmas = schedule.sample_sigmas(loop.sampling_steps)
        for _ in samples(loop.network, sigmas, gam=1.6, batchsize=loop.batch_size, accelerator=accelerator):
            pass

    return train_step, sample


def _endless(loader: Any) -> Iterator[Tensor]:
    while True:
        yield from loader


PEERS = {
    "diffusers": Peer(PEER_PACKAGES["diffusers"], {"unet": unet2d, "dit": dit2d}, _diffusers_steps),
    "lucidrains": Peer(PEER_PACKAGES["lucidrains"], {"unet": lucidrains_unet}, _lucidrains_steps),
    "smalldiffusion": Peer(PEER_PACKAGES["smalldiffusion"], {"unet": smalldiffusion_unet}, _smalldiffusion_steps),
}


def nearest_network(name: str, config: Config, shape: Shape) -> Nearest:
    """Build a peer's nearest network to that of a config."""
    networks, kind = PEERS[name].networks, config.model.kind
    if kind not in networks:
        raise RequestError(
            f'No network of {name} is like one of the kind "{kind}".', f"Compare a model of kind {' or '.join(networks)}."
        )
    nearest = networks[kind](config.model, shape)
    if config.objective.reverse_variance != "learned-range":
        return nearest
    return replace(nearest, differences=(*nearest.differences, "no learned variance"))
