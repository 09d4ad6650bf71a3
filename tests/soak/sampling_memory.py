"""The memory that drawing is estimated to hold against what it takes, which must be less, and not less than a third.

    python tests/soak/sampling_memory.py

For each of some configs a new network draws one batch of images in two steps, in a process of its own; compared is what the process
grows by at most. On a CPU; about three minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LEAST, MOST = 1.0, 3.0
PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.core.compute.allocator import keep_freed_memory, return_freed_memory
from ddpm_cli.sampling.bounds import image_bytes
from ddpm_cli.build.network import build_network
from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.training.planning.estimate import held_bytes
from ddpm_cli.sampling.generate import generate_samples
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.core.compute.memory_format import place_network

images, shape, sets = int(sys.argv[1]), tuple(map(int, sys.argv[2].split("x"))), sys.argv[3:]
keep_freed_memory()
config = load_config(sets=[*sets, f"sample.batch_size={images}"]).config
network = place_network(build_network(config, shape).eval().requires_grad_(False), torch.device("cpu"))
names = tuple(map(str, range(config.model.num_classes or 0)))
trained = TrainedModel(network, build_schedule(config.schedule), config, shape, Path("model"), 0, names)
list(generate_samples(trained, [0]))
return_freed_memory()
before = held_bytes()
Path("/proc/self/clear_refs").write_text("5")
list(generate_samples(trained, range(images)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(images * image_bytes(trained, config.sample), peak - before)
"""
STEM_1 = ("model.stem=1",)
CONFIGS: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "default": (1024, "1x28x28", ()),
    "default, dpm-solver++": (1024, "1x28x28", ("sample.sampler=dpm-solver++", "sample.sampler.order=3")),
    "default, dynamic threshold, heun": (1024, "1x28x28", ("sample.sampler=heun", "sample.threshold=dynamic")),
    "classes, guided, rescaled": (
        512,
        "1x28x28",
        ("model.num_classes=10", "sample.guidance.scale=2", "sample.guidance.rescale=0.5"),
    ),
    "learned variance": (512, "3x32x32", ("objective.loss=hybrid", "sample.sampler.variance=learned-range")),
    "colour 64x64, three levels": (48, "3x64x64", (*STEM_1, "model.channel_mult=[1,2,2]")),
    "attention at 64x64": (32, "3x64x64", (*STEM_1, "model.attention_resolutions=[64,32]")),
    "wide at the end": (64, "3x64x64", ("model.channel_mult=[1,8]", "model.stem=2")),
    "four channels for 1024x1024": (
        4,
        "1x1024x1024",
        (*STEM_1, "model.base_channels=4", "model.channel_mult=[1]", "model.blocks_per_level=1", "model.middle_attention=false"),
    ),
    "hardly a network": (
        20_000,
        "3x16x16",
        ("model.base_channels=4", "model.channel_mult=[1]", "model.blocks_per_level=1", "model.stem=4"),
    ),
}


def main() -> None:
    """Measure, print and judge; names of configs as arguments choose among them."""
    outside = []
    for name, (images, shape, sets) in CONFIGS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        given = sets if any(text.startswith("sample.sampler=") for text in sets) else ("sample.sampler.kind=ddpm", *sets)
        command = [sys.executable, "-c", PROGRAM, str(images), shape, *given, "sample.sampler.steps=2"]
        done = subprocess.run(command, cwd=Path(__file__).parent, env=os.environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name}: {done.stderr}")
        estimated, held = map(int, done.stdout.split())
        ratio = estimated / held
        print(f"{name:<34} {estimated / 1e6:>7,.0f} MB {held / 1e6:>7,.0f} MB  {ratio:.2f}", flush=True)
        if not LEAST <= ratio <= MOST:
            outside.append(name)
    if outside:
        raise SystemExit(f"outside of {LEAST:g} to {MOST:g}: {', '.join(outside)}")


if __name__ == "__main__":
    main()
