"""Going back to an earlier checkpoint: the later ones get other names and stay whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ddpm_cli.runs.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from ddpm_cli.runs.directory import create_run
from ddpm_cli.runs.going_back import newest_until, set_aside_after
from ddpm_cli.runs.metrics_log import count_incidents
from ddpm_cli.runs.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = create_run(tmp_path / "runs", "mine", "quick")
    for step in (2, 4, 6, 8):
        save(run, step)
    return run


def save(run: RunDirectory, step: int, *, mark: int = 0, keep_last: int = 9, last_good_step: int | None = None) -> Path:
    tensors = {"model": {"w": torch.full((2,), float(step))}}
    return save_checkpoint(run, step, tensors, {"mark": mark}, "", keep_last=keep_last, best=False, last_good_step=last_good_step)


def names(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.checkpoints_folder.iterdir())


def test_the_newest_whole_one_until_a_step_is_found(run: RunDirectory) -> None:
    assert [newest_until(run, step) for step in (8, 7, 6, 3, 1, -2)] == [8, 6, 6, 2, None, None]
    (run.checkpoints_folder / "step-00000006" / "model.safetensors").write_bytes(b"torn")
    assert newest_until(run, 7) == 4


def test_later_ones_are_set_aside_whole_and_no_longer_taken(run: RunDirectory) -> None:
    moved = set_aside_after(run, 4)
    assert [path.name for path in moved] == ["diverged-step-00000008", "diverged-step-00000006"]
    assert [load_checkpoint(path).step for path in moved] == [8, 6]
    assert latest_checkpoint(run).step == 4
    save(run, 5, keep_last=1)  # pruning leaves alone what was set aside
    assert names(run) == ["diverged-step-00000006", "diverged-step-00000008", "step-00000005"]


def test_one_that_is_being_replaced_is_set_aside_too(run: RunDirectory) -> None:
    """A kill while a checkpoint was replaced leaves the old one under a second name, which would else take its place."""
    (run.checkpoints_folder / "step-00000008").rename(run.checkpoints_folder / "step-00000008.replaced")
    save(run, 8, keep_last=9)
    (run.checkpoints_folder / "step-00000006").rename(run.checkpoints_folder / "step-00000006.replaced")
    set_aside_after(run, 4)
    assert latest_checkpoint(run).step == 4


def test_those_of_an_earlier_time_make_way(run: RunDirectory) -> None:
    set_aside_after(run, 4)
    save(run, 8, mark=1)
    set_aside_after(run, 8)
    assert len(names(run)) == 5  # nothing is set aside now, so all stay
    set_aside_after(run, 4)
    assert names(run) == ["diverged-step-00000008", "step-00000002", "step-00000004"]
    assert load_checkpoint(run.checkpoints_folder / "diverged-step-00000008").state == {"mark": 1}


def test_in_trouble_the_last_good_one_is_kept_however_many_follow(run: RunDirectory) -> None:
    for step in (9, 10, 11):
        save(run, step, keep_last=2, last_good_step=7)
    assert names(run) == ["step-00000006", "step-00000010", "step-00000011"]
    save(run, 12, keep_last=2)
    assert names(run) == ["step-00000011", "step-00000012"]


def test_incidents_are_counted_by_kind_and_a_stranger_s_lines_passed_over(run: RunDirectory) -> None:
    assert count_incidents(run.incidents_log) == {}
    rows = [{"step": 1, "kind": kind} for kind in ("spike", "rollback", "spike", ["spike"], {}, 3, "other")]
    run.incidents_log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 2, "ki')
    assert count_incidents(run.incidents_log) == {"spike": 2, "rollback": 1}
