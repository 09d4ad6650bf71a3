"""Measure figures of merit in Python: `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from ddpm_cli.api.arguments import Settings, as_argument, as_given_path, as_list, as_path, as_sets, as_text
from ddpm_cli.api.training import Run
from ddpm_cli.core.names import as_known
from ddpm_cli.evaluation.evaluate import evaluate_run
from ddpm_cli.evaluation.settings import Measuring
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.render.terminal.evaluate import EvaluateView
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.results.figure import Figure
from ddpm_cli.sampling.file_bounds import Bounds


def evaluate(
    run: Run | str | Path | None = None,
    metrics: str | Sequence[str] = "fcd",
    *,
    ema: bool = True,
    set: Settings | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
    write_statistics: str | Path | None = None,
    device: str = "auto",
    no_limits: bool = False,
    runs: str | Path = "runs",
    progress: bool = True,
    on_event: Listener = ignore,
    **asked: Unpack[Measuring],
) -> list[Figure]:
    """Measure a model on its own data, or images as they are, as `ddpm evaluate` does.

    Figures are kept; the same request is answered from there.

    Args:
        run: A run, its name below `runs`, its folder, one of its checkpoints, or an exported file; the newest run if None.
            Or images that any program has made: a folder of pictures, or an `.npz` or `.npy` file, uint8 [N, H, W, C].
        metrics: Names of one or more metrics, such as "fcd" of samples or "bits-per-dim" of held-out images; `ddpm ls metrics`
            lists them all, those of other packages too.
        ema: Take the averaged weights.
        set: Fields of the config's section `sample` by dotted key; for images, of `data`.
        out: Folder of figures and pictures; `evaluations` in the run's folder if None, and none for images.
        data: For images, the data set that they are measured against, as for `train`; a run has its own.
        write_statistics: For fid, `.npz` file for mean and covariance of the reference's features, as pytorch-fid reads them.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        no_limits: Lift the limits on the images, time and memory that a run or file may ask for.
        runs: The folder of runs.
        progress: Show bars and notices on stderr.
        on_event: Told of `EvaluateProgress`, `Notice`, and the pictures that were drawn.
        asked: How to measure, where it is not as usual: n (samples, 1,000 if left out; or held-out images, 256), repeats
            (independent sets of samples), seed (of the first sample, in [0, 2**32)), sampler, steps, guidance, guide_with and
            guide_scale as for `Model.sample`, batch_size (64 if left out), likelihood_steps, likelihood_respaced, variance,
            reference ("train" or "test", or the path of a folder or file of images, of a file of `mu` and `sigma`, or of a run),
            extractor_weights, fit_extractor. See `EvaluateSettings`.
    Returns:
        One figure for each metric in their order, two for precision-recall, each with its value, error and protocol. That of
        loss-per-timestep has the curve in `rows`: `t_first`, `t_last`, `loss` and `standard_error` of up to 20 ranges of t.
    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
        OutOfMemoryError: If the memory does not suffice; what is done is kept.
    """
    named = [metrics] if isinstance(metrics, str) else as_list(metrics, "metrics")
    with EvaluateView() as view:
        found = evaluate_run(
            run.path if isinstance(run, Run) else as_path(run, "run"),
            [as_known(as_text(name, "metrics"), known_metrics()) for name in named],
            asked,
            runs=as_given_path(runs, "runs"),
            device=device,
            ema=ema,
            out=as_path(out, "out"),
            data=None if data is None else str(data),
            write_statistics=as_path(write_statistics, "write_statistics"),
            sets=as_sets(set),
            bounds=Bounds(lifted=no_limits),
            spelt=as_argument,
            on_event=together(view if progress else ignore, on_event),
        )
    return found.figures
