from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.errors import OutputError, RunError
from ddpm_cli.runs.directory import create_run, find_run, list_runs, read_info, sweep_run, write_info
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.run_directory import RunDirectory


def made(root: Path, name: str, created: object) -> RunDirectory:
    run = create_run(root, name, "quick")
    write_info(run, {"created": created})
    return run


def test_runs_are_numbered(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    names = [create_run(root, None, prefix).path.name for prefix in ("quick", "quick", "default")]
    assert names == ["quick-001", "quick-002", "default-001"]
    (root / "quick-999").mkdir()
    assert create_run(root, None, "quick").path == root / "quick-1000"


def test_folders_above_the_runs_are_not_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        create_run(tmp_path / "typo" / "runs", None, "quick")
    assert list(tmp_path.iterdir()) == []


def test_a_run_has_its_folders(tmp_path: Path) -> None:
    run = create_run(tmp_path, "mine", "quick")
    assert sorted(os.listdir(run.path)) == ["checkpoints", "samples"]
    assert run.name == "mine"
    assert run.samples_folder.is_dir()
    assert run.checkpoints_folder.is_dir()


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "mine", 1.0)
    with pytest.raises(RunError, match="already") as raised:
        create_run(tmp_path, "mine", "quick")
    assert "ddpm resume mine" in raised.value.remedy


def test_a_folder_of_the_name_that_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    create_run(tmp_path, "mine", "quick")  # a start that was killed leaves this
    with pytest.raises(RunError, match=r"no run\.json") as raised:
        create_run(tmp_path, "mine", "quick")
    assert "Remove it" in raised.value.remedy


BAD_NAMES = ["", ".", "..", "../x", "a/b", "/tmp/x", "a\\b", ".hidden", "-flag", "a\n", "a b", "a\0b", "x" * 101, "ü", "~", "$HOME"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "runs"
    with pytest.raises(RunError, match="cannot be the name"):
        create_run(root, name, "quick")
    with pytest.raises(RunError, match="cannot be the name"):
        create_run(root, None, name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["con", "NUL", "nul.tar", "LPT1", "com9.x.y", "ends."])
def test_names_that_windows_cannot_hold_are_refused_and_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="Windows could not hold"):
        create_run(tmp_path, name, "quick")
    assert create_run(tmp_path, None, "con").name == "con-001"  # which is no device
    run = create_run(tmp_path, "before", "quick")
    write_info(run, {"created": 0.0})
    run.path.rename(tmp_path / name)  # by an earlier version
    assert find_run(tmp_path, name).path == tmp_path / name


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(OutputError):
            create_run(root, None, "quick")


def test_threads_never_share_a_run(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create_run(tmp_path / "runs", None, "quick").path.name, range(64)))
    assert sorted(runs) == [f"quick-{number:03d}" for number in range(1, 65)]


def test_processes_never_share_a_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ddpm_cli.runs.directory import create_run\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(20): print(create_run(Path(sys.argv[1]), None, 'quick').path.name)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    names = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        names += process.communicate()[0].split()
        assert process.returncode == 0
    assert sorted(names) == [f"quick-{number:03d}" for number in range(1, 61)]


class TestFindRun:
    def test_newest_by_creation_not_by_name_or_file_time(self, tmp_path: Path) -> None:
        made(tmp_path, "b", 200.0)
        made(tmp_path, "c", 100.0)
        os.utime(made(tmp_path, "a", 50.5).info_path, (time.time() + 1000,) * 2)
        assert [run.name for run in list_runs(tmp_path)] == ["b", "c", "a"]
        assert find_run(tmp_path, None).name == "b"

    @pytest.mark.parametrize("created", [None, "now", [], True, 10**400, float("nan"), float("inf")])
    def test_a_run_without_a_sensible_time_is_the_oldest(self, tmp_path: Path, created: object) -> None:
        made(tmp_path, "good", 1.0)
        made(tmp_path, "odd", created)
        assert [run.name for run in list_runs(tmp_path)] == ["good", "odd"]

    def test_other_things_in_the_root_are_passed_over(self, tmp_path: Path) -> None:
        made(tmp_path, "good", 1.0)
        (tmp_path / "file").touch()
        (tmp_path / "empty").mkdir()
        made(tmp_path, "damaged", 2.0).info_path.write_text('{"created": 9')
        assert [run.name for run in list_runs(tmp_path)] == ["good"]

    def test_by_name_and_by_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = made(tmp_path / "runs", "mine", 1.0)
        monkeypatch.chdir(tmp_path)
        for asked in ("mine", "runs/mine", "runs/mine/", run.path, Path("runs/mine")):
            assert find_run(Path("runs"), asked).path.resolve() == run.path
        monkeypatch.chdir(run.path)
        assert find_run(Path("runs"), ".").name == "mine"

    def test_a_name_below_the_root_comes_before_a_folder_of_that_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made(tmp_path / "runs", "mine", 1.0)
        made(tmp_path, "mine", 1.0)
        monkeypatch.chdir(tmp_path)
        assert find_run(Path("runs"), "mine").path == Path("runs/mine")

    def test_near_misses_are_suggested(self, tmp_path: Path) -> None:
        made(tmp_path, "quick-001", 1.0)
        with pytest.raises(RunError, match="Did you mean quick-001"):
            find_run(tmp_path, "quikc-001")
        with pytest.raises(RunError, match="There are: quick-001"):
            find_run(tmp_path, "zzz")

    @pytest.mark.parametrize("asked", [None, "x", "x" * 5000])
    def test_no_run_at_all(self, tmp_path: Path, asked: str | None) -> None:
        with pytest.raises(RunError, match="ddpm train --preset quick"):
            find_run(tmp_path / "runs", asked)
        assert os.listdir(tmp_path) == []

    def test_a_folder_that_is_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="not a run folder"):
            find_run(tmp_path / "runs", tmp_path)

    def test_links_inside_a_run_are_refused(self, tmp_path: Path) -> None:
        run = made(tmp_path / "runs", "mine", 1.0)
        run.checkpoints_folder.rmdir()
        run.checkpoints_folder.symlink_to(tmp_path)
        for asked in (None, "mine"):
            with pytest.raises(RunError, match="symbolic link"):
                find_run(tmp_path / "runs", asked)


def test_info_round_trip_and_damage(tmp_path: Path) -> None:
    run = made(tmp_path, "mine", 0.1 + 0.2)
    assert read_info(run) == {"created": 0.1 + 0.2}
    run.info_path.write_text("[" * 1_000_000)
    with pytest.raises(RunError, match=r"run\.json is nested too deeply"):
        read_info(run)
    run.info_path.unlink()
    with pytest.raises(RunError, match=r"run\.json is missing"):
        read_info(run)


def test_sweep_reaches_every_folder_of_the_run(tmp_path: Path) -> None:
    run = made(tmp_path, "mine", 1.0)
    for folder in (run.path, run.samples_folder, run.checkpoints_folder):
        (folder / f"{TEMPORARY_PREFIX}x").touch()
    part = run.evaluations_folder / "work" / "of-one"
    part.mkdir(parents=True)
    (part / f"{TEMPORARY_PREFIX}x").touch()
    with locked(RunDirectory(run.evaluations_folder)):  # an evaluation is at work
        assert len(sweep_run(run)) == 3
    assert len(sweep_run(run)) == 1
    assert not list(run.path.rglob(f"{TEMPORARY_PREFIX}*"))
