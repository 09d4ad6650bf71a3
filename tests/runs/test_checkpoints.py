from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from best_checkpoints import best_checkpoint
from safetensors.torch import save_file

from ddpm_cli.core.io.tensor_files import TensorFile
from ddpm_cli.errors import CheckpointError
from ddpm_cli.runs.checkpoints import (
    has_checkpoint,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from ddpm_cli.runs.directory import create_run, find_run, write_info
from ddpm_cli.runs.run_directory import RunDirectory

CONFIG = "[train]\nseed = 3\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path / "runs", "mine", "quick")


def save(run: RunDirectory, step: int, *, keep_last: int = 2, best: bool = False, mark: float | None = None) -> Path:
    value = float(step) if mark is None else mark
    tensors = {"model": {"w": torch.full((3, 2), value)}, "ema": {"w": torch.full((3, 2), -value)}}
    return save_checkpoint(run, step, tensors, {"mark": value}, CONFIG, keep_last=keep_last, best=best)


def kept(run: RunDirectory) -> list[int]:
    return sorted(int(name.removeprefix("step-")) for name in os.listdir(run.checkpoints_folder))


def test_everything_comes_back_bit_for_bit(run: RunDirectory) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(8, 6, generator=generator)
    model = {
        "view": base[1:3],
        "transposed": base.T,
        "conv": torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
        "odd": torch.tensor([math.nan, math.inf, -0.0, 1e-45]),
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double() / 3,
        "counter": torch.tensor(7, dtype=torch.int64),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "none": torch.empty(0, 4),
        "trained": torch.nn.Parameter(base.clone()),
    }
    state = {"epoch": 3, "lr": 0.1 + 0.2, "best": math.inf, "name": "é", "nested": {"list": [1, 2.5, None, True]}}
    path = save_checkpoint(run, 12, {"model": model, "empty": {}}, state, CONFIG, keep_last=1, best=True)
    assert path == run.checkpoints_folder / "step-00000012"
    checkpoint = load_checkpoint(path)
    assert (checkpoint.step, checkpoint.best, checkpoint.state, checkpoint.config_toml) == (12, True, state, CONFIG)
    loaded = checkpoint.tensors("model")
    assert loaded.keys() == model.keys()
    for name, tensor in model.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert loaded[name].contiguous().view(-1).view(torch.uint8).equal(tensor.detach().contiguous().view(-1).view(torch.uint8))
    assert checkpoint.tensors("empty") == {}


def test_the_files_are_those_of_the_design(run: RunDirectory) -> None:
    path = save(run, 5)
    assert sorted(os.listdir(path)) == ["config.toml", "ema.safetensors", "manifest.json", "model.safetensors", "state.json"]
    assert os.listdir(run.checkpoints_folder) == ["step-00000005"]
    modes = {file.stat().st_mode & 0o777 for file in path.iterdir()}
    assert modes == {0o666 & ~current_umask()}


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_only_the_asked_group_is_read(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_checkpoint(save(run, 5))
    read = []
    monkeypatch.setattr("ddpm_cli.runs.checkpoints.read_tensor_file", lambda path: read.append(path.name) or TensorFile({}, {}))
    checkpoint.tensors("ema")
    assert read == ["ema.safetensors"]
    for name in ("optimizer", "../model", "", "manifest.json"):
        with pytest.raises(CheckpointError, match=f"has no {name} tensors"):
            checkpoint.tensors(name)


class TestPruning:
    def test_the_last_are_kept(self, run: RunDirectory) -> None:
        for step in range(10, 60, 10):
            save(run, step, keep_last=2)
        assert kept(run) == [40, 50]

    def test_the_best_is_kept_however_old(self, run: RunDirectory) -> None:
        for step in range(10, 80, 10):
            save(run, step, keep_last=2, best=step in (10, 30))
        assert kept(run) == [30, 60, 70]
        assert best_checkpoint(run).step == 30
        assert latest_checkpoint(run).step == 70

    def test_the_best_among_the_last_takes_no_extra_place(self, run: RunDirectory) -> None:
        for step in (10, 20, 30):
            save(run, step, keep_last=2, best=True)
        assert kept(run) == [20, 30]

    def test_one_is_enough(self, run: RunDirectory) -> None:
        for step in (1, 2, 3):
            save(run, step, keep_last=1)
        assert kept(run) == [3]

    def test_steps_are_ordered_as_numbers(self, run: RunDirectory) -> None:
        for step in (99_999_999, 100_000_000):
            save(run, step, keep_last=1)
        assert kept(run) == [100_000_000]

    def test_damaged_later_ones_never_push_out_the_one_just_saved(self, run: RunDirectory) -> None:
        save(run, 10)
        (save(run, 20) / "model.safetensors").write_bytes(b"")
        assert latest_checkpoint(run).step == 10
        save(run, 15, keep_last=1)
        assert kept(run) == [15]

    def test_folders_without_a_manifest_take_no_place(self, run: RunDirectory) -> None:
        save(run, 10)
        (run.checkpoints_folder / "step-00000015").mkdir()
        save(run, 20, keep_last=2)
        assert kept(run) == [10, 20]

    def test_other_folders_are_left_alone(self, run: RunDirectory, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        shutil.copytree(save(run, 1), outside)
        (run.checkpoints_folder / "step-backup").mkdir()
        (run.checkpoints_folder / "step-00000002").symlink_to(outside)
        save(run, 3, keep_last=1)
        assert sorted(os.listdir(run.checkpoints_folder)) == ["step-00000002", "step-00000003", "step-backup"]
        assert load_checkpoint(outside).step == 1


def test_saving_the_same_step_again_replaces_it(run: RunDirectory) -> None:
    save(run, 10, mark=1.0)
    save(run, 10, mark=2.0, keep_last=1)
    assert os.listdir(run.checkpoints_folder) == ["step-00000010"]
    assert latest_checkpoint(run).state == {"mark": 2.0}


def test_a_missing_checkpoints_folder_is_made(run: RunDirectory) -> None:
    run.checkpoints_folder.rmdir()
    save(run, 1)
    assert kept(run) == [1]


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path: Path) -> None:
    elsewhere = path.parents[3] / path.name
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FILES = ["model.safetensors", "ema.safetensors", "state.json", "config.toml", "manifest.json"]


DAMAGES = [remove, truncate, lengthen, empty, flip_a_bit, link, pipe]
# The manifest has no sum of its own: what is altered in it has to be found by its meaning, see test_a_damaged_manifest.
SEALED = [(file, damage) for file in FILES for damage in DAMAGES if file != "manifest.json"]
UNSEALED = [("manifest.json", damage) for damage in (remove, empty, link, pipe)]


@pytest.mark.parametrize(("file", "damage"), SEALED + UNSEALED)
def test_any_damage_falls_back_to_the_one_before(run: RunDirectory, file: str, damage: Callable[[Path], None]) -> None:
    save(run, 10)
    path = save(run, 20)
    damage(path / file)
    with pytest.raises(CheckpointError, match=file.replace(".", r"\.")) as raised:
        load_checkpoint(path)
    assert str(path) in raised.value.message
    assert raised.value.remedy
    checkpoint = latest_checkpoint(run)
    assert checkpoint.step == 10
    assert checkpoint.tensors("model")["w"].eq(10).all()
    assert checkpoint.skipped == (raised.value.message,)


def test_every_single_byte_of_a_file_counts(run: RunDirectory) -> None:
    path = save(run, 10)
    file = path / "state.json"
    data = file.read_bytes()
    for index in range(len(data)):
        file.write_bytes(data[:index] + bytes([data[index] ^ 255]) + data[index + 1 :])
        with pytest.raises(CheckpointError, match="altered"):
            load_checkpoint(path)


def manifest_with(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / "manifest.json").write_text(json.dumps(json.loads((path / "manifest.json").read_text()) | changes))

    return change


ENTRY = {"size": 1, "sha256": "0"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "newer than this program"),
        ({"format": "1"}, "lacks"),
        ({"format": None}, "lacks"),
        ({"step": "20"}, "lacks"),
        ({"step": -1}, "lacks"),
        ({"step": True}, "lacks"),
        ({"best": 1}, "lacks"),
        ({"files": []}, "lacks"),
        ({"files": {}}, "does not list"),
        ({"files": {"../../secret": ENTRY, "state.json": ENTRY, "config.toml": ENTRY}}, "no plain file name"),
        ({"files": {"/etc/passwd": ENTRY, "state.json": ENTRY, "config.toml": ENTRY}}, "no plain file name"),
        ({"files": {"..": ENTRY, "state.json": ENTRY, "config.toml": ENTRY}}, "no plain file name"),
        ({"files": {"a\x1b[2J": ENTRY, "state.json": ENTRY, "config.toml": ENTRY}}, "no plain file name"),
        ({"files": {"state.json": 1, "config.toml": ENTRY}}, "no size and SHA-256"),
        ({"files": {"state.json": {"size": 1.5, "sha256": ""}, "config.toml": ENTRY}}, "no size and SHA-256"),
        ({"files": {"state.json": {"size": 1}, "config.toml": ENTRY}}, "no size and SHA-256"),
    ],
)
def test_a_damaged_manifest(run: RunDirectory, changes: dict[str, object], reason: str) -> None:
    save(run, 10)
    path = save(run, 20)
    manifest_with(**changes)(path)
    with pytest.raises(CheckpointError, match=reason) as raised:
        load_checkpoint(path)
    assert "\x1b" not in raised.value.message
    assert latest_checkpoint(run).step == 10


