"""Every command with every kind of name that a person may type for a file or a folder."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from command import TINY, Ddpm, assert_refused, environment
from PIL import Image

import ddpm_cli
from ddpm_cli.cli.app import app, run
from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.config import Config
from ddpm_cli.errors import ConfigError, RequestError

LONG = "n" * 300
"""No file system has a name of 300 letters."""
BYTES = os.fsdecode(b"caf\xe9")
SHOWN = r"caf\xe9"


def commands(group: typer.Typer, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command's function with the words that call it."""
    for command in group.registered_commands:
        yield (*words, command.name or ""), command.callback
    for inner in group.registered_groups:
        yield from commands(inner.typer_instance, (inner.name or "",))


@dataclass(frozen=True)
class Parameter:
    """An option, or an argument where `option` is None, of a command; it takes a path if its type says so."""

    option: str | None
    takes_path: bool
    required: bool
    called: str | None


def parameters(function: Any) -> list[Parameter]:
    hints, defaults = get_type_hints(function, include_extras=True), inspect.signature(function).parameters
    found = []
    for name, hint in hints.items():
        if name == "return":
            continue
        kind, info = hint.__origin__, hint.__metadata__[0]
        parse = info.parser
        is_argument = isinstance(info, typer.models.ArgumentInfo)
        option = None if is_argument else next(word for word in (info.default, *info.param_decls) if isinstance(word, str))
        called = parse.__closure__[0].cell_contents if parse and parse.__qualname__.startswith("path_of") else None
        required = is_argument and defaults[name].default is inspect.Parameter.empty
        found.append(Parameter(option, "Path" in str(kind), required, called))
    return found


def lines() -> list[Any]:
    """For every parameter that takes a path, words of a command line in which LONG stands for it."""
    found = []
    for words, function in commands(app):
        arguments = [parameter for parameter in parameters(function) if parameter.option is None]
        required = ["x.png" for argument in arguments if argument.required]
        for parameter in parameters(function):
            if parameter.called is None:
                continue
            if parameter.option is None:
                place = arguments.index(parameter)
                rest = ["x.png"] * place, ["x.png"] * (len(required) - place - 1)
                line = [*words, *rest[0], LONG, *rest[1]]
            else:
                line = [*words, parameter.option, LONG, *required]
            found.append(pytest.param(line, parameter.called, id=f"{' '.join(words)} {parameter.called}"))
    return found


def test_every_path_is_taken_in_by_the_one_function() -> None:
    of_all = [parameter for _, function in commands(app) for parameter in parameters(function) if parameter.takes_path]
    assert len(of_all) > 40
    assert all(parameter.called for parameter in of_all)
    assert all(parameter.called == parameter.option for parameter in of_all if parameter.option)


@pytest.mark.parametrize(("line", "called"), lines())
def test_a_name_that_cannot_be_is_refused_by_each_parameter(ddpm_here: Ddpm, tmp_path: Path, line: list[str], called: str) -> None:
    assert_refused(ddpm_here(*line), f"error: {called} nnnn", "(300 characters) is longer than the file system takes")
    assert not list(tmp_path.iterdir())


IN_TEXT = {
    "--data": ("train", "--dry-run", "--data={}"),
    "data.root": ("train", "--dry-run", "--set=data={{kind='folder'}}", "--set=data.root={}"),
    "data.root of a published set": ("train", "--dry-run", "--set=data=cifar10", "--set=data.root={}"),
    "data.path": ("train", "--dry-run", "--set=data.kind=arrays", "--set=data.path={}"),
    "data.name": ("train", "--dry-run", "--set=data.kind=huggingface", "--set=data.name={}"),
    "schedule.path": ("inspect-schedule", "--kind=table", "--set=path={}"),
    "WHAT": ("ls", "{}"),
    "CONFIG": ("config", "diff", "{}", "quick"),
    "FIRST": ("interpolate", "{}", "3"),
    "LAST": ("interpolate", "3", "{}"),
}


