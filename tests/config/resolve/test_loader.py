from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.config.resolve.outline import all_keys
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.sample import DdimSampler, DpmSolverSampler, ListSpacing
from ddpm_cli.config.schema.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def faults_of(**layers) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(**layers)
    return caught.value.message


def test_nothing_given_is_the_schema_and_all_default():
    resolved = load_config()
    assert resolved.config == Config()
    assert set(resolved.origins.values()) == {"default"}
    assert resolved.origins["schedule.beta_end"] == "default"


def test_each_layer_wins_over_the_one_below(write):
    file = write('preset = "quick"\n[optimizer]\nlr = 0.5\nwarmup_steps = 7\n[train]\nlog_every = 3')
    resolved = load_config(file=file, sets=["optimizer.lr=0.25"], flags={"train.log_every": (2, "--log-every")})
    assert (resolved.config.optimizer.lr, resolved.origins["optimizer.lr"]) == (0.25, "--set")
    assert (resolved.config.optimizer.warmup_steps, resolved.origins["optimizer.warmup_steps"]) == (7, str(file))
    assert (resolved.config.train.log_every, resolved.origins["train.log_every"]) == (2, "--log-every")
    assert (resolved.config.model.stem, resolved.origins["model.stem"]) == (2, "preset quick")
    assert resolved.origins["model.dropout"] == "default"


def test_preset_flag_takes_the_place_of_the_files(write):
    config = load_config(preset="default", file=write('preset = "quick"\n[optimizer]\nlr = 0.5')).config
    assert config.model.blocks_per_level == 2
    assert config.optimizer.lr == 0.5


def test_flag_of_none_was_not_given():
    assert load_config(flags={"optimizer.lr": (None, "--lr")}).origins["optimizer.lr"] == "default"


@pytest.mark.parametrize(
    "text",
    ['schedule = "cosine"', '[schedule]\nkind = "cosine"', 'schedule = { kind = "cosine" }'],
    ids=["word", "section", "inline"],
)
def test_union_may_be_written_by_its_kind_alone(write, text):
    assert load_config(file=write(text)).config.schedule == CosineSchedule()
    assert load_config(sets=["schedule=cosine"]).config.schedule == CosineSchedule()


def test_another_kind_drops_the_options_of_the_one_below(write):
    file = write("[schedule]\nbeta_end = 0.03\ntimesteps = 200\n[train]\nsampler = { steps = 7 }")
    assert load_config(file=file).config.schedule == LinearSchedule(beta_end=0.03, timesteps=200)
    resolved = load_config(file=file, sets=["schedule.s=0.01", "schedule.kind=cosine", "sample.sampler=ddim"])
    assert resolved.config.schedule == CosineSchedule(s=0.01)
    assert resolved.origins["schedule.s"] == "--set"
    assert resolved.config.sample.sampler == DdimSampler()
    assert resolved.config.train.sampler == DdimSampler(steps=7)


def test_same_kind_keeps_the_options_below(write):
    file = write('[sample]\nsampler = { kind = "dpm-solver++", steps = 20 }')
    config = load_config(file=file, sets=["sample.sampler=dpm-solver++", "sample.sampler.order=1"]).config
    assert config.sample.sampler == DpmSolverSampler(steps=20, order=1)


@pytest.mark.parametrize(
    ("sets", "trained"),
    [
        (["sample.sampler.steps=50"], True),
        (["sample.sampler=unipc", "sample.sampler.steps=50"], True),
        (["sample.timesteps=[999, 500]"], True),
        (["train.sampler.steps=50"], False),
    ],
)
def test_a_number_of_steps_replaces_the_list_below(sets, trained):
    config = load_config(preset="quick", sets=sets).config
    for sampler, kept in ((config.train.sampler, trained), (config.sample.sampler, not trained)):
        listed = sampler.spacing.timesteps if isinstance(sampler.spacing, ListSpacing) else None
        assert (len(listed or ()) == 8) == kept
        assert kept or (sampler.steps, listed) in ((50, None), (None, (999, 500)))


def test_a_list_goes_where_the_schedule_gets_other_steps(write):
    config = load_config(file=write("[sample]\ntimesteps = [999, 500]"), sets=["schedule.timesteps=200"]).config
    assert config.sample.sampler.number_of_steps(200) == 200
    quick = load_config(preset="quick", sets=["schedule.timesteps=200"]).config
    assert not isinstance(quick.sample.sampler.spacing, ListSpacing)
    assert not isinstance(quick.train.sampler.spacing, ListSpacing)
    same = load_config(preset="quick", sets=["schedule.timesteps=1000"]).config
    assert (same.sample, same.train.sampler) == (load_config(preset="quick").config.sample, same.sample.sampler)
    with pytest.raises(ConfigError, match="begins above"):
        load_config(file=write("[schedule]\ntimesteps = 200\n[sample]\ntimesteps = [999, 500]"))


