"""The package as a house: each folder of a bearable size, and all of them in the tree that CONTRIBUTING draws."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any, get_args

import grimp
import pytest
from repository import ROOT

from ddpm_cli.config.schema.data import DataConfig
from ddpm_cli.config.schema.model import ModelConfig
from ddpm_cli.config.schema.objective import ParameterizationConfig
from ddpm_cli.config.schema.sample import SamplerConfig
from ddpm_cli.config.schema.schedule import ScheduleConfig
from ddpm_cli.config.schema.section import Choice, OneOf

PACKAGE = ROOT / "ddpm_cli"
GUIDE = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
OF_OTHERS = {"_replace", "_growth_tracker"}
"""Private by their spelling alone: of namedtuple, and of what torch stores of a gradient scaler."""
FOLDERS = [PACKAGE, *(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]


def drawn() -> Iterator[str]:
    """The folders of the tree, as paths below the package."""
    above: list[str] = []
    for indent, name in re.findall(r"^((?: {2}){1,3})(\w+)/ ", GUIDE, re.MULTILINE):
        above = [*above[: len(indent) // 2 - 1], name]
        yield "/".join(above)


def test_the_tree_has_every_folder_once() -> None:
    assert sorted(drawn()) == sorted(folder.relative_to(PACKAGE).as_posix() for folder in FOLDERS[1:])


def test_the_tests_lie_as_the_package_does() -> None:
    """But for helpers, proofs that are run by hand, what older builds wrote, and tests of the whole product."""
    apart = {"helpers", "soak", "stored", "whole"}
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    assert {folder for folder in folders if folder.split("/")[0] not in apart} <= set(drawn())
    assert not list(tests.glob("test_*.py"))


def private_names() -> set[str]:
    """Private functions, classes, constants and attributes that the package defines."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                    found.add(name)
    return set(filter(is_private, found))


def is_private(name: str) -> bool:
    return bool(re.fullmatch(r"_(?!_)\w+", name)) and name not in OF_OTHERS


def imports(tree: ast.Module) -> Iterator[ast.alias]:
    """What a module imports from the package."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("ddpm_cli"):
                yield from names
            case ast.Import(names=names):
                yield from (alias for alias in names if alias.name.startswith("ddpm_cli"))


def private_reach(source: str, private: set[str]) -> Iterator[str]:
    """Private names that a module imports from the package or takes from what it has imported; those of `private` however."""
    tree = ast.parse(source)
    here = {alias.asname or alias.name.split(".")[0] for alias in imports(tree)}
    there = {alias.name for alias in imports(tree)}
    yield from filter(is_private, there)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(value=owner, attr=name) if name in private or (is_private(name) and root(owner) in here):
                yield f"{ast.unparse(owner)}.{name}"
            case ast.Call(args=[owner, ast.Constant(value=str(name)), *_]) if is_private(name) and root(owner) in here:
                yield f"{ast.unparse(owner)}.{name}"
            case ast.Constant(value=str(text)):  # what is patched by its name, and programs that a test writes
                yield from private.intersection(re.findall(r"(?:^|[.\s])(_\w+)", text))


def root(owner: ast.expr) -> str:
    """The first name of `name.attribute.attribute`."""
    return re.split(r"\W", ast.unparse(owner))[0]


def test_tests_reach_for_no_private_name() -> None:
    private = private_names()
    reached = {str(path): list(private_reach(path.read_text(), private)) for path in (ROOT / "tests").rglob("*.py")}
    assert {name: found for name, found in reached.items() if found} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from ddpm_cli.runs.lock import _secret",
        "lock._secret",
        "lock.files._other = 1",
        "Trainer().losses._secret.clear()",
        "monkeypatch.setattr(lock, '_other', 1)",
        "monkeypatch.setattr('ddpm_cli.runs.lock._secret', 1)",
        "monkeypatch.setattr(anything, '_secret', 1)",
        "mock.patch('ddpm_cli.runs.lock._secret.inner')",
        "getattr(anything, '_secret')",
        "run(f'lock._secret = {1}')",
        "run('from ddpm_cli.runs.lock import _secret')",
    ],
)
def test_such_a_name_is_found(line: str) -> None:
    assert list(private_reach(f"from ddpm_cli.runs import lock\n{line}", {"_secret"})), line


@pytest.mark.parametrize("line", ["torch._other", "getattr(torch, '_other')", "self._secret", "lock.a_secret", "lock.__doc__"])
def test_a_name_of_others_or_of_the_test_is_not(line: str) -> None:
    assert not list(private_reach(f"import torch\nfrom ddpm_cli.runs import lock\n{line}", {"_secret"})), line


def test_nothing_lies_loose_in_the_root() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} <= {"__init__", "__main__", "_version", "errors"}


def test_no_folder_holds_too_much() -> None:
    lines = {path: path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    whole = sum(lines.values())
    for room in (path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
        share = sum(count for path, count in lines.items() if path.is_relative_to(room)) / whole
        assert share <= (0.2 if room.name == "data" else 0.12), room.name  # each format that people have is a file there
    for folder in FOLDERS:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= (26 if folder.name == "cli" else 18), folder.name


def members_of(union: Any) -> dict[str, type[Choice]]:
    (choices,) = (annotation for annotation in get_args(union)[1:] if isinstance(annotation, OneOf))
    return choices.members


def test_the_guide_names_what_there_is() -> None:
    for file in re.findall(r"`((?:\w+/)+\w+\.py)`", GUIDE):
        assert (PACKAGE / file).is_file(), file
    members = {
        "CosineSchedule": ScheduleConfig,
        "DdimSampler": SamplerConfig,
        "EpsParameterization": ParameterizationConfig,
        "Cifar10Data": DataConfig,
        "UNetConfig": ModelConfig,
    }
    for member, union in members.items():
        assert member in {cls.__name__ for cls in members_of(union).values()}
        assert member in GUIDE
    places = {"BETA_SCHEDULES": "diffusion/schedules.py"}
    for name, file in places.items():
        assert re.search(rf"^(?:def )?{name}\b", (PACKAGE / file).read_text(), re.MULTILINE), name
        assert f"`{name}`" in GUIDE


def test_messages_of_the_maths_name_no_flag() -> None:
    """It is called by programs, too; the layer that knows the flag adds it."""
    for path in (*(PACKAGE / "diffusion").rglob("*.py"), *(PACKAGE / "models").rglob("*.py")):
        assert not re.findall(r"\s--[a-z]", path.read_text()), path


def test_no_imports_go_in_a_circle() -> None:
    """Imports in functions and for types alone are counted too."""
    graph = grimp.build_graph("ddpm_cli")
    order = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    order.prepare()  # raises CycleError, which names the modules
