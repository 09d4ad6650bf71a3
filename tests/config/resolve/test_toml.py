from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.config.resolve.outline import all_keys, choices, sections
from ddpm_cli.config.resolve.preset_files import preset_names, preset_text
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.config import Config

MEMBERS = [(path, kind) for path in choices() for kind in sections()[path]]


def test_the_outline_knows_every_choice_and_its_kinds():
    for path in ("data", "schedule", "objective.timesteps", "train.sampler", "sample.sampler", "sample.sampler.spacing"):
        assert path in choices()
    assert "sample.guidance" not in choices()
    assert ("sample.sampler", "dpm-solver++") in MEMBERS
    assert all_keys()["schedule.s"] == ("cosine",)
    assert all_keys()["optimizer.lr"] == ("adam", "adamw", "muon")
    assert all_keys()["ema.decay"] == ("",)
    assert "schedule" not in all_keys()


@pytest.mark.parametrize(("path", "kind"), MEMBERS)
def test_every_member_survives_a_round_trip(path, kind):
    config = load_config(flags={f"{path}.kind": (kind, "--kind")}).config
    assert from_toml_text(to_toml(config)) == config


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_survives_a_round_trip_with_and_without_origins(preset):
    resolved = load_config(preset=preset)
    assert from_toml_text(to_toml(resolved.config)) == resolved.config
    assert from_toml_text(to_toml(resolved.config, resolved.origins)) == resolved.config


def test_none_is_left_out_or_written_where_the_default_is_something_else():
    config = load_config(sets=["train.max_grad_norm=none"]).config
    tree = tomllib.loads(to_toml(config))
    assert tree["train"]["max_grad_norm"] == "none"
    assert "micro_batch_size" not in tree["train"]
    assert "steps" not in tree["sample"]["sampler"]
    assert from_toml_text(to_toml(config)) == config


@pytest.mark.parametrize("text", ["64x48", "[64, 48]", "'64X48'"])
def test_a_size_is_written_as_people_write_it_and_survives(text: str):
    config = load_config(sets=["data=folder", f"data.size={text}", "data.channels=3"]).config
    assert config.data.size == (64, 48)
    assert 'size = "64x48"' in to_toml(config)
    assert from_toml_text(to_toml(config)) == config
    assert load_config(sets=["data=folder", "data.size=32"]).config.data.size == (32, 32)


def test_odd_paths_survive(tmp_path: Path):
    root = tmp_path / 'a "b" # c\\d \u00e9\n'
    config = load_config(flags={"data.root": (root, "--root")}).config
    text = to_toml(config, {"data.root": "--root"})
    assert from_toml_text(text).data.root == root


def test_every_key_carries_its_origin():
    resolved = load_config(preset="quick", sets=["optimizer.lr=0.5"])
    lines = to_toml(resolved.config, resolved.origins).splitlines()
    keyed = [line for line in lines if " = " in line]
    assert all("  # " in line for line in keyed)
    assert any(line.startswith("lr = 0.5 ") and line.endswith("# --set") for line in keyed)
    assert any(line.startswith("stem = 2 ") and line.endswith("# preset quick") for line in keyed)


@settings(max_examples=50, deadline=None)
@given(
    lr=st.floats(min_value=0, max_value=1e9, exclude_min=True),
    mult=st.lists(st.integers(1, 64), min_size=1, max_size=6),
    device=st.text(min_size=1),
    minutes=st.one_of(st.none(), st.floats(min_value=0, max_value=1e9, exclude_min=True)),
)
def test_any_value_survives_a_round_trip(lr, mult, device, minutes):
    tree = {"optimizer": {"lr": lr}, "model": {"channel_mult": mult}, "train": {"device": device, "minutes": minutes}}
    config = Config.model_validate(tree)
    assert from_toml_text(to_toml(config)) == config


def test_each_preset_says_first_what_it_is_for():
    assert preset_names() == ("default", "fashion-mnist-gpu", "paper-cifar10", "quick")
    assert all(preset_text(name).startswith("# ") for name in preset_names())


def test_the_default_preset_is_the_schemas_defaults():
    assert load_config(preset="default").config == Config()


def test_the_default_preset_is_the_papers_ddpm():
    config = load_config(preset="default").config
    paper = {"kind": "linear", "timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
    assert config.schedule.model_dump() == paper | {"logsnr_shift": 0.0, "zero_terminal_snr": False}
    assert config.objective.parameterization.kind == "eps"
    assert (config.optimizer.kind, config.optimizer.lr) == ("adam", 2e-4)
    assert (config.ema.decay, config.ema.warmup) == (0.9999, True)
    assert config.sample.sampler.model_dump(exclude={"spacing"}) == {"kind": "ddpm", "steps": None, "variance": "auto"}


def test_the_paper_preset_is_appendix_b():
    config = load_config(preset="paper-cifar10").config
    assert config.data.model_dump(include={"kind", "horizontal_flip"}) == {"kind": "cifar10", "horizontal_flip": True}
    assert (config.model.base_channels, config.model.channel_mult, config.model.blocks_per_level) == (128, (1, 2, 2, 2), 2)
    assert (config.model.attention_resolutions, config.model.dropout) == ((16,), 0.1)
    assert (config.optimizer.lr, config.optimizer.warmup_steps, config.train.max_grad_norm) == (2e-4, 5000, 1.0)
    assert (config.train.steps, config.train.epochs, config.train.batch_size) == (800_000, None, 128)
    assert config.sample.sampler.kind == "ddpm"
    assert config.sample.sampler.variance == "fixed-large"
