"""Read one file of `torch.save` in a process that may fail, and write its tensors as safetensors.

    python -m ddpm_cli.core.io.pickled_weights_process FILE OUT SKIPPED

Before torch sees the file, every name that its pickle asks for is compared with ALLOWED, by reading the opcodes and running none.
torch's own loader for weights alone reads it then, and what it made is taken only if it is tensors in plain containers. The answer
is a JSON object on stdout: {"bounded": whether memory has a bound}, or {"refused": why}.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ddpm_cli.core.io.files import UnreadableError, printable
from ddpm_cli.core.io.pickled_weights import SCALARS

if TYPE_CHECKING:
    from torch import Tensor

STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
ALLOWED = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        *(f"torch {kind}Storage" for kind in STORAGES),
    }
)
"""Names that tensors, parameters and the dict of a network's state ask for; torch's own list is longer."""

OTHER_WAYS = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"})
"""Opcodes that make an object by a name in another way than GLOBAL does; `torch.save` writes none of them for tensors."""

ZIP_START = b"PK\x03\x04"
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Of files before torch 1.6: a pickle that holds a number, and four more in front of the tensors."""
LEGACY_PICKLES = 5

MOST_MEMBERS = 200_000
MOST_PICKLE_BYTES = 100_000_000
MOST_OPCODES = 20_000_000
MOST_VALUES = 1_000_000
DEEPEST = 16
MEMORY_PER_BYTE = 4
"""What is read, a copy of what shares memory, the bytes that are written, and one to spare."""
SPARE_BYTES = 1 << 30
CPU_SECONDS = 120
CPU_BYTES_PER_SECOND = 50_000_000


def main(path: Path, out: Path, skip: list[str]) -> dict[str, Any]:
    """Read a file and write its tensors; the result is the answer."""
    try:
        size = path.stat().st_size
        _check_names(path, size)
        import torch

        bounded = set_bounds(size)
        found = torch.load(path, map_location="cpu", weights_only=True)
        _write(found, size, out, skip)
    except UnreadableError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "needs more memory than a file of its size may"}
    except Exception as error:  # noqa: BLE001  # whatever torch meets in a stranger's file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return {"refused": f"is cut off or damaged ({printable(first)})"}
    return {"bounded": bounded}


def _check_names(path: Path, size: int) -> None:
    """Refuse a file of another kind, and one that asks for a name that no tensor needs."""
    with open(path, "rb") as file:
        start = file.read(len(LEGACY_START))
        if start == LEGACY_START:
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                _check_pickle(file)
            return
        if not start.startswith(ZIP_START):
            pickled = ": it is a pickle, which can run code, and none of torch's" if start[:1] == b"\x80" else ""
            raise UnreadableError(f"is no file of torch.save{pickled}")
        try:
            with zipfile.ZipFile(file) as archive, archive.open(_pickle_of(archive, size)) as pickle:
                _check_pickle(pickle)
        except zipfile.BadZipFile as error:
            raise UnreadableError("is cut off or damaged: its list of members, which is at its end, cannot be read") from error


def _pickle_of(archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """The member that says what the file holds, after all members were found to be what torch writes."""
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise UnreadableError(f"has {len(members):,} members, more than the {MOST_MEMBERS:,} that are read")
    packed = next((member for member in members if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1), None)
    if packed is not None:
        raise UnreadableError(f"has a compressed or encrypted member ({printable(packed.filename)}), which torch.save never writes")
    declared = sum(member.file_size for member in members)
    if declared > size:
        raise UnreadableError(f"declares {declared:,} bytes of content in {size:,}: members overlap, or it is cut off")
    pickles = [member for member in members if member.filename.split("/", 1)[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise UnreadableError("is a zip archive, but none of torch.save's: it has no data.pkl")
    if pickles[0].file_size > MOST_PICKLE_BYTES:
        raise UnreadableError(f"has {pickles[0].file_size:,} bytes besides its tensors, more than {MOST_PICKLE_BYTES:,}")
    return pickles[0]


def _check_pickle(file: IO[bytes]) -> None:
    """Read one pickle's opcodes without running them."""
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_OPCODES:
                raise UnreadableError(f"has more than {MOST_OPCODES:,} steps besides its tensors")
            if opcode.name == "GLOBAL" and argument not in ALLOWED:
                name = printable(str(argument).replace(" ", "."))
                raise UnreadableError(f"asks for {name}, which could run code; only tensors in dicts, lists and tuples are read")
            if opcode.name in OTHER_WAYS:
                raise UnreadableError("asks for objects in a way that torch.save does not, which could run code")
    except ValueError as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"is cut off or damaged ({printable(str(error))})") from error


def set_bounds(size: int) -> bool:
    """Bound memory and time of this process from here on; tell whether memory has a bound."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    import psutil

    bounded = sys.platform == "linux"
    memory = psutil.Process().memory_info().vms + MEMORY_PER_BYTE * size + SPARE_BYTES
    for what, bound in ((resource.RLIMIT_CPU, CPU_SECONDS + size // CPU_BYTES_PER_SECOND), (resource.RLIMIT_AS, memory)):
        with contextlib.suppress(ValueError, OSError):  # a lower one holds already
            resource.setrlimit(what, (bound, resource.getrlimit(what)[1]))
    return bounded


def _write(found: object, size: int, out: Path, skip: list[str]) -> None:
    import torch
    from safetensors.torch import save_file

    if type(found) not in (dict, OrderedDict):
        raise UnreadableError(f"holds {_kind(found)}, not a dict of weights")
    assert isinstance(found, dict)
    kept = {key: value for key, value in found.items() if key not in skip}
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    total = 0
    for name, tensor in _tensors(kept):
        total += tensor.numel() * tensor.element_size()
        if tensor.layout != torch.strided or tensor.is_quantized or total > MEMORY_PER_BYTE * size:
            raise UnreadableError(f"holds a tensor that is none of plain numbers, or larger than the file ({printable(name)})")
        shared = tensor.untyped_storage().data_ptr() in storages
        storages.add(tensor.untyped_storage().data_ptr())
        plain = tensor.detach().contiguous()
        tensors[name] = plain.clone() if shared or plain.untyped_storage().nbytes() != plain.nbytes else plain
    scalars = {key: value for key, value in kept.items() if type(key) is str and type(value) in (str, int, float, bool, type(None))}
    save_file(tensors, out, metadata={SCALARS: json.dumps(scalars)})


def _tensors(found: dict[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor, by the keys that lead to it; anything that is neither tensor nor plain is refused."""
    import torch

    left: list[tuple[str, int, Any]] = [("", 0, found)]
    seen = 0
    while left:
        name, depth, value = left.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            raise UnreadableError(f"nests more than {DEEPEST} containers, or more than {MOST_VALUES:,} values, in each other")
        if type(value) in (torch.Tensor, torch.nn.Parameter):
            yield name, value
        elif type(value) in (dict, OrderedDict):
            left += [(f"{name}/{key}" if name else str(key), depth + 1, inner) for key, inner in reversed(value.items())]
        elif type(value) in (list, tuple):
            left += [(f"{name}/{place}", depth + 1, inner) for place, inner in reversed(list(enumerate(value)))]
        elif type(value) not in (str, int, float, bool, type(None)):
            raise UnreadableError(f"holds {_kind(value)} ({printable(name)}), which is neither a tensor nor a plain value")


def _kind(value: object) -> str:
    return f"an object of the class {printable(type(value).__name__)}"


if __name__ == "__main__":
    answer = main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # torch's own clean-up may fail where memory has a bound
