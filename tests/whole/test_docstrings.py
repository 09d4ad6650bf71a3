"""The first line of each docstring says with a verb what its module, class or function does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from repository import ROOT

PACKAGE = ROOT / "ddpm_cli"
VERBS = frozenset(
    """
    accept add adjust annotate answer append ask average begin bound bring build call change check choose classify
    clip close collect compare compile compute convert convolve count create declare decode define denoise derive
    describe detect divide do double download draw drive drop edit embed end enlarge estimate examine explain export
    fill find flatten flush fold follow forget free gather give go group guard guide halve hand handle have hide
    hold interpolate join judge keep know lay learn leave let limit list load log look make map match measure merge
    move multiply name nest noise note notice offer open own parse plan plot precondition predict prepare print put
    raise read receive reckon recognise record refuse rehearse remember remove rename render repeat replace resize
    resolve return reverse round run sample save say scale select send set share shift shorten show size solve space
    spell split spread stand start stop store strip sum summarise take tell test time trace train translate try turn
    undo unpack use vary view wait weight widen work write
    """.split()  # noqa: SIM905
)
"""A new one may join them, if it is one."""


def first_words(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str) -> Iterator[tuple[str, str]]:
    """Names of what is public in a node, with the first word of their docstrings."""
    if text := ast.get_docstring(node):
        yield name, text.split()[0].rstrip(",.").lower()
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | ast.FunctionDef) and not inner.name.startswith("_"):
            yield from first_words(inner, f"{name}.{inner.name}") if not isinstance(node, ast.FunctionDef) else ()


@pytest.mark.parametrize("folder", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()))
def test_it_begins_with_a_verb(folder: str) -> None:
    found = [pair for path in (PACKAGE / folder).rglob("*.py") for pair in first_words(ast.parse(path.read_text()), path.stem)]
    assert found
    assert [pair for pair in found if pair[1] not in VERBS] == []
