"""Write a run's metrics and incidents to disk."""

from __future__ import annotations

from dataclasses import asdict

from ddpm_cli.results.events import EpochEnded, Event, Incident, Listener, MetricsLogged, TrainProgress
from ddpm_cli.runs.held_folder import HeldFolder
from ddpm_cli.runs.metrics_log import MetricsLog, Row, write_history
from ddpm_cli.runs.run_directory import RunDirectory


def guard(held: HeldFolder) -> Listener:
    """Refuse everything that is written down once the folder of the run is no longer at its path; a listener.

    Told before those that write, it keeps them from another run that was made there; it raises RunMovedError.
    """

    def listen(event: Event) -> None:
        if not isinstance(event, TrainProgress):  # of which nothing is written, and there is one a step
            held.check()

    return listen


def recorder(run: RunDirectory) -> Listener:
    """Append to metrics.jsonl and incidents.jsonl and rewrite metrics.json; a listener.

    Each row is on disk before training goes on, so that every row up to a checkpoint survives whatever comes after it.
    """
    metrics, incidents = MetricsLog(run.metrics_log), MetricsLog(run.incidents_log)

    def listen(event: Event) -> None:
        match event:
            case MetricsLogged(row):
                _write(metrics, row)
            case Incident():
                _write(incidents, {key: value for key, value in asdict(event).items() if key != "from_step" or value is not None})
            case EpochEnded(history):
                write_history(run.metrics_history, history)

    return listen


def _write(log: MetricsLog, row: Row) -> None:
    with log:  # closed after each row: on Windows no open file can be replaced, as `resume` does in the same process
        log.append(row)
        log.sync()