@pytest.mark.parametrize(
    ("name", "reason"), [(LONG, "is longer than"), ("circle", "leads in a circle"), ("~nosuchuser", "home folder")]
)
@pytest.mark.parametrize("key", IN_TEXT)
def test_so_is_one_within_a_text(ddpm_here: Ddpm, tmp_path: Path, key: str, name: str, reason: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    done = ddpm_here(*(word.format(name) for word in IN_TEXT[key]))
    assert_refused(done, f"error: {key.partition(' ')[0]} {name[:20]}", reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [('"a\\u0000b"', "NUL character"), ('""', "is empty"), ('"file:///a%00"', "NUL character"), ("3", "must be a path")],
)
def test_so_is_one_in_a_file(ddpm_here: Ddpm, tmp_path: Path, value: str, reason: str) -> None:
    (tmp_path / "recipe.toml").write_text(f'[data]\nkind = "folder"\nroot = {value}\n')
    assert_refused(ddpm_here("train", "--config=recipe.toml", "--dry-run"), "data.root", reason, "recipe.toml")


def test_a_stored_config_may_name_what_cannot_be_reached_here(tmp_path: Path) -> None:
    stored = to_toml(Config())
    with pytest.raises(ConfigError):
        from_toml_text(stored.replace('kind = "fashion-mnist"', 'kind = "fashion-mnist"\nroot = ""', 1))
    config = from_toml_text(stored.replace('kind = "fashion-mnist"', f'kind = "fashion-mnist"\nroot = "/{LONG}"', 1))
    assert len(str(config.data.root)) == 301


@pytest.mark.parametrize("name", [LONG, "a\0b", "", "~nosuchuser"])
def test_so_is_one_in_python(name: str) -> None:
    calls = {
        "runs": lambda: ddpm_cli.find_run(runs=name),
        "run": lambda: ddpm_cli.find_run(name),
        "data": lambda: ddpm_cli.load_images(name),
        "config": lambda: ddpm_cli.train(Path(f"{name}/x") if name else Path("\0")),
        "out": lambda: ddpm_cli.evaluate(out=name),
        "extractor_weights": lambda: ddpm_cli.evaluate(extractor_weights=name),
    }
    for called, call in calls.items():
        with pytest.raises(RequestError) as raised:
            call()
        assert raised.value.message.startswith(called)


@pytest.mark.parametrize("name", [LONG, "~nosuchuser", "circle"])
def test_so_is_one_in_the_environment(ddpm_here: Ddpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setenv("DDPM_CACHE", name)
    assert_refused(ddpm_here("train", "--data=.", "--dry-run"), "DDPM_CACHE", name[:20])


# ------------------------------------------------------------------------------------------------ names that are no UTF-8


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures in `caf\\xe9/pictures` and a run of them, `caf\\xe9/tiny`."""
    folder = tmp_path_factory.mktemp("odd")
    try:
        (folder / BYTES).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    for name in ("\udce8", "\udce9"):  # two classes that a careless decoder gives one name
        (folder / BYTES / "pictures" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (8, 8), 20 * i + ord(name) % 7).save(folder / BYTES / "pictures" / name / f"{BYTES}{i}.png")
    settings = [word for word in TINY if not word.startswith(("--data", "--set=model.stem"))]
    settings += ["--set=schedule.timesteps=20", "--set=model.num_classes=auto", f"--data={BYTES}/pictures", "--steps=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DDPM_CACHE", str(folder / "cache"))
        assert run(["train", *settings, "--name=tiny", f"--out={BYTES}"], debug=True) == 0
    return folder


def test_a_process_takes_such_a_name_and_says_it_in_utf8(odd: Path) -> None:
    command = [sys.executable, "-m", "ddpm_cli", "info", f"{BYTES}/tiny"]
    variables = environment() | {"PYTHONIOENCODING": "utf-8:strict"}
    shown, as_json = (
        subprocess.run([*command, *more], cwd=odd, env=variables, stdout=subprocess.PIPE, check=True).stdout.decode()
        for more in ([], ["--json"])
    )
    assert f"run {SHOWN}/tiny" in shown
    assert json.loads(as_json)["path"] == f"{odd.as_uri()}/caf%E9/tiny"


def test_all_files_of_a_run_with_such_a_name_can_be_read(odd: Path) -> None:
    trained = odd / BYTES / "tiny"
    config = (trained / "config.toml").read_text(encoding="utf-8")
    assert f'root = "{odd.as_uri()}/caf%E9/pictures"' in config
    assert from_toml_text(config).data.root == odd / BYTES / "pictures"
    info = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    json.dumps(info, ensure_ascii=False).encode()  # no lone surrogate, which strict readers refuse
    assert info["data"]["classes"] == [r"\xe8", r"\xe9"]


def test_such_a_run_is_resumed_sampled_exported_and_reported(
    odd: Path, ddpm_here: Ddpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(odd / "cache"))
    place = tmp_path / BYTES
    shutil.copytree(odd / BYTES / "tiny", place / "tiny")
    trained = f"{BYTES}/tiny"
    pictures = (f"--out={BYTES}/{BYTES}.png", f"--each={BYTES}/each", f"--trajectory={BYTES}/t.gif")
    lines = {
        "resume": (trained, "--steps=4"),
        "sample": (trained, "--n=2", "--steps=2", *pictures),
        "export": (trained, f"--out={BYTES}/{BYTES}.safetensors"),
        "report": (trained, f"--out={BYTES}/{BYTES}.html", "--no-trajectory"),
        "evaluate": (trained, "--metrics=loss-per-timestep", "--n=2"),
    }
    for command, words in lines.items():
        done = ddpm_here(command, *words, "--json")
        assert done.returncode == 0, (command, done.stderr)
        json.dumps(json.loads(done.stdout), ensure_ascii=False).encode()
        assert f"$'{SHOWN}/tiny'" in done.stderr or command != "resume"  # as bash takes it
    for name in (f"{BYTES}.png", "each/1.png", "t.gif", f"{BYTES}.safetensors", f"{BYTES}.html"):
        assert (place / name).is_file()
    (place / f"{BYTES}.html").read_text(encoding="utf-8")
    again = ddpm_here("sample", f"{BYTES}/{BYTES}.safetensors", "--n=2", "--steps=2", "--out=again.png")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again.png").read_bytes() == (place / f"{BYTES}.png").read_bytes()


def test_the_datasets_library_cannot_and_that_is_said(odd: Path, ddpm_here: Ddpm) -> None:
    pytest.importorskip("datasets")
    done = ddpm_here("train", "--dry-run", "--set=data.kind=huggingface", f"--set=data.name={odd / BYTES}")
    assert_refused(done, "cannot read", SHOWN, "--data DIR")
