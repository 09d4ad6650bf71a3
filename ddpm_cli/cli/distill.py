"""Run `ddpm distill`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.options import (
    DeterministicOption,
    DeviceOption,
    EpochsOption,
    JsonOption,
    MinutesOption,
    NameOption,
    PreviewOption,
    RunArgument,
    RunsOption,
    SetOption,
    StepsOption,
)


def distill(
    run: RunArgument = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            metavar="X",
            help="Scale of guidance that becomes the new model's own. That of the run if left out.",
            show_default=False,
        ),
    ] = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of everything random.", show_default=False)] = None,
    device: DeviceOption = None,
    deterministic: DeterministicOption = None,
    name: NameOption = None,
    out: RunsOption = Path("runs"),
    sets: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the start table, and write nothing.")] = False,
    preview: PreviewOption = False,
    json: JsonOption = False,
) -> None:
    """Make a new run of a trained one that draws images in 1, 2 or 4 steps, where the old one needs 20.

    It starts from the averaged weights of RUN, and learns to say in one step where a long trajectory would end (consistency
    tuning: Song & Dhariwal 2023; Geng et al. 2024). Nothing in RUN changes. Of a run that still trains, the newest checkpoint is
    taken.

    Without a budget it trains for three fifths of what the old run was to train.

    The new run is a run like any other. `ddpm resume` goes on with it, and `ddpm sample` draws from it in 2 steps.

    For example:

      ddpm distill quick-001 --minutes 3 --name fast

      ddpm distill classes --guidance 2

      ddpm distill model.safetensors --steps 2000 --set optimizer.lr=1e-4
    """
    from ddpm_cli.render.terminal.console import json_value, print_json
    from ddpm_cli.render.terminal.picture import preview_samples
    from ddpm_cli.render.terminal.training import shown_training
    from ddpm_cli.results.events import ignore
    from ddpm_cli.training.distillation.distill import distill_run

    flags = {
        "train.epochs": (epochs, "--epochs"),
        "train.steps": (steps, "--steps"),
        "train.minutes": (minutes, "--minutes"),
        "train.seed": (seed, "--seed"),
        "train.device": (device, "--device"),
        "train.deterministic": (deterministic, "--deterministic"),
    }
    with shown_training(preview_samples if preview and not json else ignore) as listen:
        result = distill_run(
            run, guidance=guidance, sets=sets or [], flags=flags, runs=out, name=name, dry_run=dry_run, on_event=listen
        )
    if json and result is not None:
        print_json(json_value(asdict(result)))
