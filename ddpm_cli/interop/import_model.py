"""Make a run of another program's model, as if it had been trained here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.build.data import build_dataset
from ddpm_cli.build.schedule import build_schedule, self_contained
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.data import ArchiveData, CelebaData, FolderData, HuggingFaceData
from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.core.io.paths import path_text
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.results.interchange import Imported
from ddpm_cli.runs.checkpoints import save_checkpoint
from ddpm_cli.runs.data_used import with_data_used
from ddpm_cli.runs.directory import IMPORTED_FROM, check_new_run, create_run, write_info
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.provenance import describe_data, describe_start
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.diffusers.pipeline import Pipeline, find_pipeline, pipeline_weights

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.interop.peers.find import Which
    from ddpm_cli.interop.peers.peer_model import PeerModel

PREFIX = "imported"
PICTURES = {kind.model_fields["kind"].default for kind in (CelebaData, FolderData, ArchiveData, HuggingFaceData)}
"""Data sets whose pictures are brought to the size of the network's."""


def import_model(
    origin: Path,
    name: str | None,
    *,
    data: Mapping[str, tuple[Any, str]] | None = None,
    sets: Sequence[str] = (),
    runs: Path = Path("runs"),
    size: tuple[int, int] | None = None,
    variant: str | None = None,
    flags: str | None = None,
    which: Which | None = None,
    on_event: Listener = ignore,
) -> Imported:
    """Make a run of a model, with its weights as those of step 0.

    Args:
        origin: The folder of a pipeline of diffusers, with unet/ and scheduler/, or with the files of both in itself; or a file of
            weights of another program.
        name: Of the run; numbered if None.
        data: Keys of the config that `--data` sets; empty or None for no data.
        sets: `section.key=value` texts, over what the model says.
        runs: The folder of runs.
        size: Height and width of its images, over what a pipeline's `sample_size` says.
        variant: Which of a pipeline's sets of weights, such as "fp16"; if None the one without a name, or the only one.
        flags: The other program's flags that a file's model was trained with.
        which: Averaged weights or those that were trained, of a file that holds both; if None the averaged ones.
        on_event: Told of what is known while data are read.
    Raises:
        RequestError: If it is no such model, is damaged, or what ours cannot be; or the data do not fit.
    """
    check_new_run(runs, name, PREFIX)
    found = _found(origin, size, variant, flags, which, on_event)
    shape = found.image_shape
    config = self_contained(load_config(sets=sets, flags=_flags(found.settings, dict(data or {}), sets, shape, origin)).config)
    build_schedule(config.schedule)
    weights = pipeline_weights(found, config) if isinstance(found, Pipeline) else _weights_of_peer(found, config)
    dataset = _dataset(config, shape, on_event) if data else None
    config = with_data_used(config, dataset) if dataset else config
    run = create_run(runs, name, PREFIX)
    try:
        with locked(run):
            _fill(run, config, weights, shape, dataset, origin)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    parameters = sum(weight.numel() for weight in weights.values())
    data_name = dataset.name if dataset else None
    return Imported(run.path, origin, found.files[0].name, parameters, shape, data_name, found.differences)


def _found(
    origin: Path,
    size: tuple[int, int] | None,
    variant: str | None,
    flags: str | None,
    which: Which | None,
    on_event: Listener,
) -> Pipeline | PeerModel:
    of_file = [option for option, value in (("--flags", flags), ("--weights", which)) if value is not None]
    if origin.is_file():
        if variant is not None:
            raise RequestError(f"{origin} is a file, which has no variants.", "Leave --variant out.")
        from ddpm_cli.interop.peers.find import find_peer
        from ddpm_cli.interop.peers.flags import read_flags

        return find_peer(origin, flags=read_flags(flags), size=size, which=which, on_event=on_event)
    if of_file and origin.exists():
        raise RequestError(
            f"{of_file[0]} is for a file of weights, and {origin} is a folder.", "A pipeline's files say all of it: leave it out."
        )
    return find_pipeline(origin, size=size, variant=variant)


def _weights_of_peer(found: PeerModel, config: Config) -> dict[str, Tensor]:
    from ddpm_cli.interop.peers.peer_model import peer_weights

    return peer_weights(found, config)


def _flags(
    settings: Mapping[str, Any], data: dict[str, tuple[Any, str]], sets: Sequence[str], shape: tuple[int, int, int], origin: Path
) -> dict[str, tuple[Any, str]]:
    flags = {key: (value, str(origin)) for key, value in settings.items() if not _is_set(key, sets)}
    if not data:  # a kind that is told where its pictures are, so that nobody takes another set for the right one
        return flags | {"data.kind": (FolderData.model_fields["kind"].default, str(origin))}
    if data["data.kind"][0] in PICTURES:
        fitting = {"data.size": (f"{shape[1]}x{shape[2]}", str(origin)), "data.channels": (shape[0], str(origin))}
        data |= {key: value for key, value in fitting.items() if not _is_set(key, sets)}
    return flags | data


def _is_set(key: str, sets: Sequence[str]) -> bool:
    return any(text.partition("=")[0].strip() == key for text in sets)


def _dataset(config: Config, shape: tuple[int, int, int], on_event: Listener) -> Dataset:
    dataset = build_dataset(config.data, on_event)
    for notice in dataset.notices:
        on_event(Notice(notice, important=True))
    if dataset.image_shape != shape:
        (channels, height, width), (own, high, wide) = shape, dataset.image_shape
        raise DataError(
            f"The network makes images of {height}x{width} with {channels} channels, but {dataset.source} has {high}x{wide} "
            f"with {own}.",
            "Name other data, or leave --data out: the run can still be sampled and exported.",
        )
    known = len(dataset.train.class_names)
    if config.model.num_classes not in (None, known):
        raise DataError(
            f"The network knows {config.model.num_classes} classes, but {dataset.source} has {known}.",
            "Name other data, or leave --data out: the run can still be sampled and exported.",
        )
    return dataset


def _fill(
    run: RunDirectory,
    config: Config,
    weights: Mapping[str, Tensor],
    shape: tuple[int, int, int],
    dataset: Dataset | None,
    origin: Path,
) -> None:
    from ddpm_cli.training.state import state_before_training

    text = to_toml(config)
    atomic_write(run.config_path, text)
    tensors: dict[str, Mapping[str, Tensor]] = {"model": weights, "ema": weights, "optimizer": {}}
    state = state_before_training(shape, dataset)
    if dataset is None:  # names that nobody knows
        state["class_names"] = [str(label) for label in range(config.model.resolved_classes() or 0)]
    save_checkpoint(run, 0, tensors, state, text, keep_last=config.checkpoint.keep_last, best=False)
    data = describe_data(dataset) if dataset else None
    write_info(run, describe_start(config) | {IMPORTED_FROM: path_text(origin.absolute()), "data": data})
