"""A folder like that of somebody who has followed the README, made by the commands it shows at a size that takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tomli_w
import torch
from command import run_ddpm
from command_lines import README
from foreign_models import GOOGLE, pipeline_folder, random_weights
from peer_networks import OpenAiNetwork, OpenAiSize, PytorchDdpmNetwork
from picture_files import write_folder, write_picture
from PIL import Image
from safetensors.torch import save_file
from scan_files import write_nifti
from tiny_configs import TINY, as_options

from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k

TOY_CONFIG = TINY | {"model.norm_groups": 4, "data.limit": 16, "train.steps": 2}
TOY_TRAINING = ("--set=schedule.timesteps=100", *as_options(TOY_CONFIG))
TOY_ON_OWN = tuple(option for option in TOY_TRAINING if not option.startswith("--set=data."))
SWEEP = {
    "preset": "quick",
    "seeds": [0, 1],
    "base": TOY_CONFIG,
    "grid": {"schedule": ["linear", "cosine"]},
    "evaluate": {"metrics": ["fcd"], "n": 4},
}
KEPT = ("--set=checkpoint.every=1", "--set=ema.widths=[0.05,0.1]")
RUNS = {  # the last is the newest
    "quick-002": ("--set=optimizer.lr=1e-3",),
    "first": (),
    "quick-001": KEPT,
    "classes": ("--set=model.num_classes=auto", *KEPT),
}


def make(folder: Path, weights: Path) -> None:
    """All that a command of README.md or of a help may ask for, in `folder`, which points to an extractor in `weights`."""
    _write_pictures(folder)
    images = torch.from_numpy(load_fashion_mnist_10k().test.images[:6].copy())
    save_file(random_weights(images), weights / "inception.safetensors")
    (folder / "inception.safetensors").symlink_to(weights / "inception.safetensors")
    (folder / "examples").symlink_to(README.parent / "examples")
    (folder / "betas.csv").write_text("\n".join(["betas", *map(str, np.linspace(1e-4, 0.02, 250))]))
    (folder / "schedules.toml").write_text(tomli_w.dumps(SWEEP))
    _write_of_others(folder)
    commands = [
        ("train", "--preset=quick", *TOY_ON_OWN, "--data=photos", "--size=32", "--name=photos-001"),
        ("train", "--preset=quick", *TOY_TRAINING, "--name=teacher"),
        ("distill", "teacher", "--steps=2", "--name=fast"),
        ("train", "--preset=quick", *TOY_ON_OWN, "--data=deep.npy", "--name=deep"),
        *(("train", "--preset=quick", *TOY_TRAINING, f"--name={name}", *sets) for name, sets in RUNS.items()),
        ("sweep", "schedules.toml"),
        *(("tune-sampler", name, "--steps=2", "--n=2") for name in ("first", "quick-001")),
        ("export", "first", "--out=model.safetensors"),
        ("sample", "first", "--n=8", "--steps=2", "--npz=samples.npz"),
        ("config", "init", "recipe.toml", "--preset=quick"),
    ]
    for command in commands:
        done = run_ddpm(*command, cwd=folder)
        assert done.returncode == 0, (command, done.stderr)


def _write_pictures(folder: Path) -> None:
    images = load_fashion_mnist_10k().test.images
    for name, image in zip(("photo", "sketch", "shirt", "boot"), images, strict=False):
        Image.fromarray(image[0]).save(folder / f"{name}.png")
    mask = np.zeros(images.shape[2:], np.uint8)
    mask[8:16] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    write_picture(folder / "photo.jpg", 0, (60, 80, 3))
    write_folder(folder / "photos", 20, shape=(64, 64, 3))
    write_folder(folder / "letters", 20, shape=images.shape[2:])
    write_folder(folder / "pictures", 8, shape=images.shape[2:])
    np.save(folder / "deep.npy", np.arange(20 * 28 * 28).reshape(20, 28, 28).astype(np.uint16) * 3)
    (folder / "scans").mkdir()
    for number in range(3):
        volume = np.random.default_rng(number).integers(0, 4000, (66, 64, 6)).astype(np.int16)
        write_nifti(folder / "scans" / f"{number}.nii.gz", volume)


def _write_of_others(folder: Path) -> None:
    """Files of other programs."""
    pipeline_folder(folder / "ddpm-cifar10-32", GOOGLE | {"sample_size": 32})
    torch.save(OpenAiNetwork(OpenAiSize(heads=4)).state_dict(), folder / "ema_0.9999.pt")
    torch.save(PytorchDdpmNetwork(10, 32, (1, 2), (1,), 1).state_dict(), folder / "ckpt.pt")
    np.savez(folder / "statistics.npz", mu=np.zeros(2048), sigma=np.eye(2048))
