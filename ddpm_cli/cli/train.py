"""Run `ddpm train`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.completion import kinds, run_names
from ddpm_cli.cli.parsing.options import (
    ConfigOption,
    DeterministicOption,
    DeviceOption,
    EpochsOption,
    JsonOption,
    MinutesOption,
    NameOption,
    PresetOption,
    PreviewOption,
    RunsOption,
    SetOption,
    SizeOption,
    StepsOption,
    StrictOption,
    path_of,
)
from ddpm_cli.core.names import as_known, plain

AUTO = "auto"

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Name of a data set (see below), a folder or archive (.zip, .tar ...) of your own pictures, a file of arrays "
        "(.npz ...), or a scan or folder of scans (.nii, .nii.gz, .dcm, a .tif of several pages). "
        "Write ./NAME for a folder that is called like a data set.",
        autocompletion=kinds("data"),
        show_default=False,
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of everything random.", show_default=False)]
BatchSizeOption = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Images per optimizer step. auto takes the largest power of two that fits into memory.",
        show_default=False,
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        parser=path_of("--from"),
        metavar="RUN",
        help="Start from the weights of a run, a checkpoint, an exported file or a folder of diffusers, wherever shapes fit. "
        "Without --preset its network is taken over too.",
        autocompletion=run_names,
        show_default=False,
    ),
]
FreezeOption = Annotated[
    str | None,
    typer.Option(
        "--freeze",
        metavar="BLOCK",
        help="Keep the weights up to this block as --from gave them, such as down.0. A wrong name lists the blocks.",
        show_default=False,
    ),
]
LrOption = Annotated[float | None, typer.Option("--lr", metavar="X", help="Peak learning rate.", show_default=False)]


def train(
    config: ConfigOption = None,
    preset: PresetOption = None,
    data: DataOption = None,
    size: SizeOption = None,
    strict: StrictOption = None,
    from_: FromOption = None,
    freeze: FreezeOption = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    batch_size: BatchSizeOption = None,
    lr: LrOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    deterministic: DeterministicOption = None,
    name: NameOption = None,
    out: RunsOption = Path("runs"),
    sets: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the start table, and write nothing.")] = False,
    preview: PreviewOption = False,
    json: JsonOption = False,
) -> None:
    """Train a model. Without arguments it is a faithful DDPM on Fashion-MNIST.

    Settings come from the defaults, then the preset, then the TOML file, then --set and the flags. A later one wins.

    Ctrl-C saves before it stops. `ddpm resume` goes on from there.

    --from trains on with other data, image size, channels or classes: it takes all weights that fit, and names the others.
    Optimizer and EMA begin anew.

    For example:

      ddpm train --preset quick

      ddpm train --preset quick --preview --set train.trackers=tensorboard

      ddpm train --epochs 20 --device mps

      ddpm train --data photos --size 64

      ddpm train --from quick-001 --data photos --preset quick

      ddpm train --config recipe.toml --set schedule.kind=cosine --dry-run
    """
    from ddpm_cli.config.resolve.data_choice import data_flags, data_notices
    from ddpm_cli.config.resolve.loader import load_config
    from ddpm_cli.config.resolve.preset_files import preset_names
    from ddpm_cli.training.start.source import source_opener

    find_batch_size = batch_size is not None and plain(batch_size) == AUTO
    images = None if batch_size is None or find_batch_size else whole_number(batch_size)
    flags = data_flags(data) | {
        "data.size": (size, "--size"),
        "data.strict": (strict, "--strict"),
        "train.epochs": (epochs, "--epochs"),
        "train.steps": (steps, "--steps"),
        "train.minutes": (minutes, "--minutes"),
        "train.batch_size": (images, "--batch-size"),
        "optimizer.lr": (lr, "--lr"),
        "train.seed": (seed, "--seed"),
        "train.device": (device, "--device"),
        "train.deterministic": (deterministic, "--deterministic"),
        "start.weights": (from_, "--from"),
        "start.freeze": (freeze, "--freeze"),
    }
    open_source = source_opener(out)
    resolved = load_config(preset=preset, file=config, sets=sets or [], flags=flags, open_source=open_source).config

    from ddpm_cli.render.terminal.console import json_value, print_json, show_notice
    from ddpm_cli.render.terminal.picture import preview_samples
    from ddpm_cli.render.terminal.training import shown_training
    from ddpm_cli.results.events import Notice, ignore
    from ddpm_cli.runs.directory import name_from
    from ddpm_cli.training.train import train as run_training

    for notice in data_notices(data):
        show_notice(Notice(notice, important=True))
    prefix = name_from(config) if config is not None else as_known(preset or "default", preset_names())
    with shown_training(preview_samples if preview and not json else ignore) as listen:
        result = run_training(
            resolved, runs=out, name=name, prefix=prefix, dry_run=dry_run, find_batch_size=find_batch_size, on_event=listen
        )
    if json and result is not None:
        print_json(json_value(asdict(result)))


def whole_number(text: str) -> int | str:
    """Read the number that a text is; keep the text itself if it is none, for the config to refuse."""
    try:
        return int(text)
    except ValueError:
        return text
