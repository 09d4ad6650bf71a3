"""On a Python that lacks what Windows lacks, every module is imported and a model is trained, resumed, sampled and exported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from command import environment
from repository import ROOT

STAND_IN = ROOT / "tests" / "helpers" / "as_windows.py"


def test_nothing_of_posix_alone_is_needed(tmp_path: Path) -> None:
    command = [sys.executable, str(STAND_IN), str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "images" / "1.png").is_file()
    assert list((tmp_path / "cache" / "images").glob("*/images.u8"))  # written without pwrite
