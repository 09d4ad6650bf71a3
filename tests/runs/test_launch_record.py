"""What a resume says of a launch that differs from the one before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_configs import tiny_config

from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.render.terminal.overview import provenance_facts
from ddpm_cli.results.events import Event, Notice
from ddpm_cli.runs.checkpoint_state import check_state
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.directory import create_run, read_info, write_info
from ddpm_cli.runs.launch_record import launch, launch_notice
from ddpm_cli.runs.launches import last_launch, launches, record_launch
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.train import resume, train

BEFORE = {"processes": 1, "threads": 4, "device": "cpu", "torch": "2.14.1"}
"""Of a checkpoint of the version before."""
HERE = BEFORE | {"precision": "fp32", "kernels": "eager"}


def test_a_launch_is_what_it_says() -> None:
    found = launch(make_accelerator("cpu", "auto"), compiled=False)
    assert found == HERE | {"threads": torch.get_num_threads(), "torch": torch.__version__}
    check_state({"launch": found})


def test_nothing_is_said_where_nothing_differs_or_nothing_is_known() -> None:
    assert launch_notice(HERE, dict(HERE)) is None
    assert launch_notice(None, HERE) is None
    assert launch_notice(BEFORE, HERE) is None
    check_state({"launch": BEFORE})


def test_one_notice_names_all_that_differs() -> None:
    there = {"processes": 2, "threads": 1, "device": "cuda (H100)", "precision": "bf16", "kernels": "compiled"}
    notice = launch_notice(HERE, HERE | there)
    assert notice is not None
    for words in (
        "processes 2 instead of 1",
        "threads in each process 1 instead of 4",
        "device cuda (H100) instead of cpu",
        "precision bf16 instead of fp32",
        "kernels compiled instead of eager",
        "bits",
    ):
        assert words in notice
    assert "torch" not in notice
    assert "dropout leaves out others" in notice
    assert "dropout" not in str(launch_notice(HERE, HERE | {"threads": 1}))


@pytest.mark.parametrize(
    "broken", [[], HERE | {"more": 1}, HERE | {"threads": "4"}, HERE | {"device": 3}, HERE | {"kernels": 1}, {"processes": 1}]
)
def test_a_launch_of_another_kind_is_refused(broken: object) -> None:
    with pytest.raises(UnreadableError, match="launch"):
        check_state({"launch": broken})


def test_a_run_tells_how_each_part_of_it_was_launched(tmp_path: Path) -> None:
    small = ("model.channel_mult=[1]", "schedule.timesteps=20", "checkpoint.every=2")
    train(tiny_config(*small, "train.steps=2"), runs=tmp_path, name="a")
    run = RunDirectory(tmp_path / "a")
    (began,) = launches(read_info(run))
    assert began == {"step": 0, **latest_checkpoint(run).state["launch"]}
    assert began["precision"] == read_info(run)["precision"] == "fp32"  # which the config leaves open

    def said(steps: int, *sets: str) -> str:
        events: list[Event] = []
        resume(run.path, budget={"steps": steps}, sets=sets, on_event=events.append)
        return " ".join(event.message for event in events if isinstance(event, Notice))

    assert "Launched otherwise" not in said(3)
    assert launches(read_info(run)) == [began]
    assert "precision bf16 instead of fp32" in said(4, "train.precision=bf16")
    assert [(one["step"], one["precision"]) for one in launches(read_info(run))] == [(0, "fp32"), (3, "bf16")]
    assert provenance_facts(read_info(run))["later"].startswith("from step 3: device cpu, precision bf16, kernels eager")


def test_a_run_without_a_checkpoint_says_what_it_was_begun_with(tmp_path: Path) -> None:
    run = create_run(tmp_path, "a", "a")
    assert last_launch(run) is None
    write_info(run, {"created": 1.0, "launches": [{"step": 0, **HERE}]})
    assert last_launch(run) == HERE
    for nonsense in ([], {}, [1], [{"step": -1}], [{"device": "cpu"}], "x"):
        write_info(run, {"created": 1.0, "launches": nonsense})
        assert last_launch(run) is None
        record_launch(run, 3, HERE)
        assert launches(read_info(run)) == [{"step": 3, **HERE}]
    record_launch(run, 7, HERE | {"precision": "bf16"})
    record_launch(run, 5, HERE)  # from a checkpoint before: what was trained on from step 7 is no more
    assert launches(read_info(run)) == [{"step": 3, **HERE}]
