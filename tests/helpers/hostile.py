"""Checkpoints and exported files whose sums are right, whatever is in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from fuzzing import SETS, STATE

from ddpm_cli.build.network import build_model
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.runs.checkpoints import save_checkpoint
from ddpm_cli.runs.directory import create_run
from ddpm_cli.runs.model_file import save_model_file

CPU = torch.device("cpu")
CONFIG = to_toml(load_config(sets=SETS).config)
ESCAPE = "\x1b]0;owned\x07\x1b[2J\r\u202e"


def checkpoint(folder: Path, state: dict[str, Any] | None = None, config: str = CONFIG, text: bytes | None = None) -> Path:
    """A checkpoint whose sums are right, whatever is in it."""
    run = create_run(folder / "runs", None, "run")
    (run.path / "run.json").write_text('{"created": 1.0}')
    weights = build_model(load_config(sets=SETS).config.model, (1, 8, 8)).state_dict()
    path = save_checkpoint(run, 6, {"ema": weights, "model": weights}, state or STATE, config, keep_last=1, best=False)
    if text is not None:
        replace_sealed(path, "state.json", text)
    return path


def replace_sealed(path: Path, name: str, data: bytes) -> None:
    (path / name).write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))


def exported(path: Path, config: str = CONFIG, **facts: Any) -> Path:
    weights = build_model(load_config(sets=SETS).config.model, (1, 8, 8)).state_dict()
    text = json.dumps({"config": config, "image_shape": [1, 8, 8], "step": 6, "class_names": []} | facts)
    save_model_file(path, weights, {"ddpm": text})
    return path
