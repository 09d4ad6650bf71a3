"""What the README says is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from tiny_configs import NETWORK

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\|[^|]+\|[^|]+\| `([\w.]+)` \| `([\w/.]+)` \|$", README, re.MULTILINE)


def definitions(path: Path) -> set[str]:
    """Functions and classes of a file, methods as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def test_the_map_is_found() -> None:
    section = README.split("## Theory-to-code map")[1].split("\n## ")[0]
    assert len(ROWS) == section.count("\n| ") - 2  # header and rule


@pytest.mark.parametrize(("name", "file"), ROWS, ids=[name for name, _ in ROWS])
def test_every_row_of_the_map_exists(name: str, file: str) -> None:
    assert name in definitions(ROOT / file)


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target.split("#")[0]).is_file(), target


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    small = NETWORK | {"train.eval_images": 16, "sample.sampler.steps": 2}
    few = f'data="fashion-mnist-10k", steps=2, set={small}'
    toys = {"minutes=5": few, 'data="mnist", from_=run, steps=1000': f"from_=run, {few}", "sample(36)": "sample(4)"}
    for budget, toy in toys.items():
        assert lines.count(budget) == 1
        lines = lines.replace(budget, toy)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    names: dict[str, Any] = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["images"].shape == (4, 28, 28, 1)
    assert (tmp_path / "grid.png").is_file()


def test_presets_of_the_table_are_as_it_says() -> None:
    from ddpm_cli.build.network import build_model
    from ddpm_cli.config.resolve.loader import load_config
    from ddpm_cli.config.resolve.preset_files import preset_names
    from ddpm_cli.models.cost import forward_flops, parameter_count

    shapes = {"paper-cifar10": (3, 32, 32)}
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([\d.]+M parameters, [\d.]+ GFLOP per image) \|$", README, re.MULTILINE))
    assert rows.keys() == set(preset_names())
    for preset, text in rows.items():
        shape = shapes.get(preset, (1, 28, 28))
        model = build_model(load_config(preset=preset).config.model, shape)
        parameters, flops = parameter_count(model) / 1e6, forward_flops(model, shape) / 1e9
        digits = 1 if parameters > 10 else 2
        assert text == f"{parameters:.{digits}f}M parameters, {flops:.3g} GFLOP per image"
        if preset == "default":
            assert flops <= 0.25
        if preset == "paper-cifar10":
            assert parameter_count(model) == 35_746_307  # Ho et al. 2020: 35.7 million
