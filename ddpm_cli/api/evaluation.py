"""Measure figures of merit in Python: `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm_cli.api.arguments import Settings, as_argument, as_path, sampling_sets
from ddpm_cli.api.training import Run
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.core.names import as_known
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.evaluate import evaluate_run
from ddpm_cli.evaluation.settings import EvaluateSettings
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.render.terminal.evaluate import EvaluateView
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.results.figure import Figure

SEEDS = 2**32


def evaluate(
    run: Run | str | Path | None = None,
    metrics: str | Sequence[str] = "fcd",
    *,
    n: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    likelihood_steps: int | None = None,
    likelihood_respaced: bool = False,
    extractor_weights: str | Path | None = None,
    fit_extractor: bool = False,
    batch_size: int = 64,
    ema: bool = True,
    set: Settings | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    runs: str | Path = "runs",
    progress: bool = True,
    on_event: Listener = ignore,
) -> list[Figure]:
    """Measure a model on its own data, as `ddpm evaluate` does. Figures are kept; the same request is answered from there.

    Args:
        run: A run, its name below `runs`, its folder, one of its checkpoints, or an exported file; the newest run if None.
        metrics: Names of one or more metrics, such as "fcd" of samples or "bits-per-dim" of held-out images; `ddpm ls metrics`
            lists them all, those of other packages too.
        n: Samples, or held-out images, at least 1; 1,000 samples and 256 held-out images if None.
        repeats: Independent sets of samples, at least 1; their mean and spread are given.
        seed: Of the first sample, of noise and of steps, in [0, 2**32).
        sampler: See `Model.sample`, as for the next two.
        steps: Of the sampler.
        guidance: Scale of the guidance.
        likelihood_steps: Network evaluations per image for bits-per-dim (all T if None), intervals of the ODE for nll-ode (100).
        likelihood_respaced: bits-per-dim of the shorter process with `likelihood_steps` steps, not an estimate for all T.
        extractor_weights: Inception's weights as .safetensors; downloaded if None.
        fit_extractor: Train the classifier that fcd and nearest need, once for each data set, where none comes with the package.
        batch_size: Images at a time, at least 1.
        ema: Take the averaged weights.
        set: Fields of the config's section `sample` by dotted key.
        out: Folder of figures and pictures; `evaluations` in the run's folder if None.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        runs: The folder of runs.
        progress: Show bars and notices on stderr.
        on_event: Told of `EvaluateProgress`, `Notice`, and the pictures that were drawn.
    Returns:
        One figure for each metric in their order, two for precision-recall, each with its value, error and protocol. That of
        loss-per-timestep has the curve in `rows`: `t_first`, `t_last`, `loss` and `standard_error` of up to 20 ranges of t.
    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
        OutOfMemoryError: If the memory does not suffice; what is done is kept.
    """
    if not 0 <= seed < SEEDS:
        raise RequestError(f"seed must be at least 0 and below 2**32, not {seed}.", "Give another seed.")
    settings = EvaluateSettings(
        n=n,
        repeats=repeats,
        seed=seed,
        likelihood_steps=likelihood_steps,
        likelihood_respaced=likelihood_respaced,
        extractor_weights=as_path(extractor_weights, "extractor_weights"),
        fit_extractor=fit_extractor,
        batch_size=batch_size,
    )
    with EvaluateView() as view:
        found = evaluate_run(
            run.path if isinstance(run, Run) else as_path(run, "run"),
            [as_known(name, known_metrics()) for name in ([metrics] if isinstance(metrics, str) else metrics)],
            settings,
            runs=user_path(runs, "runs"),
            device=device,
            ema=ema,
            out=as_path(out, "out"),
            sets=sampling_sets(set),
            drawing={"sampler": sampler, "steps": steps, "guidance": guidance},
            spelt=as_argument,
            on_event=together(view if progress else ignore, on_event),
        )
    return found.figures
