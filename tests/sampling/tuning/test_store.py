"""What is kept of tuning, and what of a stranger's file is believed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_runs import fake_run
from hostile import ESCAPE, exported

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.errors import RunError
from ddpm_cli.results.tuning import TunedSampler, Tuning
from ddpm_cli.sampling.tuning.store import find_tuning, read_tuning, staleness, tuning_json, tuning_of, write_tuning

LISTED = {"kind": "unipc", "spacing": {"kind": "list", "timesteps": [999, 700, 200]}, "order": 2, "variant": "bh2"}
UNTUNED = {"kind": "ddim", "steps": 3, "spacing": {"kind": "trailing"}, "eta": 0.0}
FOUND = TunedSampler(3, LISTED, 0.25, UNTUNED, 0.5)
TUNING = Tuning(
    step=100,
    ema=True,
    guidance={"scale": 1.0, "rescale": 0.0},
    threshold={"kind": "clamp", "eps": "derived"},
    images=8,
    held_out=16,
    seed=0,
    created=1.5,
    samplers=(FOUND,),
)


def of_steps(steps: int, distance: float = 0.25) -> TunedSampler:
    listed = LISTED | {"spacing": {"kind": "list", "timesteps": list(range(999, 999 - steps, -1))}}
    return replace(FOUND, steps=steps, sampler=listed, distance=distance)


def test_what_is_written_is_read_again_and_a_run_may_have_none(tmp_path: Path) -> None:
    run = fake_run(tmp_path, "run")
    assert read_tuning(run) is None
    assert write_tuning(run, TUNING) == TUNING
    assert read_tuning(run) == TUNING
    assert [path.name for path in run.path.iterdir() if "tuned" in path.name] == ["tuned.json"]


def test_other_numbers_of_steps_stay_only_beside_those_of_the_same_weights(tmp_path: Path) -> None:
    run = fake_run(tmp_path, "run")
    write_tuning(run, replace(TUNING, samplers=(of_steps(4), of_steps(6))))
    both = write_tuning(run, replace(TUNING, created=2.5, samplers=(of_steps(5), of_steps(6, 0.125))))
    assert [(found.steps, found.distance) for found in both.samplers] == [(4, 0.25), (5, 0.25), (6, 0.125)]
    assert read_tuning(run) == both
    for change in ({"step": 200}, {"ema": False}, {"seed": 1}, {"guidance": {"scale": 2.0, "rescale": 0.0}}):
        alone = replace(TUNING, **change)  # type: ignore[arg-type]
        assert write_tuning(run, alone) == alone
        write_tuning(run, both)


def test_a_damaged_file_is_named_with_its_remedy_and_replaced_by_tuning_again(tmp_path: Path) -> None:
    run = fake_run(tmp_path, "run")
    run.tuned_path.write_text("{")
    with pytest.raises(RunError, match=r"tuned\.json is not valid JSON") as error:
        read_tuning(run)
    assert error.value.remedy == f"Tune the run again: ddpm tune-sampler {run.shell_word}"
    write_tuning(run, TUNING)
    assert read_tuning(run) == TUNING


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"step": 1.5},
        {"ema": 1},
        {"created": float("nan")},
        {"seed": None},
        {"guidance": {"scale": -1}},
        {"guidance": {"shell": "rm"}},
        {"threshold": {"kind": ESCAPE}},
        {"samplers": []},
        {"samplers": {}},
        {"samplers": None},
        {"samplers": [3]},
        {"samplers": "of_two"},
    ],
)
def test_what_is_none_is_refused(change: dict[str, Any]) -> None:
    values = tuning_json(TUNING) | change
    if change.get("samplers") == "of_two":
        values["samplers"] = [tuning_json(TUNING)["samplers"][0]] * 2
    with pytest.raises(UnreadableError):
        tuning_of(values)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 4},
        {"steps": True},
        {"distance": -0.5},
        {"distance": float("inf")},
        {"untuned_distance": "near"},
        {"untuned": {"kind": "none of ours"}},
        {"sampler": UNTUNED},
        {"sampler": LISTED | {"spacing": {"kind": "list", "timesteps": [999, 700, 700]}}},
        {"sampler": LISTED | {"spacing": {"kind": "list", "timesteps": list(range(999, 899, -1))}}, "steps": 100},
        {"sampler": LISTED | {"order": 4}},
        {"sampler": LISTED | {"note": ESCAPE}},
    ],
)
def test_so_is_a_sampler_that_is_none(change: dict[str, Any]) -> None:
    values = tuning_json(TUNING)
    values["samplers"] = [values["samplers"][0] | change]
    with pytest.raises(UnreadableError):
        tuning_of(values)


def test_a_tree_that_is_no_object_is_refused() -> None:
    for value in (None, 3, [], "text", {"samplers": [[]]}):
        with pytest.raises(UnreadableError):
            tuning_of(json.loads(json.dumps(value)))


def test_stale_is_what_was_tuned_for_other_weights() -> None:
    assert staleness(TUNING, 100, True) == ""
    later, last = staleness(TUNING, 200, True), staleness(TUNING, 100, False)
    assert later == "tuned for the averaged weights of step 100, and these are the averaged weights of step 200"
    assert last == "tuned for the averaged weights of step 100, and these are the last weights of step 100"


def test_it_is_written_over_a_link_and_not_through_it_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    run, mine = fake_run(tmp_path, "run"), tmp_path / "mine"
    mine.write_text("mine")
    run.tuned_path.symlink_to(mine)
    write_tuning(run, TUNING)
    assert mine.read_text() == "mine"
    assert read_tuning(run) == TUNING
    run.tuned_path.unlink()
    os.mkfifo(run.tuned_path)
    with pytest.raises(RunError, match=r"tuned\.json"):
        read_tuning(run)


def test_an_exported_file_may_hold_none_and_one_that_is_none_is_named(tmp_path: Path) -> None:
    values = tuning_json(TUNING)
    assert find_tuning(exported(tmp_path / "plain.safetensors")) is None
    assert find_tuning(exported(tmp_path / "tuned.safetensors", tuning=values)) == TUNING
    assert find_tuning(tmp_path / "nothing") is None
    with pytest.raises(RunError, match=r"odd\.safetensors holds no tuned samplers"):
        find_tuning(exported(tmp_path / "odd.safetensors", tuning={"step": ESCAPE}))
