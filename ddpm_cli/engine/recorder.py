"""The listener that writes a run's metrics to disk."""

from __future__ import annotations

from ddpm_cli.events import EpochEnded, Event, Listener, MetricsLogged
from ddpm_cli.runs.directory import RunDirectory
from ddpm_cli.runs.metrics_log import MetricsLog, write_history


def recorder(run: RunDirectory) -> Listener:
    """A listener that appends to metrics.jsonl and rewrites metrics.json.

    Each row is on disk before training goes on, so that every row up to a checkpoint survives whatever comes after it.
    """
    log = MetricsLog(run.metrics_log)

    def listen(event: Event) -> None:
        if isinstance(event, MetricsLogged):
            log.append(event.row)
            log.sync()
        elif isinstance(event, EpochEnded):
            write_history(run.metrics_history, event.history)

    return listen
