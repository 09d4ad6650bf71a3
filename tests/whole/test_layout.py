"""The package as a house: each folder of a bearable size, and all of them in the tree that CONTRIBUTING draws."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any, get_args

import grimp
from repository import ROOT

from ddpm_cli.config.schema.data import DataConfig
from ddpm_cli.config.schema.model import ModelConfig
from ddpm_cli.config.schema.objective import ParameterizationConfig
from ddpm_cli.config.schema.sample import SamplerConfig
from ddpm_cli.config.schema.schedule import ScheduleConfig
from ddpm_cli.config.schema.section import Choice, OneOf

PACKAGE = ROOT / "ddpm_cli"
GUIDE = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
FOLDERS = [PACKAGE, *(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]


def drawn() -> Iterator[str]:
    """The folders of the tree, as paths below the package."""
    room = ""
    for indent, name in re.findall(r"^( {2}| {4})(\w+)/ ", GUIDE, re.MULTILINE):
        room = name if len(indent) == 2 else room
        yield name if len(indent) == 2 else f"{room}/{name}"


def test_the_tree_has_every_folder_once() -> None:
    assert sorted(drawn()) == sorted(folder.relative_to(PACKAGE).as_posix() for folder in FOLDERS[1:])


def test_the_tests_lie_as_the_package_does() -> None:
    """But for helpers, proofs that are run by hand, what older builds wrote, and tests of the whole product."""
    apart = {"helpers", "soak", "stored", "whole"}
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    assert {folder for folder in folders if folder.split("/")[0] not in apart} <= set(drawn())
    assert not list(tests.glob("test_*.py"))


def private_reach(tree: ast.Module) -> Iterator[str]:
    """Private names of the package that a module imports, sets, or takes from a module of the package."""
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ddpm_cli"):
            ours |= {alias.asname or alias.name for alias in node.names}
            yield from (alias.name for alias in node.names if is_private(alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours and is_private(node.attr):
            yield ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
            owner, name, *_ = [ast.unparse(argument) for argument in node.args]
            if owner.split(".")[0] in ours and is_private(name.strip("'")):
                yield f"{owner}.{name}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_replace"


def test_tests_reach_for_no_private_name() -> None:
    reached = {path.name: list(private_reach(ast.parse(path.read_text()))) for path in (ROOT / "tests").rglob("*.py")}
    assert {name: found for name, found in reached.items() if found} == {}


def test_nothing_lies_loose_in_the_root() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} <= {"__init__", "__main__", "_version", "errors"}


def test_no_folder_holds_too_much() -> None:
    lines = {path: path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    whole = sum(lines.values())
    for room in (path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
        share = sum(count for path, count in lines.items() if path.is_relative_to(room)) / whole
        assert share <= 0.12, room.name
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
