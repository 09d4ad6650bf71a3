"""Steps that are listed, and what is said where steps, warm-up or betas do not serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import TINY, Ddpm, assert_refused

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.loader import from_toml_text, load_config, override
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.objective import ObjectiveConfig
from ddpm_cli.config.schema.sample import DdimSampler, LeadingSpacing, SampleConfig
from ddpm_cli.diffusion.flows import Flow
from ddpm_cli.errors import ConfigError
from ddpm_cli.sampling.drawing import sampler_notices


def flat(text: str) -> str:
    return " ".join(text.split())


def test_listed_steps_are_those_that_are_visited() -> None:
    schedule = build_schedule(load_config().config.schedule)
    for sampler in ("ddim", "unipc"):
        config = load_config(sets=[f"sample.sampler={sampler}", "sample.timesteps=[999, 500, 20]"]).config
        assert config.sample.sampler.kind == sampler
        assert [schedule.step(level) for level in config.sample.sampler.prepare(schedule)[1]] == [999, 500, 20]
        assert config.sample.sampler.number_of_steps(1000) == 3
        assert from_toml_text(to_toml(config)) == config


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["sample.timesteps=[10, 20]"], "strictly descending"),
        (["sample.timesteps=[20, -1]"], "strictly descending"),
        (["sample.timesteps=[1000, 5]"], "begins above schedule.timesteps - 1 (999)"),
        (["sample.timesteps=[]"], "sample.timesteps: needs at least 1 values"),
        (["sample.timesteps=[999, 10]", "sample.sampler.steps=5"], "steps is 5, but the list of steps has 2"),
        (["sample.timesteps=[999, 10]", "sample.sampler.spacing=karras"], "sampler.spacing has nothing to space"),
        (["sample.sampler.spacing.kind=list", "sample.sampler.spacing.timesteps=[9, 5]", "sample.sampler.steps=3"], "steps is 3"),
    ],
)
def test_lists_that_are_none_are_refused(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(sets=sets)
    assert words in str(caught.value)
    assert "spacing.timesteps" in str(sets) or "spacing.timesteps" not in str(caught.value)


def test_listed_steps_take_the_place_of_those_of_the_run() -> None:
    of_run = load_config(sets=["sample.sampler.steps=50", "sample.sampler.spacing=karras"]).config
    assert override(of_run, sets=["sample.timesteps=[999, 10]"]).sample.sampler.number_of_steps(1000) == 2
    assert SampleConfig(sampler=DdimSampler(), timesteps=(9, 1)).sampler.number_of_steps(10) == 2  # type: ignore[call-arg]


def test_a_wrong_item_makes_no_list_too_short() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(sets=['train.evaluate_metrics=["fid"]'])
    assert "faults" not in caught.value.message
    assert "train.evaluate_metrics[0]" in caught.value.message


@pytest.mark.parametrize("kind", ["karras", "logsnr"])
def test_a_stored_spacing_stays_what_it_was(kind: str) -> None:
    """Configs of older runs say nothing of max_sigma, and mean the schedule's own."""
    stored = to_toml(load_config(sets=[f"sample.sampler.spacing={kind}"]).config)
    assert from_toml_text(stored).sample.sampler.spacing.max_sigma == 164.0  # type: ignore[union-attr]
    before = "\n".join(line for line in stored.splitlines() if "max_sigma" not in line)
    assert before != stored
    assert from_toml_text(before).sample.sampler.spacing.max_sigma is None  # type: ignore[union-attr]


def test_a_stored_variance_stays_what_it_was() -> None:
    """Configs of runs are complete, so that older ones say "fixed-small", whatever the usual one is now."""
    stored = to_toml(load_config(sets=["objective.loss=hybrid", "sample.sampler.variance=fixed-small"]).config)
    assert from_toml_text(stored).sample.sampler.variance == "fixed-small"
    assert load_config(sets=["objective.loss=hybrid"]).config.sample.sampler.variance == "auto"


