"""The config of a training that is over in a second."""

from __future__ import annotations

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.config import Config

SETTINGS = (
    "data.kind=fashion-mnist-10k",
    "data.limit=40",
    "model.base_channels=8",
    "model.channel_mult=[1,2]",
    "model.blocks_per_level=1",
    "model.stem=4",
    "train.batch_size=8",
    "train.eval_images=8",
    "train.sample_n=1",
    "train.sampler.steps=1",
    "train.device=cpu",
)


def tiny_config(*sets: str) -> Config:
    """With some settings more, or others; of several of one key the last counts."""
    return load_config(sets=[*SETTINGS, *sets]).config
