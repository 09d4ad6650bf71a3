"""The notebook in `examples/` runs from the first cell to the last, on the Python that runs the tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from repository import ROOT

NOTEBOOK = ROOT / "examples" / "diffusion_pytorch.ipynb"
PARTS = ["1. Setup", "2. Training", "3. Analysis", "4. Sampling", "5. Next experiments"]


def add_kernel(folder: Path) -> None:
    """A kernel `under-test`, so that no other Python of this machine runs the cells."""
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    place = folder / "kernels" / "under-test"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "under test", "language": "python"}))


def test_every_cell_runs_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_kernel(tmp_path / "jupyter")
    for name, value in {"JUPYTER_PATH": tmp_path / "jupyter", "IPYTHONDIR": tmp_path / "ipython", "DDPM_TOY": 1}.items():
        monkeypatch.setenv(name, str(value))
    work = tmp_path / "work"
    work.mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=240, kernel_name="under-test", resources={"metadata": {"path": str(work)}}).execute()
    assert sorted(path.name for path in work.iterdir()) == ["artifacts", "runs"]
    assert (work / "artifacts" / "samples.png").is_file()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stderr = [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert [text for text in stderr if "Warning" in text] == []
    pictures = [cell for cell in cells if any("image/png" in output.get("data", {}) for output in cell.outputs)]
    assert len(pictures) >= 9


def test_it_has_the_five_parts_and_stays_small() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    titles = [cell.source.splitlines()[0].removeprefix("## ") for cell in notebook.cells if cell.source.startswith("## ")]
    assert titles == PARTS
    assert NOTEBOOK.stat().st_size < 1_000_000
