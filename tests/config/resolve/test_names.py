"""Names of choices are taken however they are spelt, and other programs' names are answered with ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddpm_cli.config.resolve.data_choice import data_flags, data_notices
from ddpm_cli.config.resolve.layers import layer_from_tree, layer_from_user
from ddpm_cli.config.resolve.loader import load_config, override
from ddpm_cli.config.resolve.other_names import KEYS, KINDS
from ddpm_cli.config.resolve.outline import all_keys, choices, sections, words_of
from ddpm_cli.config.resolve.preset_files import preset_names
from ddpm_cli.core.names import meant, plain
from ddpm_cli.errors import ConfigError, DataError
from ddpm_cli.experiments.sweep_file import load_sweep
from ddpm_cli.metrics.registry import known_metrics


def otherwise(name: str) -> list[str]:
    return [name.upper(), name.replace("-", "_"), name.replace("-", " ").title(), name.replace("-", "").replace("_", "")]


@pytest.mark.parametrize("key", [key for key in all_keys() if words_of(key)])
def test_every_word_of_the_config_is_taken_however_it_is_spelt(key: str) -> None:
    for word in words_of(key):
        for spelt in otherwise(word):
            for layer in (layer_from_user([f'{key}="{spelt}"'], {}, []), layer_from_user([], {key: (spelt, "--flag")}, [])):
                assert layer[key].value == word, spelt
            assert layer_from_tree({key: [spelt]}, "file", [])[key].value == [word]


def test_no_two_names_of_one_choice_are_spelt_alike() -> None:
    lists = [words_of(key) for key in all_keys() if words_of(key)]
    for names in (*lists, preset_names(), known_metrics()):
        assert len({plain(name) for name in names}) == len(names), names


def test_a_word_for_a_section_a_preset_a_device_and_none_too(tmp_path: Path) -> None:
    config = load_config(
        preset="QUICK",
        sets=["schedule=Scaled_Linear", "train.device=CPU", "model.num_classes=Auto", "data=Folder", "data.channels=AUTO"],
    ).config
    assert (config.schedule.kind, config.train.device, config.model.num_classes) == ("scaled-linear", "cpu", "auto")
    assert config.data.kind == "folder"
    assert override(config, sets=["train.max_grad_norm=None"]).train.max_grad_norm is None
    file = tmp_path / "mine.toml"
    file.write_text('preset = "Fashion_MNIST_GPU"\nobjective.loss = "Simple"\n[sample]\nsampler = "DPM Solver++"\n')
    config = load_config(file=file).config
    assert (config.sample.sampler.kind, config.objective.loss.kind) == ("dpm-solver++", "simple")
    assert "preset fashion-mnist-gpu" in load_config(file=file).origins.values()


def test_the_file_of_a_sweep_too(tmp_path: Path) -> None:
    file = tmp_path / "arms.toml"
    file.write_text(
        'preset = "Quick"\n[grid]\nschedule = ["Linear", "COSINE"]\n[evaluate]\nmetrics = ["FCD", "Inception_Score"]\nn = 20\n'
        'reference = "TEST"\nsampler = "DDIM"\n'
    )
    sweep = load_sweep(file)
    assert [run.name for run in sweep.runs] == ["linear-s0", "cosine-s0"]
    assert sweep.evaluate is not None
    assert (sweep.evaluate.metrics, sweep.evaluate.reference) == (("fcd", "inception-score"), "test")
    file.write_text('[grid]\nschedule = ["linear", "Linear"]\n')
    with pytest.raises(ConfigError, match="twice"):
        load_sweep(file)


def test_the_name_of_a_data_set_and_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for spelt in ("fashionmnist", "Fashion-MNIST", "fashion_mnist"):
        assert data_flags(spelt) == {"data.kind": ("fashion-mnist", "--data")}
    assert data_flags("MNIST") == {"data.kind": ("mnist", "--data")}
    assert list(data_notices("MNIST")) == []
    (tmp_path / "MNIST").mkdir()
    assert data_flags("MNIST")["data.kind"] == ("folder", "--data")
    assert list(data_notices("MNIST")) == ["MNIST is taken for what lies here; mnist is the data set."]
    assert data_flags("mnist") == {"data.kind": ("mnist", "--data")}
    (tmp_path / "mnist").mkdir(exist_ok=True)
    assert data_flags("mnist") == {"data.kind": ("mnist", "--data")}
    assert list(data_notices("mnist")) == ["mnist is taken for the data set; ./mnist is what lies here."]
    assert list(data_notices("photos")) == list(data_notices(None)) == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("mnst", 'the nearest is "mnist"'),
        ("fashon-mnist", 'the nearest is "fashion-mnist"'),
        ("cifar", 'it is called "cifar10" here'),
        ("imagefolder", 'it is called "folder" here'),
    ],
)
def test_data_that_are_nowhere_are_answered_with_the_nearest(typed: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        data_flags(typed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.learning_rate=1", 'optimizer.learning_rate: unknown key; the nearest is "lr"'),
        ("optimizer.beta1=1", 'the nearest is "betas"'),
        ("optimizer.batch_size=1", 'it is a key of another section: "train.batch_size"'),
        ("learning_rate=1", 'it is called "optimizer.lr" here'),
        ("train.bs=1", 'the nearest is "batch_size"'),
        ("batch=1", 'it is called "train.batch_size" here'),
        ("train.max_epochs=1", 'the nearest is "epochs"'),
        ("num_epochs=1", 'it is called "train.epochs" here'),
        ("schedule.T=1", 'the nearest is "timesteps"'),
        ("num_timesteps=1", 'it is called "schedule.timesteps" here'),
        ("train.ema_decay=1", 'it is called "ema.decay" here'),
        ("schedule.beta_1=1", 'the nearest is "beta_start"'),
        ("sample.num_inference_steps=1", 'it is called "sample.sampler.steps" here'),
        ("train.batch-size=1", 'the nearest is "batch_size"'),
        ("optimizer.beta_end=1", "it is a key of another section"),
        ("sample.sampler=dpm", 'unknown sampler "dpm"; it is called "dpm-solver++" here'),
        ("sample.sampler=dpmpp_2m_sde", '"dpm-solver++" with sde = true'),
        ("sample.sampler=euler-a", 'it is called "ddim" with eta = 1 here'),
        ("train.sampler=uniqc", 'the nearest is "unipc"'),
        ("objective.parameterization=epsilon", 'it is called "eps" here'),
        ("objective.loss=mse", 'it is called "simple" here'),
        ("schedule=squaredcos_cap_v2", 'it is called "cosine" here'),
    ],
)
def test_other_names_are_answered_with_ours(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_config(sets=[text])


def test_euler_ancestral_is_ddim_with_eta_1() -> None:
    """sigma_up of k-diffusion's ancestral step is DDIM's sigma for eta = 1 (Song et al. 2021, Eq. 16) where x is x / sqrt(abar)."""
    t, s = 0.31, 0.64  # alpha_bar now and after the step
    now, then = (1 - t) / t, (1 - s) / s  # sigma^2 where x = x_0 + sigma eps
    up = then * (now - then) / now
    assert up == pytest.approx((1 - s) / (1 - t) * (1 - t / s) / s)


def test_what_is_called_otherwise_is_there_and_no_name_of_ours() -> None:
    for key in KEYS.values():
        assert key in all_keys() or key in sections(), key
    of_kinds = {path.rpartition(".")[2]: path for path in choices()}
    for section, names in KINDS.items():
        own = sections()[of_kinds[section]]
        for other, ours in names.items():
            assert meant(other, own) is None, (section, other)
            assert ours.split('"')[1] in own
