from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from ddpm_cli.errors import OutputError, RunError
from ddpm_cli.runs.metrics_log import MetricsLog, read_rows, write_history


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def fill(path: Path, steps: range) -> None:
    with MetricsLog(path) as log:
        for step in steps:
            log.append({"step": step, "loss": 1 / step})


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_rows_are_on_disk_at_once_and_exact(path: Path) -> None:
    log = MetricsLog(path)
    assert not path.exists()
    rows = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": None, "note": "é\n"}]
    for count, row in enumerate(rows, 1):
        log.append(row)
        assert read_rows(path) == rows[:count]
        assert path.read_bytes().count(b"\n") == count
    log.sync()
    log.close()


def test_a_number_that_json_lacks_is_refused(path: Path) -> None:
    with MetricsLog(path) as log, pytest.raises(ValueError, match="not JSON compliant"):
        log.append({"step": 1, "loss": math.inf})
    assert not path.exists()


def test_a_row_does_not_continue_a_line_that_a_kill_has_torn(path: Path) -> None:
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    fill(path, range(3, 5))
    assert [row["step"] for row in read_rows(path)] == [1, 3, 4]


def test_one_write_per_row(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    write = os.write
    with MetricsLog(path) as log, monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: writes.append(bytes(data)) or write(descriptor, data))
        log.append({"step": 1, "loss": 0.5})
    assert writes == [b'{"step": 1, "loss": 0.5}\n']


@pytest.mark.parametrize(
    "torn", ["", '{"step": 5, "lo', '{"step": 5, "loss": 1}', "\x00\x00\x00\n", "[" * 100_000 + "\n", "7\n", "{}\n"]
)
def test_resume_drops_later_rows_and_torn_lines(path: Path, torn: str) -> None:
    fill(path, range(1, 8))
    with path.open("a") as file:
        file.write(torn)
    log = MetricsLog(path)
    log.append({"step": 8})
    log.truncate_after(4)
    assert steps(path) == [1, 2, 3, 4]
    log.append({"step": 5})
    log.close()
    assert steps(path) == [1, 2, 3, 4, 5]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("cut", range(0, 110, 7))
def test_any_cut_leaves_whole_rows(path: Path, cut: int) -> None:
    fill(path, range(1, 5))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    expected = list(range(1, 1 + whole[:cut].count(b"\n")))
    assert [row["step"] for row in read_rows(path)] == expected
    with MetricsLog(path) as log:
        log.truncate_after(4)
    assert steps(path) == expected


def test_truncating_a_log_that_does_not_exist(path: Path) -> None:
    MetricsLog(path).truncate_after(3)
    assert not path.exists()
    assert read_rows(path) == []


def test_a_full_disk_leaves_no_torn_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with MetricsLog(path) as log:
        log.append({"step": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
            with pytest.raises(OutputError, match="disk is full"):
                log.append({"step": 2})
        log.append({"step": 2})
    assert steps(path) == [1, 2]


def test_a_failed_truncation_keeps_the_old_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, range(1, 4))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OutputError, match="disk is full"):
            MetricsLog(path).truncate_after(1)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_line_without_end_is_passed_over(path: Path) -> None:
    path.write_bytes(b'{"step": 1}\n' + b"x" * 3_000_000 + b'\n{"step": 2}\n')
    assert [row["step"] for row in read_rows(path)] == [1, 2]


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(RunError):
            read_rows(tmp_path / name)
        with pytest.raises(RunError):
            MetricsLog(tmp_path / name).truncate_after(0)
        with pytest.raises(OutputError):
            MetricsLog(tmp_path / name).append({"step": 1})
    assert (tmp_path / "precious").read_text() == "precious"


def test_history_is_a_list_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_history(path, [{"epoch": 1, "loss": 0.5}])
    write_history(path, [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    assert json.loads(path.read_text()) == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
