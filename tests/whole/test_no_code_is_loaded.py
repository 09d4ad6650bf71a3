"""No file can make this package run code: a walk over all its sources for whatever could."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddpm_cli

PACKAGE = Path(ddpm_cli.__file__).parent

MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "code", "codeop", "runpy", "imp"}
"""Whose purpose is to run, or to revive, code or objects of any kind."""

CALLS = {
    *("eval", "exec", "compile", "__import__", "execfile"),
    *("importlib.import_module", "importlib.__import__", "importlib.util.spec_from_file_location"),
    *("torch.jit.load", "torch.export.load", "torch.hub.load", "torch.package.PackageImporter", "torch.ops.load_library"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "pandas.read_pickle", "pd.read_pickle"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
}

ALLOWED = {
    # `ddpm export` reads back the program that it has written itself a moment ago, under a temporary name, to compare it with the
    # original. No command reads a .pt2 file that was there before.
    ("interop/formats/torch_export.py", "torch.export.load"): 1,
    # The package's own names, out of a table in the same file.
    ("__init__.py", "importlib.import_module"): 2,
}


def dangers(source: str) -> list[str]:
    """What in a module could run code that a file holds, by the name of the call or import."""
    tree = ast.parse(source)
    names = dict(_imported_names(tree))
    return [found for node in ast.walk(tree) if (found := _danger(node, names))]


def _imported_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What each imported name stands for, so that `from torch import load as read` hides nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _danger(node: ast.AST, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES), None)
    if isinstance(node, ast.ImportFrom):
        return node.module if (node.module or "").partition(".")[0] in MODULES else None
    return _dangerous_call(node, names) if isinstance(node, ast.Call) else _dangerous_name(node, names)


def _dangerous_name(node: ast.AST, names: dict[str, str]) -> str | None:
    """A function that is passed on instead of called, as in map(eval, lines); torch.load has its flag only where it is called."""
    if isinstance(node, ast.keyword | ast.Assign | ast.Return):
        return _of_value(node.value, names)
    return None


def _of_value(value: ast.AST | None, names: dict[str, str]) -> str | None:
    name = _full_name(value, names) if isinstance(value, ast.Name | ast.Attribute) else None
    return name if name in CALLS | {"torch.load", "numpy.load"} else None


def _dangerous_call(node: ast.Call, names: dict[str, str]) -> str | None:
    passed_on = next((found for argument in node.args if (found := _of_value(argument, names))), None)
    if passed_on:
        return passed_on
    name = _full_name(node.func, names)
    flags = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in CALLS:
        return name
    if name == "torch.load" and not _is_literally(flags.get("weights_only"), True):
        return name
    if name == "numpy.load" and not _is_literally(flags.get("allow_pickle"), False):
        return name
    if name.startswith("subprocess.") and "shell" in flags and not _is_literally(flags["shell"], False):
        return "shell=True"
    for flag in ("allow_pickle", "trust_remote_code"):
        if flag in flags and not _is_literally(flags[flag], False):
            return f"{flag}=True"
    return None


def _full_name(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def _is_literally(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def unexpected(path: Path) -> list[str]:
    """What in a module is not among what is allowed, so many times, in it."""
    found, name = dangers(path.read_text()), path.relative_to(PACKAGE).as_posix()
    for (place, call), times in ALLOWED.items():
        if place == name:
            assert found.count(call) == times
            found = [danger for danger in found if danger != call]
    return found


def test_no_module_can_run_what_a_file_holds() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 300
    assert {path: found for path in paths if (found := unexpected(path))} == {}


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("import pickle", "pickle"),
        ("import cPickle", "cPickle"),
        ("from dill import loads", "dill"),
        ("def f():\n    import joblib", "joblib"),
        ("import shelve as s", "shelve"),
        ("from marshal import *", "marshal"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=False)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=flag)", "torch.load"),
        ("from torch import load as read\nread(path)", "torch.load"),
        ("import torch as t\nlist(map(t.load, paths))", "torch.load"),
        ("import torch\nread = torch.load", "torch.load"),
        ("import torch\nrun(reader=torch.load)", "torch.load"),
        ("import numpy as np\nnp.load(path)", "numpy.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "numpy.load"),
        ("from numpy import load\nload(path)", "numpy.load"),
        ("import numpy as np\nnp.lib.format.read_array(file, allow_pickle=True)", "allow_pickle=True"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("from yaml import load\nload(text)", "yaml.load"),
        ("eval(text)", "eval"),
        ("numbers = list(map(eval, lines))", "eval"),
        ("exec(text)", "exec"),
        ("exec(compile(text, 'file', 'exec'))", "exec"),
        ("program = compile(text, 'file', 'exec')", "compile"),
        ("__import__(name)", "__import__"),
        ("import importlib\nimportlib.import_module(name)", "importlib.import_module"),
        ("import torch\ntorch.jit.load(path)", "torch.jit.load"),
        ("from torch import jit\njit.load(path)", "torch.jit.load"),
        ("import torch\ntorch.export.load(path)", "torch.export.load"),
        ("import torch\ntorch.hub.load(repository)", "torch.hub.load"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "shell=True"),
        ("import os\nos.system(text)", "os.system"),
        ("import datasets\ndatasets.load_dataset(name, trust_remote_code=True)", "trust_remote_code=True"),
    ],
)
def test_the_walk_finds_what_is_planted(source: str, danger: str) -> None:
    assert danger in dangers(source)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import re\nre.compile(text)",
        "model.eval()",
        "from torch.hub import get_dir",
        "import subprocess\nsubprocess.run([program])",
    ],
)
def test_the_walk_lets_harmless_code_pass(source: str) -> None:
    assert dangers(source) == []
