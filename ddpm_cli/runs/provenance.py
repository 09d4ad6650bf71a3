"""Keep in run.json how a run came about."""

from __future__ import annotations

import platform
import sys
import time
from typing import TYPE_CHECKING, Any

from ddpm_cli._version import __version__

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset


def describe_start(config: Config) -> dict[str, Any]:
    """Describe the moment, the command line, the program and the machine that it runs on, and the seed."""
    return {
        "created": time.time(),
        "command": sys.argv,
        "ddpm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "seed": config.train.seed,
    }


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Describe the images: name, source, counts and checksum, what they took the place of, and what was said of them."""
    return {
        "name": dataset.name,
        "stands_in_for": dataset.stands_in_for,
        "source": dataset.source,
        "train_images": len(dataset.train.images),
        "test_images": len(dataset.test.images),
        "image_shape": list(dataset.image_shape),
        "channels": dataset.image_shape[0],
        **dataset.scale.facts(),
        "classes": list(dataset.train.class_names),
        "sha256": dataset.sha256,
        "notices": list(dataset.notices),
        "unreadable_count": len(dataset.unreadable),
        "unreadable": list(dataset.unreadable),
    }
