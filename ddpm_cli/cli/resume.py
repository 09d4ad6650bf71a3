"""Run `ddpm resume`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.options import (
    DeterministicOption,
    DeviceOption,
    EpochsOption,
    JsonOption,
    MinutesOption,
    NoLimitsOption,
    PreviewOption,
    ResumeArgument,
    SetOption,
    StepsOption,
)


def resume(
    run: ResumeArgument = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    device: DeviceOption = None,
    deterministic: DeterministicOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    data_changed: Annotated[
        bool,
        typer.Option("--data-changed", help="Go on with the images that the run's data has now: added, removed or changed since."),
    ] = False,
    preview: PreviewOption = False,
    json: JsonOption = False,
) -> None:
    """Go on with a run from its newest complete checkpoint, exactly where it stopped.

    On a CPU the result has the same weights, bit for bit, as a run that was never stopped.

    --epochs, --steps and --minutes are new totals, which extend a finished run. A learning rate that falls then follows the
    new, longer curve.

    --set changes how the run goes on, such as its learning rate. The model stays as it is. So do the images, unless pictures were
    added to their folder: then --data-changed goes on with all of them, and says what changed. For other data there is
    `--from` of `ddpm train`.

    For example:

      ddpm resume

      ddpm resume runs/quick-001 --steps 2000

      ddpm resume runs/quick-001 --set optimizer.lr=1e-4

      ddpm resume photos-001 --data-changed --epochs 200
    """
    from ddpm_cli.render.terminal.console import json_value, print_json
    from ddpm_cli.render.terminal.picture import preview_samples
    from ddpm_cli.render.terminal.training import shown_training
    from ddpm_cli.results.events import ignore
    from ddpm_cli.training.train import resume as resume_training

    budget = {"epochs": epochs, "steps": steps, "minutes": minutes}
    with shown_training(preview_samples if preview and not json else ignore) as listen:
        result = resume_training(
            run,
            budget=budget,
            device=device,
            deterministic=deterministic,
            sets=sets or [],
            no_limits=no_limits,
            data_changed=data_changed,
            on_event=listen,
        )
    if json and result is not None:
        print_json(json_value(asdict(result)))
