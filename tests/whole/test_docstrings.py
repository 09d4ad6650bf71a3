"""The first line of each docstring says with a verb what its module, class or function does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT

VERBS = frozenset(
    """
    accept add adjust annotate answer append ask average begin bound bring build call change check choose classify
    clip close collect compare compile compute convert convolve count create declare decode define denoise derive
    describe detect distil divide do double download draw drive drop edit embed end enlarge estimate examine explain export
    fill find fit flatten flush fold follow forget free gather give go group guard guide halve hand handle have hide
    hold interpolate join judge keep kill know lay learn leave let limit list load log look make map match measure merge
    move multiply name nest noise note notice offer open own parse plan plot precondition predict prepare print put
    raise read receive reckon recognise record refuse rehearse remember remove rename render repeat replace resize
    resolve return reverse round run sample save say scale search select send set share shift shorten show solve space
    spell split spread stack stand start stop store strip sum summarise take tell test time trace train translate try tune turn
    undo unpack use vary view wait watch weight widen work write
    """.split()  # noqa: SIM905
)
"""A new one may join them, if it is one."""
NOUNS = (
    "estimate of",
    "list of",
    "log density",
    "log probability",
    "log variance",
    "noise schedules",
    "set by",
    "share of",
    "sum of",
    "time left",
    "weight of",
)
"""Beginnings that are none, although their first word can be one."""


def begins_with_a_verb(text: str) -> bool:
    return text.split()[0].rstrip(",.").lower() in VERBS and not text.lower().startswith(NOUNS)


def docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str) -> Iterator[tuple[str, str]]:
    """Names of a module's classes and of what is public in it and them, with the docstrings that they have."""
    if text := ast.get_docstring(node):
        yield name, text
    for inner in () if isinstance(node, ast.FunctionDef) else node.body:
        if isinstance(inner, ast.ClassDef) or (isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_")):
            yield from docstrings(inner, f"{name}.{inner.name}")


PARTS = sorted(path.parent for path in (ROOT / "ddpm_cli").glob("*/__init__.py"))


@pytest.mark.parametrize("folder", [*PARTS, ROOT / "examples" / "extending"], ids=lambda folder: folder.name)
def test_it_begins_with_a_verb(folder: Path) -> None:
    found = [pair for path in folder.rglob("*.py") for pair in docstrings(ast.parse(path.read_text()), path.stem)]
    assert found
    assert [name for name, text in found if not begins_with_a_verb(text)] == []
