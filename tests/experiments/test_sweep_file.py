"""The file of a sweep: what it makes, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_cli.errors import ConfigError, RunError
from ddpm_cli.experiments.sweep_file import Sweep, load_sweep
from ddpm_cli.runs.directory import check_run_name


def load(folder: Path, text: str) -> Sweep:
    file = folder / "sweep.toml"
    file.write_text(text)
    return load_sweep(file)


def faults(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(folder, text)
    return error.value.message


def test_a_grid_is_crossed_and_every_arm_comes_before_the_next_seed(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        """
        preset = "quick"
        seeds = [3, 1]
        [base]
        train = { steps = 10 }
        data = "fashion-mnist-10k"
        [grid]
        "schedule" = ["linear", "cosine"]
        optimizer.lr = [1e-3, 3e-3]
        """,
    )
    assert (sweep.name, sweep.evaluate, sweep.points) == ("sweep", None, ({},))
    arms = ["linear-lr-0.001", "linear-lr-0.003", "cosine-lr-0.001", "cosine-lr-0.003"]
    assert [run.name for run in sweep.runs] == [f"{arm}-s{seed}" for seed in (3, 1) for arm in arms]
    last = sweep.runs[-1]
    assert last.settings == {"schedule": "cosine", "optimizer.lr": 0.003}
    assert (last.config.train.seed, last.config.train.steps, last.config.train.minutes) == (1, 10, None)
    assert (last.config.schedule.kind, last.config.optimizer.lr) == ("cosine", 0.003)
    assert last.config.model.base_channels == 32  # the preset's


def test_arms_by_hand_are_crossed_with_the_grid(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        """
        [arms.small]
        model.base_channels = 16
        [arms.large]
        model = { base_channels = 64, attention_resolutions = [7] }
        [grid]
        ema.warmup = [true, false]
        """,
    )
    assert [run.name for run in sweep.runs] == [f"{arm}-warmup-{on}-s0" for arm in ("small", "large") for on in ("true", "false")]
    assert sweep.runs[2].config.model.attention_resolutions == (7,)
    assert sweep.runs[2].settings == {"model.base_channels": 64, "model.attention_resolutions": [7], "ema.warmup": True}


def test_without_seeds_the_seed_is_a_key_like_any_other(tmp_path: Path) -> None:
    sweep = load(tmp_path, "[base]\nschedule = 'cosine'\n[grid]\ntrain.seed = [4, 5]")
    assert [(run.name, run.config.train.seed, run.repeat) for run in sweep.runs] == [("base-s4", 4, 0), ("base-s5", 5, 1)]
    by_hand = load(tmp_path, "[arms.a]\ntrain.seed = 1\n[arms.b]\ntrain.seed = 2")
    assert [run.name for run in by_hand.runs] == ["a-s1", "b-s2"]


def test_every_name_is_legal_and_its_own(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        """
        [grid]
        "sample.sampler" = ["dpm-solver++", { kind = "heun", s_churn = 0.5 }, { kind = "heun", steps = 3 }]
        "model.channel_mult" = [[1, 2], [1, 2, 2]]
        "train.max_grad_norm" = ["none", 1.0]
        "model.attention_resolutions" = [[], [7]]
        """,
    )
    names = [run.name for run in sweep.runs]
    assert len(set(names)) == 24
    for name in names:
        check_run_name(name)
    assert names[0] == "dpm-solver-channel_mult-1_2-max_grad_norm-none-attention_resolutions-none-s0"
    assert "heun-s_churn-0.5-channel_mult-1_2_2-max_grad_norm-1-attention_resolutions-7-s0" in names


def test_names_differ_in_more_than_case(tmp_path: Path) -> None:
    sweep = load(tmp_path, "[arms.Wide]\nmodel.base_channels = 64\n[arms.wide]\nmodel.base_channels = 96")
    assert [run.name for run in sweep.runs] == ["Wide-s0", "wide-2-s0"]  # on macOS and Windows they would share one folder


def test_the_name_of_a_number_is_no_other_number(tmp_path: Path) -> None:
    sweep = load(tmp_path, "[grid]\noptimizer.lr = [1e6, 1e-6]\nschedule.logsnr_shift = [-1.5, 1.5]")
    names = [f"lr-{lr}-logsnr_shift-{shift}-s0" for lr in ("1e6", "1e-06") for shift in ("minus1.5", "1.5")]
    assert [run.name for run in sweep.runs] == names


def test_settings_of_sampling_are_crossed_without_training_again(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        """
        [grid]
        schedule = ["linear", "cosine"]
        [evaluate]
        metrics = ["fcd", "kid"]
        n = 500
        repeats = 2
        sampler = "ddim"
        [evaluate.grid]
        sample.sampler.steps = [5, 10]
        """,
    )
    assert sweep.evaluate is not None
    assert (sweep.evaluate.metrics, sweep.evaluate.asked) == (("fcd", "kid"), {"sampler": "ddim", "n": 500, "repeats": 2})
    assert sweep.points == tuple({"sample.sampler.kind": "ddim", "sample.sampler.steps": steps} for steps in (5, 10))
    assert len(sweep.runs) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 1", ['sed: unknown key; the nearest is "seeds"']),
        ('schedule = "cosine"', ["schedule: unknown key", "settings of the runs stand in [base]"]),
        ("[evaluate]\nmetric = 'fcd'", ['evaluate.metric: unknown key; the nearest is "metrics"']),
        ("seeds = [1, 2, 1]", ["seeds: has 1 twice"]),
        ("seeds = []", ["seeds: must name at least one seed"]),
        ("seeds = [-1]", ["seeds[0]: must be at least 0"]),
        ("seeds = [0]\n[base]\ntrain.seed = 1", ["train.seed: is set by `seeds` already", "[base]"]),
        ("seeds = [0]\n[grid]\ntrain.seed = [1, 2]", ["train.seed: is set by `seeds` already", "[grid]"]),
        ("preset = 'quik'", ['unknown preset "quik"']),
        ("[grid]\nschedule = []", ["schedule: must be a list of at least one value, not [] ([grid])"]),
        ("[grid]\nschedule = 'cosine'", ["schedule: must be a list of at least one value"]),
        ("[grid]\noptimizer.lr = [1e-3, 1e-3]", ["optimizer.lr: has 0.001 twice"]),
        ("[grid]\noptimizer.lrr = [1e-3]", ['optimizer.lrr: unknown key; the nearest is "lr" ([grid])']),
        ("[grid]\nschedule = ['linear', 'cosin']", ['unknown schedule "cosin"; the nearest is "cosine" ([grid])']),
        ("[grid]\nschedule = ['linear', 'cosine']\nschedule.s = [1]", ["TOML syntax error"]),
        ("[grid]\n'schedule.kind' = ['linear', 'cosine']\n'schedule.s' = [0.1]", ['"linear" has no such key', '"cosine" has it']),
        ("[arms.'a/b']\nschedule = 'cosine'", ["'a/b' cannot be the name of a run"]),
        ("[evaluate.grid]\noptimizer.lr = [1.0]", ["optimizer.lr: belongs to training; only sample.* keys"]),
        ("[evaluate]\nsampler = 'dim'", ['unknown sampler "dim"', "([evaluate])"]),
        (
            "[base]\nschedule.timesteps = 50\n[evaluate.grid]\nsample.sampler.steps = [20, 60]",
            ["60", "exceeds schedule.timesteps (50)"],
        ),
        ("[grid]\n" + "\n".join(f"'a.k{key}' = [1, 2, 3, 4]" for key in range(6)), ["grid: makes 4,096 runs"]),
        ("seeds = [1", ["TOML syntax error"]),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: list[str]) -> None:
    message = faults(tmp_path, text)
    for word in words:
        assert word in message, message


def test_all_faults_of_all_arms_are_reported_together_and_once(tmp_path: Path) -> None:
    message = faults(
        tmp_path,
        """
        seeds = [0, 1]
        [base]
        model.base_chanels = 8
        [grid]
        optimizer.lr = [1e-3, -1.0]
        train.batch_size = [8, 0]
        ema.decay = []
        """,
    )
    lines = message.splitlines()
    assert lines[0] == "4 faults in the configuration:"
    assert any("ema.decay: must be a list of at least one value" in line for line in lines)
    assert sum("base_chanels" in line for line in lines) == 1
    assert any("optimizer.lr: must be greater than 0, not -1.0" in line for line in lines)
    assert any("train.batch_size: must be at least 1, not 0" in line for line in lines)


def test_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_sweep(tmp_path / "none.toml")
    (tmp_path / "my sweep.toml").write_text("")
    with pytest.raises(RunError, match="'my sweep' cannot be the name"):
        load_sweep(tmp_path / "my sweep.toml")
    assert load_sweep(tmp_path / "my sweep.toml", "mine").runs[0].name == "base-s0"
