"""Hold the one config of a training that is over in a second, for Python, for command lines and for the files of sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.config import Config

NETWORK: dict[str, Any] = {
    "model.base_channels": 8,
    "model.channel_mult": [1, 2],
    "model.blocks_per_level": 1,
    "model.stem": 2,
}
"""A network that takes a step in milliseconds."""
DIT: dict[str, Any] = {
    "model.kind": "dit",
    "model.patch_size": 4,
    "model.width": 16,
    "model.depth": 2,
    "model.heads": 2,
}
"""A transformer as small."""
TINY = {
    "data.kind": "fashion-mnist-10k",
    **NETWORK,
    "train.batch_size": 8,
    "train.eval_images": 16,
    "train.sample_n": 4,
    "train.sampler.steps": 2,
    "train.log_every": 2,
}
"""Its training, on the images that come with the package."""
FEW_IMAGES = {"data.limit": 40, "train.device": "cpu"}
"""An epoch of five steps, and no wait for an accelerator."""


def as_sets(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Write settings as `load_config` takes them, and `--set`."""
    return tuple(f"{key}={value}".replace(" ", "") for key, value in settings.items())


def as_options(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Write settings as options of a command."""
    return tuple(f"--set={setting}" for setting in as_sets(settings))


def tiny_config(*sets: str, network: Mapping[str, Any] = NETWORK) -> Config:
    """Make the config for a few images, with some settings more, or others; of several of one key the last counts."""
    others = {key: value for key, value in (TINY | FEW_IMAGES).items() if key not in NETWORK}
    return load_config(sets=[*as_sets({**others, **network}), *sets]).config


def tiny_base(changes: Mapping[str, Any]) -> str:
    """Write the table `[base]` of a sweep's file, with some settings more, or others."""
    return tomli_w.dumps({"base": {**TINY, **changes}})