def budget(config: Config) -> tuple[float | None, int | None, float | None]:
    return config.train.epochs, config.train.steps, config.train.minutes


def test_a_budget_replaces_the_whole_budget_below(write):
    file = write("[train]\nsteps = 70")
    assert budget(load_config().config) == (20, None, None)
    assert budget(load_config(preset="quick").config) == (None, None, 5)
    assert budget(load_config(preset="quick", flags={"train.epochs": (3.0, "--epochs")}).config) == (3, None, None)
    assert budget(load_config(preset="quick", file=file).config) == (None, 70, None)
    assert budget(load_config(file=file, sets=["train.minutes=1"]).config) == (None, None, 1)
    assert budget(load_config(file=file, sets=["train.minutes=1"], flags={"train.steps": (9, "--steps")}).config) == (None, 9, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), ("5e-1", 0.5), ("1", 1.0)],
)
def test_set_reads_numbers_as_toml(text, value):
    assert load_config(sets=[f"optimizer.lr={text}"]).config.optimizer.lr == value


def test_set_reads_lists_tables_bare_words_and_quoted_ones():
    sets = [
        "model.channel_mult=[1, 4]",
        "optimizer.kind=adamw",
        'train.device="cuda:1"',
        "schedule={kind='cosine', s=0.01}",
        " ema.warmup = false ",
    ]
    config = load_config(sets=sets).config
    assert config.model.channel_mult == (1, 4)
    assert config.optimizer.kind == "adamw"
    assert config.train.device == "cuda:1"
    assert config.schedule == CosineSchedule(s=0.01)
    assert config.ema.warmup is False


def test_last_of_two_sets_counts():
    assert load_config(sets=["optimizer.lr=1", "optimizer.lr=2"]).config.optimizer.lr == 2


def test_none_unsets_a_value_that_has_a_default():
    config = load_config(sets=["train.max_grad_norm=none", "train.sampler.steps=none"]).config
    assert config.train.max_grad_norm is None
    assert config.train.sampler.steps is None


def test_byte_order_mark_and_windows_line_ends_are_read(write):
    assert load_config(file=write(b"\xef\xbb\xbf[optimizer]\r\nlr = 0.5\r\n")).config.optimizer.lr == 0.5


