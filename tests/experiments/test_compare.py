"""Runs beside each other: what is put together, what is kept apart, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import add_figure, fake_run

from ddpm_cli.errors import DdpmError, RunError
from ddpm_cli.experiments.compare import compare
from ddpm_cli.render.terminal.compare_tables import lead
from ddpm_cli.results.comparison import Comparison, Measure

NOISE = (0.0, 0.001, -0.001)


def two_arms(root: Path, *second: str, shift: float = 0.0, seeds: int = 3) -> Comparison:
    """Arms of `seeds` runs: the defaults, and `second` whose losses and fcd are higher by `shift`."""
    for arm, sets, change in (("one", (), 0.0), ("two", second, shift)):
        for seed in range(seeds):
            run = fake_run(root, f"{arm}-s{seed}", *sets, f"train.seed={seed}", held_out=0.05 + NOISE[seed] + change)
            add_figure(run, 20 + 100 * (NOISE[seed] + change), seed=2000 * seed)
    return compare([root], runs=root)


def measure(comparison: Comparison, metric: str) -> Measure:
    found = [measure for measure in comparison.measures if measure.metric == metric]
    assert len(found) == 1
    return found[0]


def test_only_differing_keys_are_listed_and_options_that_come_with_a_kind_are_not(tmp_path: Path) -> None:
    fake_run(tmp_path, "a", "optimizer.lr=0.001")
    fake_run(tmp_path, "b", "schedule=cosine", "optimizer.lr=0.001")
    fake_run(tmp_path, "c", "schedule=cosine", "schedule.s=0.02", "optimizer.lr=0.002")
    comparison = compare([tmp_path / name for name in "abc"], runs=tmp_path)
    assert comparison.differences == {
        "schedule.kind": ("linear", "cosine", "cosine"),
        "schedule.s": (None, 0.008, 0.02),
        "optimizer.lr": (0.001, 0.001, 0.002),
    }
    assert [arm.name for arm in comparison.arms] == ["a", "b", "c"]


def test_runs_that_differ_in_seed_name_and_device_are_one_arm(tmp_path: Path) -> None:
    fake_run(tmp_path, "wide-s0", held_out=0.05)
    fake_run(tmp_path, "again", "train.seed=1", "train.device=cpu", held_out=0.06)
    comparison = compare([Path("wide-s0"), Path("again")], runs=tmp_path)
    assert [(arm.name, [run.name for run in arm.runs]) for arm in comparison.arms] == [("wide", ["wide-s0", "again"])]
    assert comparison.differences == {}
    assert not any(measure.verdicts for measure in comparison.measures)
    assert "The 2 runs differ only in train.seed: not different; their spread is the noise" in lead(comparison)[0]
    assert "held-out loss 0.0071" in lead(comparison)[0]


def test_the_same_config_on_other_data_is_another_arm(tmp_path: Path) -> None:
    fake_run(tmp_path, "a")
    fake_run(tmp_path, "b", "train.seed=1", sha256="b" * 64)
    assert list(compare([tmp_path], runs=tmp_path).differences) == ["data.sha256"]


def teachers_and_students(root: Path, student_seed: int | None = None) -> None:
    """Two arms of teachers, and of students of their last checkpoints, two seeds each."""
    for arm, lr in (("one", 0.001), ("two", 0.002)):
        for seed in range(2):
            teacher = fake_run(root / "teachers", f"{arm}-s{seed}", f"optimizer.lr={lr}", f"train.seed={seed}", step=100 + seed)
            (weights,) = teacher.checkpoints_folder.iterdir()
            own = seed if student_seed is None else student_seed
            fake_run(root / "students", f"of-{arm}-{seed}", f"start.weights={weights.absolute()}", f"train.seed={own}")


def test_students_of_repeats_are_repeats_and_of_other_teachers_another_arm(tmp_path: Path) -> None:
    teachers_and_students(tmp_path)
    comparison = compare([tmp_path / "students"], runs=tmp_path)
    assert [[run.name for run in arm.runs] for arm in comparison.arms] == [["of-one-0", "of-one-1"], ["of-two-0", "of-two-1"]]
    assert list(comparison.differences) == ["start.weights"]
    assert [Path(value).parts[-3] for value in comparison.differences["start.weights"]] == ["one-s0", "two-s0"]
    assert len(measure(comparison, "held-out loss").arms[0].values) == 2


def test_students_of_one_seed_are_repeats_where_their_teachers_are(tmp_path: Path) -> None:
    teachers_and_students(tmp_path, student_seed=0)
    comparison = compare([tmp_path / "students"], runs=tmp_path)
    assert list(measure(comparison, "held-out loss").arms[0].values) == ["of-one-0", "of-one-1"]
    assert not [note for note in comparison.notes if "repeats seed" in note]


def test_a_student_of_an_earlier_checkpoint_or_of_what_is_gone_is_another_arm(tmp_path: Path) -> None:
    folders = [fake_run(tmp_path, f"teacher-s{seed}", f"train.seed={seed}").checkpoints_folder for seed in range(2)]
    (newest,) = folders[0].iterdir()
    earlier = folders[1] / "step-00000001"
    for number, weights in enumerate([newest, newest.parent.parent, earlier, tmp_path / "gone-s0", tmp_path / "gone-s1"]):
        fake_run(tmp_path / "students", f"s{number}", f"start.weights={weights.absolute()}", f"train.seed={number}")
    comparison = compare([tmp_path / "students"], runs=tmp_path)
    assert [[run.name for run in arm.runs] for arm in comparison.arms] == [["s0", "s1"], ["s2"], ["s3"], ["s4"]]


def test_a_run_that_says_it_comes_from_itself_is_compared_all_the_same(tmp_path: Path) -> None:
    for number in range(2):
        fake_run(tmp_path, f"a-s{number}", f"start.weights={tmp_path.absolute() / f'a-s{1 - number}'}", f"train.seed={number}")
    assert len(compare([tmp_path], runs=tmp_path).arms) <= 2


def test_a_repeated_seed_is_no_other_repeat(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fake_run(tmp_path, name, f"train.seed={seed}")
    comparison = compare([tmp_path], runs=tmp_path)
    assert list(measure(comparison, "held-out loss").arms[0].values) == ["a", "c"]
    assert any("b repeats seed 0" in note for note in comparison.notes)


def test_a_difference_and_none(tmp_path: Path) -> None:
    comparison = two_arms(tmp_path, "optimizer.lr=0.001", shift=0.02)
    for metric in ("held-out loss", "fcd"):
        verdict = measure(comparison, metric).verdicts[1]
        assert verdict.kind == "different"
        assert verdict.text.startswith("higher by ")
        assert "(worse), p < 0.001" in verdict.text


def test_equal_arms_with_other_settings_are_not_different(tmp_path: Path) -> None:
    comparison = two_arms(tmp_path, "optimizer.lr=0.001")
    assert {verdict.kind for measure in comparison.measures for verdict in measure.verdicts[1:]} == {"not different"}


def test_losses_of_different_objectives_get_no_verdict(tmp_path: Path) -> None:
    comparison = two_arms(tmp_path, "objective.parameterization=v", shift=0.02)
    verdict = measure(comparison, "held-out loss").verdicts[1]
    assert (verdict.kind, verdict.text) == ("not comparable", "losses of different objectives, not comparable")
    assert measure(comparison, "fcd").verdicts[1].kind == "different"


@pytest.mark.parametrize(
    ("setting", "held_out", "training"),
    [
        ("train.eval_images=100", "not comparable", "not different"),
        ("train.batch_size=20", "not different", "not different"),
        ("data.horizontal_flip=true", "not different", "not comparable"),
        ("objective.timesteps=stratified", "not different", "not comparable"),
        ("objective.weighting=min-snr", "not comparable", "not comparable"),
        ("objective.weighting=learned", "not different", "not different"),
        ("objective.coupling=optimal-transport", "not different", "not comparable"),
        ("objective.noise_candidates=2", "not different", "not comparable"),
        ("data.limit=5000", "not different", "not different"),
        ("model.base_channels=16", "not different", "not different"),
    ],
)
def test_losses_are_compared_where_they_are_the_same_quantity(tmp_path: Path, setting: str, held_out: str, training: str) -> None:
    comparison = two_arms(tmp_path, setting, seeds=2)
    assert measure(comparison, "held-out loss").verdicts[1].kind == held_out
    assert measure(comparison, "training loss").verdicts[1].kind == training


def test_training_losses_of_other_images_are_no_verdict_on_a_change(tmp_path: Path) -> None:
    for arm, sha256 in (("all", "a" * 64), ("few", "b" * 64)):
        for seed in (0, 1):
            fake_run(tmp_path, f"{arm}-s{seed}", f"train.seed={seed}", sha256=sha256)
    comparison = compare([tmp_path], runs=tmp_path)
    assert measure(comparison, "training loss").verdicts[1].text == "losses of other images, not comparable"
    assert measure(comparison, "held-out loss").verdicts[1].kind == "not different"


def test_a_learned_schedule_makes_each_run_its_own_objective(tmp_path: Path) -> None:
    for arm in (8, 16):
        for seed in (0, 1):
            fake_run(tmp_path, f"w{arm}-s{seed}", "schedule=learned", f"model.base_channels={arm}", f"train.seed={seed}")
    assert measure(compare([tmp_path], runs=tmp_path), "held-out loss").verdicts[1].kind == "not comparable"


def test_figures_measured_in_different_ways_are_kept_apart(tmp_path: Path) -> None:
    a, b = fake_run(tmp_path, "a"), fake_run(tmp_path, "b", "optimizer.lr=0.001")
    for run, value in ((a, 20.0), (b, 21.0)):
        add_figure(run, value)
    add_figure(a, 30.0, n=500)
    add_figure(b, 31.0, n=1000)
    add_figure(b, 15.0, steps=10)
    add_figure(a, 16.0, extractor_sha256="f" * 64)
    comparison = compare([tmp_path], runs=tmp_path)
    assert [dict(arm.values) for arm in measure(comparison, "fcd").arms] == [{"a": 20.0}, {"b": 21.0}]
    assert sorted((apart.run, apart.value) for apart in comparison.apart) == [("a", 16.0), ("a", 30.0), ("b", 15.0), ("b", 31.0)]


@pytest.mark.parametrize(
    "options",
    [{"guidance_options": '{"interval": [0.0, 1.0]}'}, {"threshold": "dynamic", "threshold_options": '{"quantile": 0.9}'}],
)
def test_options_of_sampling_keep_figures_apart(tmp_path: Path, options: dict[str, str]) -> None:
    a, b = fake_run(tmp_path, "a"), fake_run(tmp_path, "b", "optimizer.lr=0.001")
    for run, value in ((a, 20.0), (b, 21.0)):
        add_figure(run, value, threshold_options="{}", guidance_options="{}")
        add_figure(run, value + 5, **options)
    comparison = compare([tmp_path], runs=tmp_path)
    found = [[dict(arm.values) for arm in measure.arms] for measure in comparison.measures if measure.metric == "fcd"]
    assert found == [[{"a": 20.0}, {"b": 21.0}], [{"a": 25.0}, {"b": 26.0}]]


def test_what_was_found_is_no_condition(tmp_path: Path) -> None:
    for name, found in (("a", 3), ("b", 4)):
        run = fake_run(tmp_path, name, f"optimizer.lr={found}e-3")
        details = {"flagged_in_pixels": found, "median_distance_in_features": found / 7, "false_alarm_rate": 0.001}
        add_figure(run, found / 100, "nearest", **details)
    comparison = compare([tmp_path], runs=tmp_path)
    assert [dict(arm.values) for arm in measure(comparison, "nearest").arms] == [{"a": 0.03}, {"b": 0.04}]
    assert measure(comparison, "nearest").conditions["false_alarm_rate"] == 0.001


def test_a_loss_per_timestep_belongs_to_its_objective(tmp_path: Path) -> None:
    for name, kind in (("a", "eps"), ("b", "v")):
        add_figure(fake_run(tmp_path, name, f"objective.parameterization={kind}"), 0.1, "loss-per-timestep")
    assert measure(compare([tmp_path], runs=tmp_path), "loss-per-timestep").verdicts[1].kind == "not comparable"


def test_samplers_that_differ_on_purpose_are_beside_each_other(tmp_path: Path) -> None:
    a = fake_run(tmp_path, "a", "sample.sampler=ddim", "sample.sampler.steps=50")
    b = fake_run(tmp_path, "b", "sample.sampler=dpm-solver++", "sample.sampler.steps=10")
    add_figure(a, 20.0)
    add_figure(b, 21.0, sampler="dpm-solver++", steps=10, evaluations=10)
    add_figure(b, 22.0, sampler="dpm-solver++", steps=12, evaluations=12)  # not b's own
    found = compare([tmp_path], runs=tmp_path)
    assert [dict(arm.values) for arm in measure(found, "fcd").arms] == [{"a": 20.0}, {"b": 21.0}]
    assert measure(found, "fcd").conditions["sampler"] == "each run's own"
    assert [apart.value for apart in found.apart] == [22.0]


def test_the_newest_checkpoint_counts_and_torn_lines_do_not(tmp_path: Path) -> None:
    a, b = fake_run(tmp_path, "a"), fake_run(tmp_path, "b", "train.seed=1")
    add_figure(a, 20.0)
    add_figure(a, 99.0, step=50)
    add_figure(b, 21.0)
    with (b.evaluations_folder / "figures.jsonl").open("a") as file:
        file.write('{"step": 100, "metric": "fcd"}\n{"step": "\x1b", "val')
    assert dict(measure(compare([tmp_path], runs=tmp_path), "fcd").arms[0].values) == {"a": 20.0, "b": 21.0}


def test_unfinished_runs_count_in_no_verdict(tmp_path: Path) -> None:
    for seed in range(3):
        fake_run(tmp_path, f"one-s{seed}", f"train.seed={seed}")
        fake_run(tmp_path, f"two-s{seed}", "optimizer.lr=0.001", f"train.seed={seed}", step=50 if seed == 2 else 100)
    fake_run(tmp_path, "three-s0", "optimizer.lr=0.01", step=50, checkpoint=False)
    comparison = compare([tmp_path], runs=tmp_path, failures={"three-s0": "no finite gradients", "elsewhere": "x"})
    loss = measure(comparison, "held-out loss")
    assert list(loss.arms[1].values) == ["two-s0", "two-s1"]
    assert [verdict.kind for verdict in loss.verdicts] == ["baseline", "not different", "cannot be told"]
    assert comparison.failures == {"three-s0": "no finite gradients"}
    assert sorted(comparison.notes) == [
        "three-s0 failed: no finite gradients",
        "two-s2 has not finished (step 50): it counts in no verdict.",
    ]


def test_the_baseline_is_named_by_arm_or_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fake_run(tmp_path, f"{name}-s0", "optimizer.lr=0.001" if name == "two" else "optimizer.lr=0.002")
    for baseline in ("two", "two-s0"):
        assert measure(compare([tmp_path], runs=tmp_path, baseline=baseline), "held-out loss").verdicts[1].kind == "baseline"
    with pytest.raises(RunError, match="no arm or run 'tow'"):
        compare([tmp_path], runs=tmp_path, baseline="tow")


def test_runs_of_the_same_name_go_by_their_path(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        fake_run(tmp_path / folder, "run-s0", held_out=0.05 if folder == "a" else 0.06, logged={"fcd": 3.0})
    comparison = compare([tmp_path / "a" / "run-s0", tmp_path / "b" / "run-s0"], runs=tmp_path)
    assert [run.name for run in comparison.runs] == [str(tmp_path / folder / "run-s0") for folder in ("a", "b")]
    assert comparison.runs[1].curves["fcd"].values == (3.0,) * 10


def test_bad_requests(tmp_path: Path) -> None:
    fake_run(tmp_path, "one")
    with pytest.raises(RunError, match="one run to compare"):
        compare([Path("one"), tmp_path / "one"], runs=tmp_path)
    with pytest.raises(RunError, match="There is no run 'onee'") as error:
        compare([Path("one"), Path("onee")], runs=tmp_path)
    assert "Did you mean one" in error.value.remedy


@pytest.mark.parametrize(
    ("file", "text"),
    [("config.toml", "[model"), ("config.toml", 'modle = "x"'), ("run.json", "[]"), ("checkpoints/step-00000100/state.json", "{}")],
)
def test_a_damaged_run_is_one_message_that_names_it(tmp_path: Path, file: str, text: str) -> None:
    fake_run(tmp_path, "one")
    fake_run(tmp_path, "two")
    (tmp_path / "two" / file).write_text(text)
    with pytest.raises(DdpmError) as error:
        compare([Path("one"), Path("two")], runs=tmp_path)
    assert str(tmp_path / "two") in str(error.value)


def test_a_strangers_text_cannot_write_over_the_terminal(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = fake_run(tmp_path, name)
        info = json.loads(run.info_path.read_text())
        run.info_path.write_text(json.dumps(info | {"device_name": "\x1b[2J" + "x" * 500, "data": "none"}))
    device = compare([tmp_path], runs=tmp_path).runs[0].device
    assert device.startswith("?[2J")
    assert len(device) == 200
