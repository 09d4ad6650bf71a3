#!/usr/bin/env bash
# safetensors 0.8.0 with torch 2.14.1: safetensors.torch.load_file refuses a file that safetensors.torch.save_file has just written,
# if the name of its folder is no UTF-8.
#
# Expected: what save_file writes load_file reads, at every name that the system takes; on Linux a name is any bytes.
# Seen: save_file and safe_open(framework="numpy") take the name, safe_open(framework="pt") and so load_file raise SafetensorError,
# "Path ... is not valid UTF-8". They read the very same file through a symbolic link whose name is UTF-8, and load reads its bytes.
#
# Output seen:
#   save_file: None
#   safe_open, numpy: [1.0, 2.0]
#   safe_open, pt: SafetensorError: not valid UTF-8
#   load_file: SafetensorError: not valid UTF-8
#   load of the bytes: [1.0, 2.0]
#   load_file through a link: [1.0, 2.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 torch==2.14.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - > seen <<'PYTHON'
import os

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file

folder = os.fsdecode(b"caf\xe9")
os.mkdir(folder)
path = f"{folder}/x.safetensors"


def told(name, call):
    try:
        print(f"{name}: {call()}")
    except SafetensorError as error:
        print(f"{name}: SafetensorError: {'not valid UTF-8' if 'not valid UTF-8' in str(error) else error}")


def opened(framework):
    with safe_open(path, framework=framework) as file:
        return file.get_tensor("x").tolist()


told("save_file", lambda: save_file({"x": torch.tensor([1.0, 2.0])}, path))
told("safe_open, numpy", lambda: opened("numpy"))
told("safe_open, pt", lambda: opened("pt"))
told("load_file", lambda: load_file(path)["x"].tolist())
with open(path, "rb") as file:
    print("load of the bytes:", load(file.read())["x"].tolist())
os.symlink(folder, "link")
told("load_file through a link", lambda: load_file("link/x.safetensors")["x"].tolist())
PYTHON
cat seen
diff seen - <<'EXPECTED'
save_file: None
safe_open, numpy: [1.0, 2.0]
safe_open, pt: SafetensorError: not valid UTF-8
load_file: SafetensorError: not valid UTF-8
load of the bytes: [1.0, 2.0]
load_file through a link: [1.0, 2.0]
EXPECTED