@pytest.mark.parametrize("content", ["", "{", "[" * 1_000_000, '{"files":' * 500_000, "null"])
def test_a_manifest_that_is_no_json_object(run: RunDirectory, content: str) -> None:
    path = save(run, 10)
    (path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        load_checkpoint(path)
    assert not has_checkpoint(run)


def reseal(path: Path, name: str, data: bytes) -> None:
    """Alter a file and its sums as a stranger who means harm would."""
    import hashlib

    (path / name).write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (2**62).to_bytes(8, "little") + b"{}",
        (90_000_000).to_bytes(8, "little") + b"{}",
        (10).to_bytes(8, "little") + b"[" * 10,
        b"\x80\x04\x95" + b"\0" * 20,
        (80).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}'.ljust(80) + b"\0" * 4,
        (80).to_bytes(8, "little") + b'{"w":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}}'.ljust(80) + b"\0" * 4,
        (80).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'.ljust(80) + b"\0" * 8,
    ],
)
def test_tensors_of_a_stranger_are_refused(run: RunDirectory, data: bytes) -> None:
    path = save(run, 10)
    reseal(path, "model.safetensors", data)
    checkpoint = load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors .*no safetensors file"):
        checkpoint.tensors("model")


def test_state_of_a_stranger_is_refused(run: RunDirectory) -> None:
    path = save(run, 10)
    for data in (b"[" * 1_000_000, b"[]", b"\xff"):
        reseal(path, "state.json", data)
        with pytest.raises(CheckpointError, match=r"state\.json"):
            load_checkpoint(path)


