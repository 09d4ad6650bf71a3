"""Attacks on what lies in a run folder, in the cache and beside it; see fuzzing.py."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from fake_runs import add_figure, fake_run
from fuzzing import Attack, dumped, mutated_file, mutated_tree
from picture_files import write_folder
from safetensors.torch import load, save
from tiny_configs import as_sets, tiny_config
from torch import Tensor
from trained_models import trained_model

from ddpm_cli.build.data import build_dataset
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.core.io.files import to_json
from ddpm_cli.core.io.tensor_files import SUM, summed
from ddpm_cli.data.cache.loading import load_pictures
from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.sources.arrays import load_arrays
from ddpm_cli.data.sources.folder import scan_folder
from ddpm_cli.evaluation.feature_sources import write_rows
from ddpm_cli.evaluation.references import read_statistics
from ddpm_cli.evaluation.sample_parts import SampleSet
from ddpm_cli.experiments.compare import compare
from ddpm_cli.experiments.run_info import model_info
from ddpm_cli.experiments.run_list import list_rows
from ddpm_cli.metrics.classifier import BUNDLED_NAME, load_bundled, load_classifier
from ddpm_cli.metrics.frechet import FrechetStatistics
from ddpm_cli.render.terminal.compare import comparison_json
from ddpm_cli.render.terminal.compare_tables import sheets
from ddpm_cli.render.terminal.evaluate import figure_lines
from ddpm_cli.render.terminal.overview import info_json, runs_json, show_info
from ddpm_cli.runs.checkpoints import latest_checkpoint, load_checkpoint
from ddpm_cli.runs.data_used import kept_sums, missing_from
from ddpm_cli.runs.directory import list_runs
from ddpm_cli.runs.figures import stored_figures
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.metrics_log import MetricsLog
from ddpm_cli.runs.model_file import load_model_file, save_model_file
from ddpm_cli.runs.record import find_runs, read_run
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.runs.sweep_state import read_failures, write_failures
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.sampling.stored import check_architecture
from ddpm_cli.sampling.tuning.store import write_tuning
from ddpm_cli.sampling.tuning.tune import tune
from ddpm_cli.training.averages.making import make_averages
from ddpm_cli.training.state import restore_training
from ddpm_cli.training.train import train
from ddpm_cli.training.trainer import Trainer

CPU = torch.device("cpu")
FORGIVING = {"run folder", "image cache"}
"""Readers that pass over torn lines, or make a damaged file anew: most inputs are read."""

SMALLEST = {"data.limit": 8, "model.base_channels": 4, "model.channel_mult": [1], "schedule.timesteps": 6}
TINY = tiny_config(
    *as_sets(SMALLEST),
    *("objective.timesteps.kind=loss-aware", "objective.timesteps.history=1"),
    *("train.steps=3", "train.eval_images=4", "train.sample_n=1", "train.sampler.steps=1"),
)


def run_attacks(scratch: Path) -> dict[str, Attack]:
    """As `fuzzing.attacks`."""
    return {
        "training state": _on_training_state(scratch),
        "run folder": _on_run_folder(scratch),
        "averages": _on_averages(scratch),
        "parts of an evaluation": _on_parts(scratch),
        "image cache": _on_image_cache(scratch),
        "extractor weights": _on_extractor(scratch),
        "arrays of images": _on_arrays(scratch),
    }


@contextmanager
def _changed(changes: dict[Path, tuple[bytes, bytes]]) -> Any:
    """Files that hold something else during the block: first what, then what they hold again."""
    try:
        for path, (during, _) in changes.items():
            path.write_bytes(during)
        yield
    finally:
        for path, (_, after) in changes.items():
            path.write_bytes(after)


# ------------------------------------------------------------------------------------------------------- training state


def _on_training_state(scratch: Path) -> Attack:
    config = TINY
    train(config, runs=scratch / "trained", name="run")
    checkpoint = latest_checkpoint(RunDirectory(scratch / "trained" / "run"))
    trainer = Trainer(config, build_dataset(config.data), make_accelerator("cpu", "fp32"))
    path = checkpoint.path
    good = {file.name: file.read_bytes() for file in path.iterdir()}
    tensors = [name for name in good if name.endswith(".safetensors")]

    def one(dice: random.Random) -> None:
        name = dice.choice(tensors)
        changed = _mutated_tensors(good[name], dice) if dice.random() < 0.7 else mutated_file(name, good[name], dice)
        manifest = json.loads(good["manifest.json"])
        manifest["files"][name] = {"size": len(changed), "sha256": hashlib.sha256(changed).hexdigest()}
        sealed = json.dumps(manifest).encode()
        with _changed({path / name: (changed, good[name]), path / "manifest.json": (sealed, good["manifest.json"])}):
            found = load_checkpoint(path)
            check_architecture(config, found)
            restore_training(trainer, found)
        _train_on(trainer)

    return one


def _mutated_tensors(data: bytes, dice: random.Random) -> bytes:
    """A whole safetensors file, in which one tensor is another, is missing, or has another name; a sum is mostly renewed."""
    tensors, renew = load(data), SUM.encode() in data[:4096] and dice.random() < 0.9
    name = dice.choice(list(tensors))
    other = _other(tensors.pop(name), dice)
    if dice.random() < 0.9:
        tensors[name if dice.random() < 0.8 else dice.choice(NAMES)] = other
    return summed(tensors) if renew else save(tensors)


NAMES = ("", "x", "0.step", "1.exp_avg", "a.b", "9" * 500)
DTYPES = (torch.int64, torch.uint8, torch.bool, torch.float16, torch.complex64, torch.float8_e4m3fn)
NUMBERS = (float("nan"), float("inf"), -1.0, 6e4, 0.0)


def _other(tensor: Tensor, dice: random.Random) -> Tensor:
    changes: tuple[Callable[[], Tensor], ...] = (
        lambda: tensor.reshape(-1),
        lambda: tensor[None].clone(),
        tensor.double,
        lambda: tensor.to(dice.choice(DTYPES)),
        lambda: torch.full_like(tensor, dice.choice(NUMBERS)) if tensor.is_floating_point() else -tensor,
        lambda: torch.zeros(dice.choice(((), (0,), (1,), (3, 3), (1, 2, 3, 4, 5, 6)))),
    )
    return dice.choice(changes)().contiguous()


def _train_on(trainer: Trainer) -> None:
    """What was accepted must be good for another step."""
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    t = torch.zeros(4, dtype=torch.int64)
    trainer.timestep_sampler.update(t, torch.ones(4))
    trainer.timestep_sampler.draw(4, trainer.schedule, torch.Generator().manual_seed(0), CPU)


# ----------------------------------------------------------------------------------------------------------- run folder


def _on_run_folder(scratch: Path) -> Attack:
    root = scratch / "folder"
    run, other = (fake_run(root, name, f"train.seed={seed}") for seed, name in enumerate(("one", "two")))
    for folder in (run, other):
        for value in (1.0, 2.0):
            add_figure(folder, value)
    write_failures(root, {"three": "diverged"})
    with locked(run):
        pass
    write_tuning(run, tune(trained_model(), [2], images=1))
    run.pictures_path.write_bytes(np.arange(8, dtype="<u8").tobytes())
    figures = run.evaluations_folder / "figures.jsonl"
    key = json.loads(figures.read_text().splitlines()[0])["key"]
    paths = (run.metrics_log, run.info_path, run.config_path, figures, run.lock_path, run.tuned_path)
    paths = (*paths, run.pictures_path, root / "sweep.json")
    good = {path: path.read_bytes() for path in paths}

    def one(dice: random.Random) -> None:
        path = dice.choice(paths)
        with _changed({path: (mutated_file(path.name, good[path], dice), good[path])}):
            if path == run.lock_path:
                _take_lock_twice(run)
            assert len(list_runs(root)) >= 1
            json.dumps(runs_json(list_rows(root)), allow_nan=False)
            json.dumps(info_json(model_info(run.path)), allow_nan=False)
            show_info(model_info(run.path))
            find_runs([root], Path("runs"))
            for figure in stored_figures(run.evaluations_folder, key):
                "\n".join(text for line in figure_lines(figure) for text in line).encode()
            comparison = compare([run.path, other.path], failures=read_failures(root))
            json.dumps(comparison_json(comparison))
            sheets(comparison)
            read_run(run)
            if (sums := kept_sums(run)) is not None:
                assert missing_from(sums, sums) == 0
            MetricsLog(run.metrics_log).truncate_after(50)

    return one


def _on_averages(scratch: Path) -> Attack:
    widths = ("train.steps=10", "ema.widths=[0.05,0.1]", "objective.timesteps.kind=uniform")
    config = tiny_config(*as_sets(SMALLEST), *widths)
    train(config, runs=scratch / "averaged", name="run")
    run = RunDirectory(scratch / "averaged" / "run")
    good = {path: path.read_bytes() for path in sorted(run.averages_folder.iterdir())}
    assert len(good) == 3  # steps 8, 9 and 10

    def one(dice: random.Random) -> None:
        path = dice.choice(list(good))
        changed = _resaved(path, dice) if dice.random() < 0.8 else mutated_file(path.name, good[path], dice)
        with _changed({path: (changed, good[path])}):
            (made,) = make_averages(run.path, [0.07], out=scratch / "average.safetensors")
            load_trained(made.path, CPU)

    return one


def _resaved(path: Path, dice: random.Random) -> bytes:
    """A whole snapshot with a tensor or a fact that is another; its checksum holds."""
    tensors, metadata = load_model_file(path)
    if dice.random() < 0.5:
        name = dice.choice(list(tensors))
        tensors[name] = _other(tensors[name], dice)
    else:
        metadata["averages"] = json.dumps(mutated_tree(json.loads(metadata["averages"]), dice))
    changed = path.with_name("changed.safetensors")
    save_model_file(changed, tensors, metadata)
    content = changed.read_bytes()
    changed.unlink()
    return content


def _take_lock_twice(run: RunDirectory) -> None:
    with open(run.lock_path, "rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with locked(run):
            raise AssertionError("two hold the lock")


# --------------------------------------------------------------------------------------------------------------- caches


def _on_parts(scratch: Path) -> Attack:
    folder = scratch / "parts"
    folder.mkdir()
    extractor = load_bundled(CPU)
    samples = SampleSet(folder, range(4), 4)
    rows = torch.randn(4, extractor.dimensions, generator=torch.Generator().manual_seed(0))
    statistics = FrechetStatistics(extractor.dimensions)
    statistics.add(rows)
    samples.images_path(0).write_bytes(summed({"images": torch.zeros(4, 1, 28, 28, dtype=torch.uint8)}))
    samples.features_path(0, extractor).write_bytes(summed({"features": rows, "logits": rows.clone()}))
    (folder / "statistics.safetensors").write_bytes(summed(statistics.tensors()))
    gathered = folder / f"features-{extractor.sha256[:16]}.npy"
    write_rows(gathered, iter([rows]), 4)
    good = {path: path.read_bytes() for path in folder.iterdir()}

    def one(dice: random.Random) -> None:
        path = dice.choice(list(good))
        structured = path.suffix == ".safetensors" and dice.random() < 0.5
        changed = _mutated_tensors(good[path], dice) if structured else mutated_file(path.name, good[path], dice)
        if path == gathered and dice.random() < 0.7:
            changed += f"crc32 {zlib.crc32(changed):08x}".encode()
        with _changed({path: (changed, good[path])}):
            assert samples.images(0).shape[0] == 4
            assert samples.statistics(extractor).count == 4
            assert samples.features(extractor).shape == (4, extractor.dimensions)
            samples.logits(extractor)
            read_statistics(folder / "statistics.safetensors", extractor.dimensions, 4)
        (folder / f"logits-{extractor.sha256[:16]}.npy").unlink(missing_ok=True)

    return one


def _on_image_cache(scratch: Path) -> Attack:
    """A damaged entry is made anew, so that the images are those of before; with its sums renewed, their shapes are."""
    cache = patch.dict(os.environ, DDPM_CACHE=str(scratch / "cache"))
    pictures = scan_folder(write_folder(scratch / "pictures", 6, ("a", "b")))
    settings = PictureSettings()
    with cache:
        whole = load_pictures(pictures, settings)
    images, labels = np.array(whole.train.images), whole.train.labels
    good = {path: path.read_bytes() for path in (scratch / "cache" / "images").glob("[!.]*/*")}
    description = next(path for path in good if path.suffix == ".json")

    def one(dice: random.Random) -> None:
        path = dice.choice(list(good))
        renewed = path == description and dice.random() < 0.5
        changed = _resealed(good[path], dice) if renewed else mutated_file(path.name, good[path], dice)
        with cache, _changed({path: (changed, good[path])}):
            dataset = load_pictures(pictures, settings)
            assert dataset.image_shape == whole.image_shape
            assert np.bincount(dataset.train.labels, minlength=2).sum() == len(dataset.train)
            assert renewed or np.array_equal(dataset.train.images, images)
            assert renewed or np.array_equal(dataset.train.labels, labels)

    return one


def _resealed(description: bytes, dice: random.Random) -> bytes:
    """An entry of the cache that says something else, with its own sum renewed, as who means harm would."""
    values = mutated_tree({key: value for key, value in json.loads(description).items() if key != "seal"}, dice)
    text = to_json(values) if isinstance(values, dict) else ""
    return dumped({**values, "seal": hashlib.sha256(text.encode()).hexdigest()}) if text else dumped(values)


def _on_extractor(scratch: Path) -> Attack:
    path = scratch / "classifier.safetensors"
    bundled = resources.files("ddpm_cli.metrics").joinpath("bundled", f"{BUNDLED_NAME}.safetensors")
    good = bundled.read_bytes()

    def one(dice: random.Random) -> None:
        path.write_bytes(_mutated_tensors(good, dice) if dice.random() < 0.2 else mutated_file(path.name, good, dice))
        load_classifier(path, CPU)(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))

    return one


def _on_arrays(scratch: Path) -> Attack:
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 5), np.uint8)
    np.savez_compressed(scratch / "good.npz", images=images, labels=np.arange(6))
    np.savez(scratch / "plain.npz", images=images, labels=np.arange(6))
    np.save(scratch / "good.npy", images)
    good = {path: path.read_bytes() for path in scratch.glob("*.np[yz]")}

    def one(dice: random.Random) -> None:
        path = dice.choice(list(good))
        with _changed({path: (mutated_file(path.name, good[path], dice), good[path])}):
            load_arrays(path)

    return one
