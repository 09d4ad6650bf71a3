from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddpm_cli.errors import CheckpointError, OutputError
from ddpm_cli.runs.model_file import load_model_file, save_model_file

METADATA = {"config": '{"model": {"base_channels": 8}}', "note": "ä\n"}


def some_tensors() -> dict[str, torch.Tensor]:
    shared = torch.randn(3, 4)
    return {
        "weight": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "transposed": torch.randn(2, 5).T,
        "half": torch.randn(7).bfloat16(),
        "steps": torch.tensor(12),
        "empty": torch.empty(0, 3),
        "shared": shared,
        "shared.too": shared,
        "trained": torch.nn.Parameter(torch.randn(2)),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model_file(path, some_tensors(), METADATA)
    return path


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    tensors = some_tensors()
    path = tmp_path / "model.safetensors"
    save_model_file(path, tensors, METADATA)
    loaded, metadata = load_model_file(path)
    assert metadata == METADATA
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_other_programs_can_read_it(path: Path) -> None:
    assert load_file(path)["weight"].shape == (4, 3, 3, 3)


def test_loaded_tensors_do_not_depend_on_the_file(path: Path) -> None:
    loaded, _ = load_model_file(path)
    before = loaded["weight"].clone()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * (path.stat().st_size // 2))
    assert torch.equal(loaded["weight"], before)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        load_model_file(path)


def test_a_flipped_bit_anywhere_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for position in range(0, len(data), 3):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            load_model_file(path)


def test_changed_config_is_refused(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"base_channels", b"case_bhannels"))
    with pytest.raises(CheckpointError, match="altered"):
        load_model_file(path)


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="no model exported by ddpm"):
        load_model_file(path)
    path.write_text(json.dumps({"no": "model"}))
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_model_file(path)


def test_newer_format_is_refused(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"ddpm_format_version":"1"', b'"ddpm_format_version":"2"'))
    with pytest.raises(CheckpointError, match="format version 2"):
        load_model_file(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        load_model_file(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError):
        load_model_file(tmp_path)


def test_existing_file_stays_if_writing_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OutputError, match="disk is full"):
        save_model_file(path, {"weight": torch.zeros(2)}, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        save_model_file(tmp_path / "absent" / "model.safetensors", {}, {})


def test_reserved_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ddpm_sha256"):
        save_model_file(tmp_path / "model.safetensors", {}, {"ddpm_sha256": ""})