def test_extra_links_are_refused(run: RunDirectory, tmp_path: Path) -> None:
    path = save(run, 10)
    (path / "extra").symlink_to(tmp_path)
    with pytest.raises(CheckpointError, match="symbolic link, 'extra'"):
        load_checkpoint(path)


def test_no_checkpoint_at_all(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no usable"):
        latest_checkpoint(run)
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        load_checkpoint(tmp_path / "none")
    assert list_checkpoints(run) == []
    assert not has_checkpoint(run)
    run.checkpoints_folder.rmdir()
    assert list_checkpoints(run) == []


def test_all_damaged_tells_of_each(run: RunDirectory) -> None:
    for step in (10, 20):
        empty(save(run, step) / "ema.safetensors")
    with pytest.raises(CheckpointError, match=r"step-00000020.*step-00000010"):
        latest_checkpoint(run)


def test_a_copied_checkpoint_stands_alone(run: RunDirectory, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(save(run, 10), copy)
    shutil.rmtree(run.path)
    assert load_checkpoint(copy).tensors("ema")["w"].eq(-10).all()


def test_the_newest_run_with_a_checkpoint(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    runs = [create_run(root, name, "quick") for name in ("oldest", "older", "damaged", "bare")]
    for created, run in enumerate(runs):
        write_info(run, {"created": float(created)})
    save(runs[0], 1)
    save(runs[1], 1)
    truncate(save(runs[2], 1) / "model.safetensors")
    assert find_run(root, None).name == "bare"
    assert find_run(root, None, need_checkpoint=True).name == "older"


def test_files_of_the_checkpoint_are_plain_safetensors(run: RunDirectory, tmp_path: Path) -> None:
    path = save(run, 10)
    save_file({"w": torch.full((3, 2), 10.0)}, tmp_path / "expected.safetensors")
    assert (path / "model.safetensors").read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