def test_the_command_says_where_steps_do_not_serve(trained_folder: Path, ddpm_here: Ddpm, tmp_path: Path) -> None:
    def sample(*options: str) -> str:
        done = ddpm_here("sample", str(trained_folder / "runs" / "tiny"), "--n", "1", "--json", *options)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["seeds"] == [0]
        return flat(done.stderr)

    assert "worse than Euler's" in sample("--sampler", "heun", "--steps", "3", "--set", "sample.sampler.spacing=karras")
    assert "worse than Euler's" not in sample("--sampler", "heun", "--steps", "20")
    assert "Leading spacing takes every step below 29" in sample("--steps", "30", "--set", "sample.sampler.spacing=leading")
    assert "Leading" not in sample("--steps", "25", "--set", "sample.sampler.spacing=leading")
    assert "The listed steps begin at 25" in sample("--set", "sample.timesteps=[25, 5]")
    assert "The listed steps" not in sample("--set", "sample.timesteps=[49, 5]")
    done = ddpm_here("sample", str(trained_folder / "runs" / "tiny"), "--set", "sample.timesteps=[50]")
    assert_refused(done, "sample.timesteps begins above schedule.timesteps - 1 (49)")
    done = ddpm_here("sample", str(trained_folder / "runs" / "tiny"), "--set=sample.timesteps=[49,5]", "--steps=5")
    assert_refused(done, "steps is 5, but the list of steps has 2", "--steps")


def test_training_says_that_it_never_warms_up_and_that_betas_are_clipped(ddpm_here: Ddpm) -> None:
    odd = ("--set=optimizer.warmup_steps=100", "--set=schedule.timesteps=10", "--set=train.sampler.steps=2")
    done = ddpm_here("train", *TINY, "--steps=5", "--dry-run", *odd)
    assert done.returncode == 0, done.stderr
    assert "warms up for 100 steps, but the run has 5" in flat(done.stderr)
    assert "5 of 10 betas are clipped" in flat(done.stderr)


def test_a_respaced_bound_asks_for_its_steps(trained_folder: Path, ddpm_here: Ddpm, tmp_path: Path) -> None:
    run = str(trained_folder / "runs" / "tiny")
    options = ("--metrics", "bits-per-dim", "--n", "4", "--json", "--out", str(tmp_path / "out"))
    assert_refused(ddpm_here("evaluate", run, *options, "--respaced"), "--likelihood-steps")
    done = ddpm_here("evaluate", run, *options, "--respaced", "--likelihood-steps", "5")
    assert done.returncode == 0, done.stderr
    (figure,) = json.loads(done.stdout)["metrics"] if "metrics" in json.loads(done.stdout) else json.loads(done.stdout)["figures"]
    assert figure["details"]["process"] == "respaced"
    assert figure["details"]["evaluations"] == 5


@pytest.mark.parametrize("chosen", ["objective.coupling=optimal-transport", "objective.noise_candidates=2"])
def test_noise_that_was_chosen_and_a_sampler_that_adds_some(chosen: str) -> None:
    """Of every sampler; what the notice rests on is in `test_gaussian_data`."""

    def told(sampler: str, *sets: str) -> list[str]:
        config = load_config(sets=[f"sample.sampler={sampler}", *sets]).config
        schedule = build_schedule(config.schedule)
        found = sampler_notices(config.sample.sampler, schedule, config.objective, "sample.sampler")
        return [notice.message for notice in found if "adds noise on its way" in notice.message]

    adding = ("ddpm", "{kind='ddim',eta=0.5}", "{kind='heun',s_churn=1.0}", "{kind='dpm-solver++',sde=true}", "consistency")
    for sampler in adding:
        assert len(told(sampler, chosen)) == 1
        assert told(sampler) == []
    for sampler in ("ddim", "euler", "heun", "dpm-solver++", "unipc", "deis", "ipndm", "{kind='consistency',steps=1}"):
        assert told(sampler, chosen) == []


def test_leading_spacing_is_even_on_a_path() -> None:
    sampler, table = DdimSampler(steps=600, spacing=LeadingSpacing()), build_schedule(load_config().config.schedule)
    on_path, on_table = (list(sampler_notices(sampler, schedule, ObjectiveConfig(), "x")) for schedule in (Flow(1000), table))
    assert on_path == []
    assert "Leading spacing" in on_table[0].message