def test_all_faults_of_all_layers_are_reported_together(write):
    file = write(
        'lr = 3\nsample = { sampler = "ddmp" }\n[shedule]\nkind = "linear"\n[optimizer]\nlrr = 2\nlr = -1\n'
        '[train]\nbatch_size = true\nlog_every = "abc"\n[model]\nchannel_mult = [1, "a"]\nstem = 3'
    )
    sets = ["schedule.s=0.01", "optimizer=3", "foo", "train.lr=2", "model.dropout=[1"]
    lines = faults_of(file=file, sets=sets, flags={"train.seed": (-5, "--seed")}).splitlines()
    assert lines[0] == "15 faults in the configuration:"
    assert sorted(line.strip() for line in lines[1:]) == sorted(
        [
            f'lr: unknown key; it is a key of another section: "optimizer.lr" ({file})',
            f'sample.sampler: unknown sampler "ddmp"; the nearest is "ddpm" ({file})',
            f'shedule: unknown section; the nearest is "schedule" ({file})',
            f'optimizer.lrr: unknown key; the nearest is "lr" ({file})',
            f"optimizer.lr: must be greater than 0, not -1 ({file})",
            f"train.batch_size: cannot be true ({file})",
            f'train.log_every: must be a whole number, not "abc" ({file})',
            f'model.channel_mult[1]: must be a whole number, not "a" ({file})',
            f"model.stem: must be 1, 2 or 4, not 3 ({file})",
            'schedule.s: the kind "linear" has no such key; "cosine" has it (--set)',
            "optimizer: is a section and holds keys, it cannot be 3 (--set)",
            '"foo" is not of the form section.key=value (--set)',
            'train.lr: unknown key; it is a key of another section: "optimizer.lr" (--set)',
            'model.dropout: "[1" is no TOML value: Unclosed array (at end of document) (--set)',
            "train.seed: must be at least 0, not -5 (--seed)",
        ]
    )


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ("optimizer.lr=0", "optimizer.lr: must be greater than 0, not 0"),
        ("optimizer.lr=nan", "optimizer.lr: must be a finite number"),
        ("optimizer.lr=inf", "optimizer.lr: must be a finite number"),
        ("optimizer.lr=fast", 'optimizer.lr: must be a number, not "fast"'),
        ("optimizer.lr=true", "optimizer.lr: cannot be true"),
        ("optimizer.lr=2024-01-01", "optimizer.lr: must be a number"),
        ("optimizer.betas=[0.9]", "optimizer.betas[1]: is missing"),
        ("optimizer.betas=0.9", "optimizer.betas: must be a list, not 0.9"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas[1]: must be less than 1, not 1.0"),
        ("optimizer.kind=sgd", 'optimizer: unknown optimizer "sgd"; choose from adam, adamw, muon'),
        ("ema.warmup=maybe", 'ema.warmup: must be true or false, not "maybe"'),
        ("train.steps=1.5", "train.steps: must be a whole number, not 1.5"),
        ("train.seed=4294967296", "train.seed: must be less than 4294967296"),
        ("train.device=3", "train.device: must be text, not 3"),
        ("train.epochs={a=1}", "train.epochs: must be a number"),
        ("model.channel_mult=[]", "model.channel_mult: needs at least 1 value"),
        ("schedule=cosin", 'schedule: unknown schedule "cosin"; the nearest is "cosine"'),
        (
            "schedule.kind=3",
            'schedule: unknown schedule "3"; choose from linear, scaled-linear, quadratic, cosine, sigmoid, table, learned',
        ),
        ("schedule.kind=[1]", "schedule: "),
        ("data=mnits", 'data: unknown data set "mnits"; the nearest is "mnist"'),
        ("schedule.beta_start=0.5", "schedule: beta_start (0.5) must not exceed beta_end (0.02)"),
        ("sample.sampler.steps=1001", "sample.sampler.steps (1001) exceeds schedule.timesteps (1000)"),
        ("schedule.timesteps=0", "schedule.timesteps: must be at least 1, not 0"),
        ("schedule.timesteps=10_000_000", "schedule.timesteps: must be at most 100000"),
        ("sample.n=0", "sample.n: must be at least 1, not 0"),
        ("foo=1", "foo: unknown key"),
        ("foo.bar=1", "foo: unknown section"),
        ("train.steps.x=1", "train.steps: must be a whole number"),
        ("train=1", "train: is a section and holds keys, it cannot be 1"),
        ("train.steps=", "is not of the form section.key=value"),
        ("train..steps=1", "is not of the form section.key=value"),
        ("=1", "is not of the form section.key=value"),
        ("train.device='cpu", "train.device: "),
        ("model.channel_mult=" + "[" * 5000, "model.channel_mult: is nested too deeply"),
    ],
)
def test_faults_are_told_in_plain_words(sets, reason):
    message = faults_of(sets=[sets])
    assert reason in message
    assert "pydantic" not in message
    assert "input" not in message.lower()


def test_more_sampler_steps_than_the_schedule_has_are_a_fault_only_if_asked_for():
    sets = ["schedule.timesteps=20", "train.sampler.steps=50"]
    assert "train.sampler.steps (50) exceeds schedule.timesteps (20)" in faults_of(sets=sets)
    config = load_config(sets=["schedule.timesteps=20"]).config
    assert [config.train.sampler.evaluations(20), config.train.sampler.evaluations(1000)] == [20, 50]


def test_flag_and_set_that_disagree_are_a_fault():
    flags = {"optimizer.lr": (0.1, "--lr")}
    assert "optimizer.lr: is set twice: 0.1 and 0.2 (--lr, --set)" in faults_of(sets=["optimizer.lr=0.2"], flags=flags)
    agreed = load_config(sets=["optimizer.lr=0.1"], flags=flags)
    assert (agreed.config.optimizer.lr, agreed.origins["optimizer.lr"]) == (0.1, "--lr")


def test_unknown_preset_lists_those_that_exist():
    message = faults_of(preset="quik", sets=["foo"])
    assert 'unknown preset "quik"; the nearest of default, fashion-mnist-gpu, paper-cifar10, quick is "quick" (--preset)' in message
    assert '"foo" is not of the form' in message


def test_what_only_looks_wrong_because_a_layer_is_unknown_is_not_reported():
    assert "schedule.s" not in faults_of(preset="quik", sets=["schedule.s=0.01"])


def test_preset_named_in_the_file_may_be_unknown_or_no_text(write):
    assert 'unknown preset "fast"' in faults_of(file=write('preset = "fast"'))
    assert 'unknown preset "3"' in faults_of(file=write("preset = 3"))
    assert "unknown preset" in faults_of(file=write("preset = ['quick']"))


