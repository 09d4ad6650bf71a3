"""One spelling of what is measured how: commands, Python and sweeps all read it, and what comes of it is the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from ddpm_cli.api.evaluation import evaluate
from ddpm_cli.cli.evaluate import evaluate as command
from ddpm_cli.config.schema.sample import SampleConfig
from ddpm_cli.core.asking import as_option, fields_of
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.check import check_effects, check_sets
from ddpm_cli.evaluation.settings import USUALLY, EvaluateSettings, Measuring, Split, read_request
from ddpm_cli.experiments.sweep_file import load_sweep
from ddpm_cli.experiments.sweep_plan import plan_sweep
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.request import Drawing

OF_THE_SAMPLER = {"sampler", "steps", "guidance", "guide_with", "guide_scale"}
ASKED: Measuring = {
    "sampler": "ddim",
    "steps": 7,
    "guidance": 0.5,
    "guide_with": "@500",
    "guide_scale": 1.7,
    "batch_size": 3,
    "n": 40,
    "repeats": 2,
    "seed": 5,
    "likelihood_steps": 9,
    "likelihood_respaced": True,
    "variance": "fixed-large",
    "reference": "test",
    "extractor_weights": "/weights.safetensors",
    "fit_extractor": True,
}
"""Every field with a value that is not the usual one."""


def test_the_request_and_its_settings_have_the_same_fields_of_the_same_types() -> None:
    names = {"SampleConfig": SampleConfig, "Path": Path, "Bounds": Bounds}
    settings = get_type_hints(EvaluateSettings, localns=names)
    assert set(settings) - {"sample", "bounds"} == set(fields_of(Measuring)) - OF_THE_SAMPLER
    for name, field in fields_of(Measuring).items():
        if name in settings:
            kinds = set(field.kinds) - {str} if Path in field.kinds else set(field.kinds)
            kinds |= {Split} if field.said.names else set()
            own = settings[name]
            assert kinds == ({own} if isinstance(own, type) else set(own.__args__) - {type(None)}), name


def test_all_that_can_be_asked_for_arrives() -> None:
    settings, drawing = read_request(ASKED)
    assert set(ASKED) == set(fields_of(Measuring))
    assert drawing == {name: ASKED[name] for name in fields_of(Drawing) if name != "batch_size"}  # type: ignore[literal-required]
    for name, value in ASKED.items():
        if name not in OF_THE_SAMPLER:
            assert getattr(settings, name) == (Path("/weights.safetensors") if name == "extractor_weights" else value)
            assert value != USUALLY[name]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("test", "test"), ("Test", "test"), ("./test", Path("test")), (Path("test"), Path("test")), ("a.npz", Path("a.npz"))],
)
def test_a_reference_is_a_split_or_a_path(said: str | Path, meant: str | Path) -> None:
    assert read_request({"reference": said})[0].reference == meant


def test_nothing_asked_for_is_the_usual() -> None:
    assert read_request({}) == (EvaluateSettings(), {})


def test_a_sweep_asks_for_the_same(tmp_path: Path) -> None:
    lines = [f"{name} = {toml(value)}" for name, value in ASKED.items()]
    file = tmp_path / "sweep.toml"
    file.write_text("[base]\nmodel.num_classes = 10\n[evaluate]\n" + "\n".join(lines))
    part = load_sweep(file).evaluate
    assert part is not None
    assert part.settings == read_request(ASKED)[0]
    guide = {"sample.guide.model": "@500", "sample.guide.scale": 1.7}
    assert part.flags == {"sample.sampler.kind": "ddim", "sample.sampler.steps": 7, "sample.guidance.scale": 0.5, **guide}


def toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_the_command_and_python_take_all_of_it() -> None:
    assert set(fields_of(Measuring)) <= set(inspect.signature(command).parameters)
    assert get_type_hints(evaluate)["asked"].__args__ == (Measuring,)
    for name in USUALLY:
        if name in fields_of(Measuring):
            assert inspect.signature(command).parameters[name].default == USUALLY[name]


@pytest.mark.parametrize("spelt", [as_option, str])
@pytest.mark.parametrize(
    ("metric", "asked"),
    [
        ("fcd", {"likelihood_steps": 5}),
        ("fcd", {"variance": "fixed-large"}),
        ("bits-per-dim", {"steps": 5}),
        ("bits-per-dim", {"sampler": "ddim"}),
        ("bits-per-dim", {"guidance": 2.0}),
        ("nll-ode", {"repeats": 2}),
        ("loss-per-timestep", {"reference": "test"}),
    ],
)
def test_what_no_metric_takes_is_refused(metric: str, asked: Measuring, spelt: Any) -> None:
    with pytest.raises(RequestError) as refused:
        check_effects([metric], asked, spelt)
    assert refused.value.message.startswith(f"{spelt(next(iter(asked)))} has no effect on {metric}: it is for ")
    check_effects(["fid", "fcd", "bits-per-dim"], asked, spelt)


def test_what_is_usual_takes_no_effect_and_is_not_refused() -> None:
    check_effects(["bits-per-dim"], {"repeats": 1, "reference": "train", "fit_extractor": True})


@pytest.mark.parametrize("key", ["sample.n", "sample.batch_size"])
def test_settings_that_have_a_word_of_their_own_are_refused(key: str) -> None:
    with pytest.raises(RequestError, match=f"{key} has no effect on a metric"):
        check_sets([f"{key}=5"])
    check_sets(["sample.threshold=none"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metrics = ['bits-per-dim']\nsteps = 3", "evaluate.steps has no effect on bits-per-dim"),
        ("metrics = ['fcd']\ngrid = { sample.n = [5, 6] }", "sample.n: has no effect on a metric; see evaluate.n"),
        ("steps = 3\ngrid = { sample.sampler.steps = [5] }", "sample.sampler.steps: is set in [evaluate] already"),
    ],
)
def test_a_sweep_refuses_the_same(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(f"[base]\ndata = 'fashion-mnist-10k'\ntrain.steps = 2\n[evaluate]\n{text}")
    with pytest.raises(RequestError) as refused:
        plan_sweep(load_sweep(file), runs=tmp_path / "runs")
    assert words in refused.value.message
