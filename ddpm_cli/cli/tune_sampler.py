"""Run `ddpm tune-sampler`."""

from __future__ import annotations

from typing import Annotated

import typer

from ddpm_cli.cli.parsing.options import DeviceOption, EmaOption, JsonOption, NoLimitsOption, ResumeArgument, SetOption
from ddpm_cli.cli.parsing.spread import with_request
from ddpm_cli.sampling.request import Drawing


@with_request("drawing", Drawing, "sampler", "steps", "guide_with", "guide_scale")
def tune_sampler(
    run: ResumeArgument = None,
    steps: Annotated[str, typer.Option("--steps", metavar="LIST", help="Numbers of steps, separated by commas.")] = "5,8,10",
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", help="Noises to search with. Twice as many others decide.")] = 64,
    *,
    drawing: Drawing,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed takes other noises.")] = 0,
    ema: EmaOption = True,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Find the solver and the steps that come closest to a run's own long trajectories.

    A sampler of few steps depends on which steps it visits. The best list depends on the trained model. The command tries solvers
    and lists from the same noises, for each number of steps. It keeps those whose images are closest to the ends of trajectories
    of 100 steps. Other noises than those of the search decide between the solvers, and give the distance that is shown.

    What was found is kept in RUN/tuned.json. `ddpm sample` and `ddpm evaluate` take it with --sampler tuned. Exported files hold
    it too. Tune again after further training.

    For example:

      ddpm tune-sampler

      ddpm tune-sampler runs/quick-001 --steps 5,8,10

      ddpm tune-sampler quick-001 --steps 4 --n 128 --json
    """
    from ddpm_cli.cli.parsing.requests import require_sample_settings
    from ddpm_cli.render.terminal.console import print_json, show_line
    from ddpm_cli.render.terminal.evaluate import EvaluateView
    from ddpm_cli.render.terminal.tuning import show_tuning, tuning_json
    from ddpm_cli.sampling.tuning.request import tune_run

    require_sample_settings(sets or [])
    numbers = numbers_of(steps)
    with EvaluateView() as view:
        found = tune_run(
            run,
            numbers,
            images=n,
            seed=seed,
            drawing=drawing,
            sets=sets or [],
            ema=ema,
            device=device or "auto",
            no_limits=no_limits,
            on_event=view,
        )
    if json:
        print_json({"model": found.trained.origin, "file": found.run.tuned_path, **tuning_json(found.tuning)})
    else:
        show_tuning(found.tuning)
    show_line("kept in:", "green", str(found.run.tuned_path))


def numbers_of(text: str) -> list[int]:
    """Parse a list of whole numbers, such as "5,8,10".

    Raises:
        RequestError: If it is none.
    """
    import re

    from ddpm_cli.errors import RequestError

    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*", text, re.ASCII):
        raise RequestError(f"--steps {text!r} is no list of whole numbers.", "Write for example --steps 5,8,10.")
    return [int(number) for number in text.split(",")]
