"""What is wrong with the request of an export, found before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_cli.errors import RequestError
from ddpm_cli.interop.export_request import check_request
from ddpm_cli.interop.registry import ExportOptions, Format, known_formats

FOREIGN = Format(name="foreign", about="", file_name="x", write=lambda *_: [], packages=("no-such", "nor_this"))


def test_packages_of_a_foreign_format_are_named_themselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ddpm_cli.interop.export_request.known_formats", lambda: {"foreign": FOREIGN})
    with pytest.raises(RequestError) as refused:
        check_request("foreign", tmp_path / "x", ExportOptions())
    assert "needs no-such, nor_this, which are not installed" in refused.value.message
    assert refused.value.remedy == "Install it: pip install no-such nor_this"


def test_formats_of_this_package_name_the_extra_that_has_their_packages() -> None:
    assert {name: known_formats()[name].extra for name in ("safetensors", "torch-export", "onnx", "diffusers")} == {
        "safetensors": "",
        "torch-export": "",
        "onnx": "interop",
        "diffusers": "interop",
    }
