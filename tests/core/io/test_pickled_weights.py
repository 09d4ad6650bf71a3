"""Files of torch.save, read by a process that runs nothing of them."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_cli.core.io import pickled_weights, pickled_weights_process
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.io.pickled_weights import read_pickled_weights

WEIGHT = torch.arange(6.0).reshape(2, 3)
MADE: list[str] = []


class Harmless:
    """Would tell that it was made, if a reader made it."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return MADE.append, ("made",)


def bytes_of(found: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(found, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def refused(content: bytes, folder: Path) -> str:
    """Why the reader's process refuses it, run in this process without its bounds."""
    path = folder / "file.pt"
    path.write_bytes(content)
    answer = pickled_weights_process.main(path, folder / "out.safetensors", [])
    assert not (folder / "out.safetensors").exists()
    assert answer["refused"]
    return str(answer["refused"])


@pytest.fixture(autouse=True)
def _no_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled_weights_process, "set_bounds", lambda size: True)


def rezipped(content: bytes, compression: int = zipfile.ZIP_STORED, *, without: str = "", more: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for member in old.infolist():
            if not without or not member.filename.endswith(without):
                new.writestr(member.filename, old.read(member))
        if more:
            new.writestr(more, b"\0" * 10_000_000)
    return out.getvalue()


def declaring_more(content: bytes) -> bytes:
    """An archive whose list of members says that one is a gigabyte."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = next(member.file_size for member in archive.infolist() if member.filename.endswith("data/0"))
    start = content.rindex(b"PK\x01\x02", 0, content.index(b"archive/data/0", content.index(b"PK\x01\x02")))
    assert int.from_bytes(content[start + 24 : start + 28], "little") == size
    return content[: start + 24] + (1 << 30).to_bytes(4, "little") + content[start + 28 :]


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_and_plain_values_arrive(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    found = {
        "model": network.state_dict(),
        "turned": WEIGHT.t(),
        "shared": [WEIGHT, WEIGHT],
        "half": WEIGHT.half(),
        "count": torch.tensor(3),
        "parameter": torch.nn.Parameter(WEIGHT),
        "opt": optimizer.state_dict(),
        "step": 7,
        "version": "2.3.4",
        "scaler": None,
    }
    path.write_bytes(bytes_of(found, legacy=legacy))
    read = read_pickled_weights(path, skip=["opt"])
    assert read.scalars == {"step": 7, "version": "2.3.4", "scaler": None}
    assert read.tensors.keys() == {
        *("model/weight", "model/bias", "turned", "shared/0", "shared/1", "half", "count", "parameter"),
    }
    for name, wanted in (("model/weight", network.weight), ("turned", WEIGHT.t()), ("shared/1", WEIGHT), ("half", WEIGHT.half())):
        assert torch.equal(read.tensors[name], wanted)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_asks_for_a_class_is_refused_and_not_run(legacy: bool, tmp_path: Path) -> None:
    content = bytes_of({"weight": WEIGHT, "what": Harmless()}, legacy=legacy)
    assert "asks for " in refused(content, tmp_path)
    assert MADE == []


@pytest.mark.parametrize("found", [Counter("aab"), torch.device("cpu"), torch.Size([2]), {1, 2}, complex(1, 2), torch.float32])
def test_what_torch_lets_through_but_is_no_tensor_is_refused(found: object, tmp_path: Path) -> None:
    assert "asks for " in refused(bytes_of({"weight": WEIGHT, "what": found}), tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: b"", "no file of torch.save"),
        (lambda: b"\x89PNG\r\n" * 10, "no file of torch.save"),
        (lambda: b"\x80\x04N.", "a pickle, which can run code"),
        (lambda: bytes_of({"weight": WEIGHT})[:-100], "cut off or damaged"),
        (lambda: bytes_of({"weight": torch.zeros(10_000)}, legacy=True)[:-9_000], "cut off or damaged"),
        (lambda: bytes_of({"weight": WEIGHT}, legacy=True)[:100], "cut off or damaged"),
        (lambda: rezipped(bytes_of({"weight": WEIGHT}), zipfile.ZIP_DEFLATED), "compressed"),
        (lambda: rezipped(bytes_of({"weight": WEIGHT}), zipfile.ZIP_DEFLATED, more="archive/data/9"), "compressed"),
        (lambda: rezipped(bytes_of({"weight": WEIGHT}), without="data.pkl"), "no data.pkl"),
        (lambda: rezipped(bytes_of({"weight": WEIGHT}), without="data/0"), "cut off or damaged"),
        (lambda: declaring_more(bytes_of({"weight": WEIGHT})), "members overlap"),
        (lambda: bytes_of({"weight": torch.zeros(1).expand(10**9)}), "larger than the file"),
        (lambda: bytes_of([WEIGHT]), "not a dict"),
        (lambda: bytes_of({"weight": WEIGHT.to_sparse()}), "asks for "),
        (lambda: bytes_of({"a": nested(30)}), "nests more than"),
        (lambda: bytes_of({"a": doubled(40)}), "more than 1,000,000 values"),
    ],
)
def test_bad_files_are_refused_with_the_reason(content: Callable[[], bytes], words: str, tmp_path: Path) -> None:
    assert words in refused(content(), tmp_path)


def nested(depth: int) -> list[object]:
    return [nested(depth - 1)] if depth else []


def doubled(times: int) -> list[object]:
    """A list that holds one twice that holds one twice, which is small and has 2 ** times values."""
    found: list[object] = [0]
    for _ in range(min(times, 14)):
        found = [found] * 3
    return found


def test_bounds_and_bad_files_are_told_by_the_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(bytes_of({"weight": WEIGHT, "what": Harmless()}))
    with pytest.raises(UnreadableError, match="asks for "):
        read_pickled_weights(path)
    with pytest.raises(UnreadableError, match="missing"):
        read_pickled_weights(tmp_path / "absent.pt")
    monkeypatch.setattr(pickled_weights, "BASE_SECONDS", 1e-6)
    with pytest.raises(UnreadableError, match="not read within"):
        read_pickled_weights(path)
    monkeypatch.setattr(pickled_weights, "BASE_SECONDS", 600.0)
    monkeypatch.setattr(pickled_weights, "COMMAND", (*pickled_weights.COMMAND[:1], "-c", "import os; os.abort()"))
    with pytest.raises(UnreadableError, match="ended the process that read it"):
        read_pickled_weights(path)


def test_memory_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.undo()
    asked: dict[int, int] = {}
    monkeypatch.setattr(resource, "setrlimit", lambda what, bounds: asked.update({what: bounds[0]}))
    pickled_weights_process.set_bounds(1000)
    assert asked[resource.RLIMIT_CPU] == pickled_weights_process.CPU_SECONDS
    assert pickled_weights_process.SPARE_BYTES < asked[resource.RLIMIT_AS] < 1 << 40
