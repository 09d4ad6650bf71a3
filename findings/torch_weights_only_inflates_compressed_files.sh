#!/usr/bin/env bash
# torch.load(weights_only=True) inflates compressed members, which torch.save never writes, and lets through more than tensors.
#
# Versions: torch 2.14.1, Python 3.11.
# Expected: a file whose members are compressed is refused, as torch.save stores them as they are, so that a file needs about as much
#       memory as it has bytes; and a loader "of weights alone" makes tensors, containers and plain values.
# Seen: (1) a file of 0.2 MB becomes a tensor of 200 MB. (2) collections.Counter, torch.device, complex, set and bytearray are made
#       as well.
# So whoever reads a stranger's file has to look at the archive's list of members before torch sees it, to bound the process's memory,
# and to keep a list of names of one's own.
# Output seen:
#   bytes of the file: 195,442; of the tensor that was loaded: 200,000,000
#   made: Counter, device, complex, set, bytearray
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy 2>"$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import os
import zipfile
from collections import Counter

import torch

file = io.BytesIO()
torch.save({"weight": torch.zeros(200_000_000, dtype=torch.uint8)}, file)
with zipfile.ZipFile(file) as stored, zipfile.ZipFile("small.pt", "w", zipfile.ZIP_DEFLATED) as packed:
    for member in stored.infolist():
        packed.writestr(member.filename, stored.read(member))
loaded = torch.load("small.pt", weights_only=True)["weight"]
print(f"bytes of the file: {os.path.getsize('small.pt'):,}; of the tensor that was loaded: {loaded.nbytes:,}")
assert loaded.nbytes > 1000 * os.path.getsize("small.pt")

made = []
for value in (Counter("aab"), torch.device("cpu"), complex(1, 2), {1, 2}, bytearray(b"a")):
    torch.save({"value": value}, "value.pt")
    made.append(type(torch.load("value.pt", weights_only=True)["value"]).__name__)
print("made:", ", ".join(made))
assert made == ["Counter", "device", "complex", "set", "bytearray"]
PYTHON
