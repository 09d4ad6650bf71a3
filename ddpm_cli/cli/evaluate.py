"""Run `ddpm evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ddpm_cli.cli.parsing.completion import listed as listing
from ddpm_cli.cli.parsing.completion import metric_names
from ddpm_cli.cli.parsing.options import (
    DeviceOption,
    EmaOption,
    JsonOption,
    NoLimitsOption,
    RunArgument,
    SetOption,
    path_of,
)
from ddpm_cli.cli.parsing.spread import with_drawing
from ddpm_cli.core.names import as_known, listed
from ddpm_cli.sampling.request import Drawing

if TYPE_CHECKING:
    from ddpm_cli.diffusion.objectives.vlb import ModelVariance
    from ddpm_cli.evaluation.evaluate import Evaluation
    from ddpm_cli.evaluation.settings import Split

VARIANCES = ("fixed-small", "fixed-large", "learned-range")
SPLITS = ("train", "test")


@with_drawing("batch_size")
def evaluate(
    run: RunArgument = None,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            "-m",
            metavar="LIST",
            help="Names separated by commas, see below.",
            autocompletion=listing(metric_names),
        ),
    ] = "fcd",
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",
            metavar="N",
            help="Samples (1,000 if left out), or held-out images for likelihoods and losses (256).",
            show_default=False,
        ),
    ] = None,
    *,
    drawing: Drawing,
    likelihood_steps: Annotated[
        int | None,
        typer.Option(
            "--likelihood-steps",
            metavar="N",
            help="Network evaluations per image for bits-per-dim (all T if left out), intervals of the ODE for nll-ode (100).",
            show_default=False,
        ),
    ] = None,
    respaced: Annotated[
        bool,
        typer.Option(
            "--respaced",
            help="bits-per-dim of the shorter process with --likelihood-steps steps, not an estimate for all T.",
        ),
    ] = False,
    variance: Annotated[
        str | None,
        typer.Option(
            "--variance",
            metavar="NAME",
            help="For bits-per-dim: fixed-small, fixed-large or learned-range; the model's own if left out.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the first sample; of noise and steps.")] = 0,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", help="Independent sets of samples; their mean and spread are given.")
    ] = 1,
    reference: Annotated[
        str, typer.Option("--reference", metavar="SPLIT", help="What samples are measured against: train or test.")
    ] = "train",
    extractor_weights: Annotated[
        Path | None,
        typer.Option(
            "--extractor-weights",
            parser=path_of("--extractor-weights"),
            metavar="FILE",
            help="Inception's weights as .safetensors; downloaded if left out.",
            show_default=False,
        ),
    ] = None,
    fit_extractor: Annotated[
        bool, typer.Option("--fit-extractor", help="Train the classifier that fcd and nearest need, once for each data set.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="DIR",
            help="Folder of figures and pictures; RUN/evaluations if left out.",
            show_default=False,
        ),
    ] = None,
    ema: EmaOption = True,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Images at a time.")] = 64,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Measure a model: its samples against real images, or the likelihood of held-out images.

    Figures are kept in RUN/evaluations/figures.jsonl, and the same request is answered from there. A call that was cut short goes
    on where it stopped. Under torchrun all processes draw samples.

    For example:

      ddpm evaluate runs/quick-001 --sampler ddim --steps 50 --repeats 3

      ddpm evaluate --metrics fid,kid,precision-recall --n 10000

      ddpm evaluate --metrics nearest,loss-per-timestep,bits-per-dim --json
    """
    from ddpm_cli.metrics.registry import known_metrics

    names = listed(metrics, known_metrics())
    variance = variance and as_known(variance, VARIANCES)
    reference = as_known(reference, SPLITS)
    counts = {
        "--n": n,
        "--steps": drawing.get("steps"),
        "--likelihood-steps": likelihood_steps,
        "--repeats": repeats,
        "--batch-size": batch_size,
    }
    check_options(names, counts, seed, {"--variance": (variance, VARIANCES), "--reference": (reference, SPLITS)}, sets or [])

    from ddpm_cli.evaluation.evaluate import evaluate_run
    from ddpm_cli.evaluation.settings import EvaluateSettings
    from ddpm_cli.render.terminal.evaluate import EvaluateView
    from ddpm_cli.sampling.file_bounds import Bounds

    settings = EvaluateSettings(
        n=n,
        likelihood_steps=likelihood_steps,
        likelihood_respaced=respaced,
        batch_size=batch_size,
        seed=seed,
        repeats=repeats,
        variance=cast("ModelVariance | None", variance),
        reference=cast("Split", reference),
        extractor_weights=extractor_weights,
        fit_extractor=fit_extractor,
        bounds=Bounds(lifted=no_limits),
    )
    with EvaluateView() as view:
        found = evaluate_run(
            run, names, settings, device=device or "auto", ema=ema, out=out, sets=sets or [], drawing=drawing, on_event=view
        )
    if found.figures:
        show(found, ema, json)


def check_options(
    names: list[str],
    counts: dict[str, int | None],
    seed: int,
    choices: dict[str, tuple[str | None, tuple[str, ...]]],
    sets: list[str],
) -> None:
    """Refuse options that mean nothing, before anything is loaded.

    Args:
        names: Of metrics.
        counts: Numbers that must be positive, by option.
        seed: Of the first sample.
        choices: Value and possible values, by option.
        sets: The texts of --set.
    Raises:
        RequestError: Naming the option.
    """
    from ddpm_cli.cli.parsing.requests import require_positive, require_sample_settings
    from ddpm_cli.errors import RequestError
    from ddpm_cli.metrics.registry import likelihoods, of_samples

    for option, count in counts.items():
        require_positive(option, count)
    if seed < 0 or seed >= 2**32:
        raise RequestError(f"--seed must be at least 0 and below 2**32, not {seed}.", "Give another seed.")
    for option, (value, possible) in choices.items():
        if value is not None and value not in possible:
            raise RequestError(f"There is no {option} {value!r}.", f"Choose one of {', '.join(possible)}.")
    require_sample_settings(sets)
    for option, users in (("--steps", of_samples()), ("--likelihood-steps", likelihoods())):
        if counts[option] is not None and not set(names) & set(users):
            raise RequestError(
                f"{option} has no effect on {', '.join(names)}: it is for {', '.join(users)}.",
                "--steps is of the sampler, --likelihood-steps of likelihoods.",
            )


def show(found: Evaluation, ema: bool, json: bool) -> None:
    """Print the figures and say where they are kept."""
    from dataclasses import asdict

    from ddpm_cli.render.terminal.console import print_json, show_line
    from ddpm_cli.render.terminal.evaluate import show_figures

    trained = found.trained
    if json:
        facts = {"model": trained.origin, "step": trained.step, "ema": ema}
        print_json(facts | {"figures": [asdict(figure) for figure in found.figures]})
    else:
        show_figures(found.figures)
    if found.folder is not None:
        show_line("kept in:", "green", str(found.folder))
