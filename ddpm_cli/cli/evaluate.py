"""`ddpm evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from ddpm_cli.cli.options import DeviceOption, JsonOption, RunArgument

if TYPE_CHECKING:
    from ddpm_cli.diffusion.vlb import ModelVariance

VARIANCES = ("fixed-small", "fixed-large", "learned-range")


def evaluate(
    run: RunArgument = None,
    metrics: Annotated[
        str, typer.Option("--metrics", "-m", metavar="LIST", help="Out of bits-per-dim and nll-ode, separated by commas.")
    ] = "bits-per-dim",
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", help="Test images.")] = 256,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="Network evaluations per image for bits-per-dim (all T if left out), intervals of the ODE for nll-ode (100).",
            show_default=False,
        ),
    ] = None,
    variance: Annotated[
        str | None,
        typer.Option(
            "--variance",
            metavar="NAME",
            help="For bits-per-dim: fixed-small, fixed-large or learned-range; the model's own if left out.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of noise, steps and probes.")] = 0,
    ema: Annotated[bool, typer.Option("--ema/--no-ema", help="Averaged weights, or the last ones.")] = True,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Images at a time.")] = 64,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a model on the test images of its data set.

    bits-per-dim: the variational bound on the negative log-likelihood of the pixels, with its terms.
    nll-ode: the negative log-likelihood of the probability-flow ODE, pixels being spread over their bins.

    Both are in bits per dimension, where less is better; they are figures of different models of the same network, not to be
    compared with each other.

    For example:

      ddpm evaluate runs/quick-001 --metrics bits-per-dim --n 256

      ddpm evaluate --metrics bits-per-dim,nll-ode --steps 50 --json
    """
    from ddpm_cli.cli.sample import require_positive
    from ddpm_cli.errors import RequestError

    for option, value in (("--n", n), ("--steps", steps), ("--batch-size", batch_size)):
        require_positive(option, value)
    if seed < 0 or seed >= 2**32:
        raise RequestError(f"--seed must be at least 0 and below 2**32, not {seed}.", "Give another seed.")
    if variance is not None and variance not in VARIANCES:
        raise RequestError(f"There is no variance {variance!r}.", f"Variances: {', '.join(VARIANCES)}.")

    from dataclasses import asdict

    from ddpm_cli.engine.build import build_dataset
    from ddpm_cli.engine.device import resolve_device
    from ddpm_cli.engine.evaluate import METRICS, EvaluateSettings
    from ddpm_cli.engine.evaluate import evaluate as measure
    from ddpm_cli.engine.generate import load_trained
    from ddpm_cli.render.console import print_json, show_line, show_notices
    from ddpm_cli.render.evaluate import EvaluateView, show_figures

    names = list(dict.fromkeys(name.strip() for name in metrics.split(",")))
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise RequestError(f"There is no metric {unknown[0]!r}.", f"Metrics: {', '.join(METRICS)}.")
    trained = load_trained(run, resolve_device(device or "auto"), ema=ema, on_event=show_notices)
    show_line("model:", "cyan", f"{trained.origin} (step {trained.step:,}, {'EMA' if ema else 'last'} weights)")
    settings = EvaluateSettings(n, steps, batch_size, seed, cast("ModelVariance | None", variance))
    with EvaluateView() as view:
        dataset = build_dataset(trained.config.data, view)
        figures = measure(trained, dataset, names, settings, on_event=view)
    if json:
        facts = {"model": str(trained.origin), "step": trained.step, "ema": ema}
        print_json(facts | {"figures": [asdict(figure) for figure in figures]})
    else:
        show_figures(figures)
