"""Training and sampling with kernels that the compiler has written: equal to those of the network as it is.

    python tests/soak/compiled.py [--device cpu]

Compiles, with torch's inductor, the gradients of a small U-Net in float32 and under bfloat16, with micro-batches of two sizes, with
recomputed activations and with classes; then guided samples. Prints the largest difference of each, relative to the largest
gradient or in pixels, and how long compiling took; exit status 1 if one is too large or the compiler failed. About 3 minutes on an
idle CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import torch
from tiny_configs import tiny_config

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute.device import resolve_device
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.results.events import Compiling, Event, Notice
from ddpm_cli.sampling.compiled import with_fast_network
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.training.train import train
from ddpm_cli.training.trainer import Trainer

MODES = {
    "float32, parts of 5 and 3": ("fp32", 1e-4, ("train.micro_batch_size=5",)),
    "float32, recomputed, classes": ("fp32", 1e-4, ("train.gradient_checkpointing=true", "model.num_classes=10")),
    "bfloat16, edm": ("bf16", 5e-2, ("objective.parameterization=edm",)),
}
PIXELS = 2


def config_of(device: str, *sets: str) -> Config:
    """Of a network that is compiled in half a minute."""
    network = ("model.base_channels=16", "model.attention_resolutions=[7]")
    training = ("train.steps=4", "train.sample_n=1", f"train.device={device}", "train.compile=true")
    return tiny_config(*network, *training, *sets)


def listen(event: Event) -> None:
    """Tell how long compiling took; a network that could not be compiled ends the check."""
    if isinstance(event, Compiling) and event.seconds is not None:
        print(f"  compiled in {event.seconds:.0f} s")
    if isinstance(event, Notice) and event.important:
        sys.exit(event.message)


def gradients(trainer: Trainer) -> torch.Tensor:
    """Of all weights, after they were moved away from where the network's end is zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.device))
    eps = torch.randn(8, *trainer.image_shape, generator=generator).to(trainer.device)
    t = torch.arange(0, 1000, 125, device=trainer.device)
    trainer.accumulate_gradients(t, torch.ones(8, device=trainer.device), eps[:, None])
    return torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters() if parameter.grad is not None])


def check_gradients(device: str) -> bool:
    """Whether those of all modes are near enough."""
    near = True
    for mode, (precision, most, sets) in MODES.items():
        print(mode)
        config = config_of(device, *sets)
        plain, fast = (Trainer(config, build_dataset(config.data), make_accelerator(device, precision), listen) for _ in range(2))
        fast.compile()
        expected, found = gradients(plain), gradients(fast)
        difference = float((found - expected).abs().max() / expected.abs().max())
        print(f"  largest difference {difference:.1e} of the largest gradient (at most {most:.0e})")
        near &= difference <= most
    return near


def check_samples(device: str) -> bool:
    """Whether guided samples, the last of which come in a batch of their own, are the same pictures."""
    with tempfile.TemporaryDirectory() as folder:
        train(config_of(device, "model.num_classes=10"), runs=Path(folder), name="run", on_event=listen)
        trained = load_trained(Path(folder) / "run", resolve_device(device))
    guidance = trained.config.sample.guidance.model_copy(update={"scale": 2.0})
    sampler = trained.config.train.sampler.model_copy(update={"steps": 10})
    update = {"compile": True, "batch_size": 4, "guidance": guidance, "sampler": sampler}
    settings = trained.config.sample.model_copy(update=update)
    print("samples")
    fast = with_fast_network(trained, 10, settings, listen)
    expected, found = (torch.cat(list(generate_samples(model, range(10), settings))).int() for model in (trained, fast))
    difference = int((found - expected).abs().max())
    print(f"  largest difference {difference} of 255 (at most {PIXELS})")
    return difference <= PIXELS


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    results = [check_gradients(arguments.device), check_samples(arguments.device)]
    sys.exit(not all(results))