def test_syntax_error_has_file_and_line(write):
    file = write("[train]\nseed = 1\nbatch_size = = 3\n")
    message = faults_of(file=file)
    assert f"{file}: TOML syntax error" in message
    assert "line 3" in message


def test_unusable_files_are_named_with_the_reason(write, tmp_path):
    assert "no such file" in faults_of(file=tmp_path / "absent.toml")
    assert "Is a directory" in faults_of(file=tmp_path)
    assert "is not UTF-8 text (byte 5)" in faults_of(file=write(b"a = '\xff'"))
    assert "larger than 4,000,000 bytes" in faults_of(file=write("#" * 4_000_001))
    assert "nested too deeply" in faults_of(file=write("a = " + "[" * 5000))


def test_stored_text_reports_its_source():
    with pytest.raises(ConfigError, match=r"optimizer\.lrr: unknown key.*\(runs/a/config\.toml\)"):
        from_toml_text("[optimizer]\nlrr = 1", "runs/a/config.toml")
    with pytest.raises(ConfigError, match=r"runs/a/config\.toml: TOML syntax error"):
        from_toml_text("[optimizer", "runs/a/config.toml")


@pytest.mark.parametrize("kind", all_keys()["data.range"])
def test_a_stored_config_without_a_range_has_that_of_earlier_versions(kind: str) -> None:
    text = to_toml(load_config(sets=[f"data.kind={kind}"]).config)
    assert from_toml_text(text).data.model_dump()["range"] == "auto"
    older = text.replace('range = "auto"\n', "")
    assert older != text
    assert from_toml_text(older).data.model_dump()["range"] == "dtype"


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (["sample.sampler.spacing=karas"], 'unknown spacing "karas"; the nearest is "karras"'),
        (["sample.sampler=caf\udce9"], 'unknown sampler "caf\\xe9"; choose from'),
        (["sample.sampler.spacing.rho=7"], 'sample.sampler.spacing.rho: the kind "trailing" has no such key; "karras" has it'),
        (["sample.sampler=heun", "sample.sampler.spacing.rho=7"], 'sample.sampler.spacing: needs a "kind", not {"rho": 7}'),
        (["sample.sampler=unipc", "sample.sampler.order=4"], "sample.sampler.order: must be 1, 2 or 3, not 4"),
        (["sample.sampler.variance=learned-range"], 'needs a model trained with objective.variance = "learned-range"'),
        (["sample.threshold=dynamik"], 'unknown threshold "dynamik"; the nearest of none, clamp, dynamic is "dynamic"'),
        (["sample.threshold.quantile=0.9"], 'the kind "clamp" has no such key; "dynamic" has it'),
        (["sample.sampler=ddim", "sample.sampler.s_churn=1"], 'the kind "ddim" has no such key; "euler" and "heun" have it'),
    ],
)
def test_faults_of_samplers_are_told_in_plain_words(sets, reason):
    assert reason in faults_of(sets=sets)


def test_another_sampler_drops_the_spacing_of_the_one_below(write):
    file = write("[sample.sampler]\nkind = 'heun'\nspacing = { kind = 'karras', rho = 5.0 }\n[sample]\nthreshold = 'none'")
    config = load_config(file=file).config.sample
    assert (config.sampler.spacing.rho, config.threshold.kind) == (5.0, "none")
    assert load_config(file=file, sets=["sample.sampler.spacing.rho=3"]).config.sample.sampler.spacing.rho == 3.0
    assert load_config(file=file, sets=["sample.sampler=euler"]).config.sample.sampler.spacing.kind == "trailing"


def test_heun_evaluates_the_network_twice_but_for_the_last_step():
    sampler = load_config(sets=["sample.sampler=heun", "sample.sampler.steps=7"]).config.sample.sampler
    assert (sampler.number_of_steps(1000), sampler.evaluations(1000)) == (7, 13)


def test_another_optimizer_keeps_what_both_have() -> None:
    """The course of the learning rate belongs to the run; options of the old kind alone go, as with every choice."""
    quick = load_config(preset="quick").config.optimizer
    adam = load_config(preset="quick", sets=["optimizer.kind=adam"]).config.optimizer
    assert (quick.kind, adam.kind) == ("muon", "adam")
    assert (adam.lr, adam.betas, adam.decay, adam.warmup_steps) == (quick.lr, quick.betas, quick.decay, quick.warmup_steps)
    with pytest.raises(ConfigError, match='"adam" has no such key'):
        load_config(preset="quick", sets=["optimizer.kind=adam", "optimizer.momentum=0.9"])
