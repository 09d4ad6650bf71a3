"""What a process does beside others, without any others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT

from ddpm_cli.cli.app import report, run
from ddpm_cli.config.schema.config import TrainConfig
from ddpm_cli.core import launch
from ddpm_cli.core.compute.team import Team
from ddpm_cli.errors import DataError, InterruptedRunError, RequestError
from ddpm_cli.results.events import Event
from ddpm_cli.training.processes import check_processes

SCRIPT = ROOT / "examples" / "slurm" / "train.sbatch"


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """This process as the second of two, which waits for no first; gives the launcher's file for errors."""
    before = signal.getsignal(signal.SIGTERM)
    file = tmp_path / "error.json"
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_ERROR_FILE": str(file)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "SECONDS_FOR_MAIN", 0)
    yield file
    signal.signal(signal.SIGTERM, before)


def test_an_error_of_one_process_names_it_and_reaches_the_launcher(second_of_two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(DataError("No images here.", "Bring some."), debug=False) == 2
    told = capsys.readouterr().err
    assert "error of process 1 of 2 on" in told
    assert "No images here." in told
    message = json.loads(second_of_two.read_text())["message"]
    assert message["message"] == message["extraInfo"]["py_callstack"] == "No images here. Bring some."
    assert int(message["extraInfo"]["timestamp"]) > 0


def test_a_wrong_flag_reaches_the_launcher(second_of_two: Path) -> None:
    assert run(["train", "--bogus"], debug=False) == 2
    assert "--bogus" in second_of_two.read_text()


def test_a_signal_that_all_have_heard_is_told_by_the_main_process_alone(
    second_of_two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(InterruptedRunError("Stopped.", "", signal.SIGUSR1), debug=False) == 138
    assert capsys.readouterr().err == ""
    assert not second_of_two.exists()


def test_a_launch_is_known_by_its_id_or_else_by_its_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch.launch_key() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    by_agent = launch.launch_key()
    assert by_agent is not None
    assert str(os.getppid()) in by_agent.split()
    assert by_agent == launch.launch_key()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    assert launch.launch_key() == "id job-7"


@pytest.mark.parametrize(("count", "size"), [(7, 2), (2, 5), (0, 3), (64, 8)])
def test_the_shares_of_all_processes_are_the_whole(count: int, size: int) -> None:
    things = list(range(count))
    shares = [things[Team(rank, size).share(count)] for rank in range(size)]
    assert [thing for share in shares for thing in share] == things
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


class Processes:
    """As much of an Accelerator as says how many there are."""

    def __init__(self, number: int, mixed_precision: str = "no") -> None:
        self.num_processes, self.mixed_precision = number, mixed_precision


@pytest.mark.parametrize(
    ("train", "processes", "words"),
    [
        ({"batch_size": 1}, Processes(2), "some of the 2 processes without an image"),
        ({"batch_size": 9, "sharding": "full"}, Processes(2), "share evenly, not of 9"),
        ({"batch_size": 8, "sharding": "full"}, Processes(2, "fp16"), "does not go with fp16"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(train: dict[str, object], processes: Processes, words: str) -> None:
    told: list[Event] = []
    with pytest.raises(RequestError, match=words):
        check_processes(TrainConfig.model_validate(train), processes, told.append)  # type: ignore[arg-type]  # stands in for it
    assert not told


def test_the_slurm_script_is_sound_bash() -> None:
    done = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
