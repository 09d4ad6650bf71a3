"""Files that were made to do harm: each ends in one message, within 5 seconds and 500 MB, and nothing is written elsewhere.

Seconds and memory are those of each test beyond what importing torch takes, see limits.py: `cost` measures all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Ddpm, assert_refused, files_below
from fuzzing import SETS, STATE
from hostile import CONFIG, CPU, ESCAPE, checkpoint, exported, replace_sealed
from PIL import Image
from safetensors.torch import save
from tiny_configs import DIT, tiny_config
from trained_models import trained_dit

from ddpm_cli.build.network import build_model
from ddpm_cli.cli.app import app
from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.core.compute.weights import unflatten_optimizer
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.io.tensor_files import HEADER_LIMIT, read_tensor_file
from ddpm_cli.errors import CheckpointError, ConfigError, RequestError
from ddpm_cli.render.pictures.images import with_row_names
from ddpm_cli.runs.checkpoints import load_checkpoint
from ddpm_cli.runs.model_file import load_model_file, save_model_file
from ddpm_cli.sampling.bounds import Demand, require_affordable
from ddpm_cli.sampling.generate import load_trained

pytestmark = pytest.mark.usefixtures("cost")


def tensor_file(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    return json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


# -------------------------------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        tensor_file(b"{}", length=2**63),
        tensor_file(b"{}", length=2**64 - 1),
        tensor_file(b"[" * 100_000),
        tensor_file(b'{"a":' * 100_000),
        tensor_file(entry("F32", [2**40], [0, 4]), bytes(4)),
        tensor_file(entry("F32", [2**40, 2**40], [0, 4]), bytes(4)),
        tensor_file(entry("F32", [2**63, 0], [0, 0])),
        tensor_file(entry("F32", [-1], [0, 4]), bytes(4)),
        tensor_file(entry("F32", [1], [4, 8]), bytes(8)),
        tensor_file(entry("F32", [1], [4, 0]), bytes(4)),
        tensor_file(entry("F32", [1], [0, 2**62]), bytes(4)),
        tensor_file(entry("OBJECT", [1], [0, 4]), bytes(4)),
        tensor_file(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
            bytes(12),
        ),
        tensor_file(b'{"__metadata__":{"a":1}}'),
    ],
)
def test_absurd_tensor_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"^(is|has|needs) "):
        read_tensor_file(path)
    with pytest.raises(CheckpointError):
        load_trained(path, CPU)


def test_a_header_of_a_million_tensors_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((HEADER_LIMIT + 1).to_bytes(8, "little"))
        file.truncate(HEADER_LIMIT + 100)
    with pytest.raises(UnreadableError, match="header of 10,000,001 bytes"):
        read_tensor_file(path)


def test_a_file_larger_than_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensor_file(entry("F32", [2**42], [0, 2**44])))
    os.truncate(path, path.stat().st_size + 2**43)  # a hole, which takes no disk
    with pytest.raises(UnreadableError, match="GB of memory"):
        read_tensor_file(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.safetensors")
    with pytest.raises((UnreadableError, OSError)):
        read_tensor_file(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError):
        load_model_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["x.exp_avg", "0.evil", "", "-1.step", "9" * 5000 + ".step", "7.step", "0.step"])
def test_moments_of_no_optimizer_are_refused(name: str) -> None:
    fresh = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    with pytest.raises(CheckpointError, match="optimizer"):
        unflatten_optimizer({name: torch.zeros(1)}, fresh)


MOMENTS = {"0.step": torch.tensor(3.0), "0.exp_avg": -torch.ones(2, 3), "0.exp_avg_sq": torch.ones(2, 3)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("0.step", value) for value in (torch.zeros(2), torch.tensor(3), torch.tensor(-1.0), torch.tensor(float("nan")))),
        *(("0.exp_avg", value) for value in (torch.zeros(3, 2), torch.zeros(2**20), torch.zeros(2, 3, dtype=torch.int64))),
        *(("0.exp_avg", value) for value in (torch.full((2, 3), float("inf")), torch.zeros(2, 3, dtype=torch.complex64))),
        *(("0.exp_avg_sq", value) for value in (-torch.ones(2, 3), torch.full((2, 3), float("nan")), torch.zeros(()))),
    ],
)
def test_moments_that_no_training_leaves_are_refused(name: str, value: torch.Tensor) -> None:
    fresh = torch.optim.Adam([torch.zeros(2, 3, requires_grad=True)])
    assert unflatten_optimizer(MOMENTS, fresh)["state"][0]["step"] == 3
    with pytest.raises(CheckpointError, match=f"The checkpoint's optimizer has .* {name}"):
        unflatten_optimizer(MOMENTS | {name: value}, fresh)


# ---------------------------------------------------------------------------------------------------------- checkpoints


SCALER = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 3}
WRONG_SCALERS: tuple[dict[str, Any], ...] = (
    *({"scale": 0.0}, {"scale": float("inf")}, {"scale": -1.0}, {"growth_factor": 1.0}, {"backoff_factor": 0.0}),
    *({"backoff_factor": 1.5}, {"growth_interval": 0.5}, {"_growth_tracker": -1}, {"scale": None}),
)
WRONG: dict[str, list[Any]] = {
    "step": [-1, 1.5, "6", None, True, 10**30],
    "seconds": ["1", None, -1.0, float("nan"), float("inf"), 10**400, [1]],
    "image_shape": [[1, 8], "188", [1, 8, "8"], [0, 8, 8], [True, 8, 8], None, {"a": 1}],
    "data_sha256": [1, None, ["x"]],
    "class_names": ["ab", [1], {"a": 1}, None, [["a"]]],
    "ema_updates": ["6", -1, None, 2**70],
    "scaler": [1, [], {"scale": 1.0}, "x", *(SCALER | wrong for wrong in WRONG_SCALERS)],
    "loss_sums": [{}, {"interval": 1.0}, {"interval": "x", "epoch": 1.0}, {"interval": 10**400, "epoch": 1.0}, [], None],
    "loss_steps": [{}, {"interval": 1.5, "epoch": 1}, {"interval": -1, "epoch": 1}, 3],
    "history": [{}, [1], [[1]], [{"a": [1]}], [{"a": {}}], "x", None],
    "last_loss": ["x", [], {}, True, 10**400],
    "last_held_out_loss": ["x", [1]],
    "best_held_out_loss": [{}, False],
    "held_out_step": ["x", 1.5],
    "best_saved_loss": ["0.5", []],
    "non_finite_steps": [None, -1, 0.5],
}


def test_every_key_of_the_state_is_tried() -> None:
    assert WRONG.keys() == STATE.keys()


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_state_edited_by_hand_names_the_key(tmp_path: Path, key: str, value: Any) -> None:
    path = checkpoint(tmp_path, text=b"{}")
    replace_sealed(path, "state.json", json.dumps(STATE | {key: value}).encode())
    with pytest.raises(CheckpointError, match=f"state.json has no .* under '{key}'"):
        load_checkpoint(path)


def test_the_state_of_a_scaler_is_read(tmp_path: Path) -> None:
    assert load_checkpoint(checkpoint(tmp_path, STATE | {"scaler": SCALER})).state["scaler"] == SCALER


def test_a_state_of_another_step_than_the_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state\.json is of another step than manifest\.json"):
        load_checkpoint(checkpoint(tmp_path, STATE | {"step": 7}))


def test_a_key_that_is_missing_is_named_when_it_is_needed(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"seconds": 1.0})
    with pytest.raises(CheckpointError, match=r"state\.json lacks 'image_shape'"):
        load_trained(path, CPU)
    with pytest.raises(CheckpointError, match=r"state\.json lacks 'data_sha256'"):
        load_checkpoint(path).state["data_sha256"]


def test_the_command_refuses_an_edited_state(tmp_path: Path, ddpm: Ddpm) -> None:
    path = checkpoint(tmp_path)
    replace_sealed(path, "state.json", json.dumps(STATE | {"ema_updates": ESCAPE}).encode())
    before = files_below(tmp_path)
    assert_refused(ddpm("resume", "run-001"), "state.json has no count under 'ema_updates'")
    assert files_below(tmp_path).keys() - {"runs/run-001/lock"} == before.keys()


@pytest.mark.parametrize("text", [b"[" * 9_000_000, b'{"a":' * 1_000_000, b'{"step": ' + b"9" * 1_000_000 + b"}", b"\xff\xfe"])
def test_json_bombs_are_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"state\.json"):
        load_checkpoint(checkpoint(tmp_path, text=text))


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\nb", "a\0b", ".hidden", "x" * 200])
def test_a_manifest_cannot_name_paths(tmp_path: Path, name: str) -> None:
    path = checkpoint(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="no plain file name"):
        load_checkpoint(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "config.toml", "ema.safetensors"])
def test_pipes_links_and_folders_in_a_checkpoint_are_refused(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    path = checkpoint(tmp_path)
    (path / name).unlink()
    make(path / name)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(path)


# ---------------------------------------------------------------------------------- configs in checkpoints and exported files


GIANTS = {
    "base_channels = 2048": "another architecture",
    "base_channels = 1000000000": "model.base_channels",
    "blocks_per_level = 1000000000": "model.blocks_per_level",
    "blocks_per_level = 32": "another architecture",
    f"channel_mult = {[1] * 1000}": "model.channel_mult",
    "channel_mult = [1000000000000]": "model.channel_mult",
    "num_classes = 1000000000000": "model.num_classes",
}


@pytest.mark.parametrize(("line", "message"), GIANTS.items())
def test_a_giant_network_is_refused_before_it_takes_memory(tmp_path: Path, line: str, message: str) -> None:
    key = line.partition(" ")[0]
    kept = "\n".join(old for old in CONFIG.splitlines() if not old.startswith(f"{key} ="))
    config = kept.replace("[model]", f"[model]\n{line}")
    with pytest.raises((CheckpointError, ConfigError), match=message):
        load_trained(exported(tmp_path / "x.safetensors", config), CPU)


def dit_file(path: Path, image_shape: tuple[int, int, int], *sets: str) -> Path:
    """An exported transformer, whose weights fit images of any size, with a config of some settings more."""
    weights = trained_dit("model.patch_size=1").network.state_dict()
    config = to_toml(tiny_config("model.patch_size=1", "schedule.timesteps=12", *sets, network=DIT))
    text = json.dumps({"config": config, "image_shape": image_shape, "step": 6, "class_names": []})
    save_model_file(path, weights, {"ddpm": text})
    return path


@pytest.mark.parametrize("line", ["model.depth=256", "model.width=16384", "model.registers=4096", "model.mlp_ratio=64"])
def test_a_giant_transformer_is_refused_before_it_takes_memory(tmp_path: Path, line: str) -> None:
    with pytest.raises(CheckpointError, match="another architecture"):
        load_trained(dit_file(tmp_path / "x.safetensors", (1, 8, 8), line), CPU)


def test_a_transformer_for_giant_images_takes_no_memory_before_it_is_refused(tmp_path: Path) -> None:
    trained = load_trained(dit_file(tmp_path / "x.safetensors", (1, 8192, 8192)), CPU)
    settings = trained.config.sample
    with pytest.raises(RequestError, match="8192x8192"):
        require_affordable(trained, settings, Demand.of(trained, settings, 1))


@pytest.mark.parametrize("command", ["resume", "sample", "export", "evaluate"])
def test_every_command_compares_a_network_with_its_weights_before_it_is_built_and_before_data_are_read(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = f"data.root={tmp_path / 'absent'}"
    giant = to_toml(load_config(sets=[*SETS, "model.base_channels=1024", "data.kind=folder", absent]).config)
    checkpoint(tmp_path, config=giant)
    before = files_below(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = {"evaluate": ["run-001", "--metrics=bits-per-dim"]}
    with pytest.raises(CheckpointError, match="another architecture"):
        app([command, *arguments.get(command, ["run-001"])], standalone_mode=False)
    assert files_below(tmp_path).keys() - {"runs/run-001/lock"} == before.keys()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    path = checkpoint(tmp_path)
    weights = build_model(load_config(sets=SETS).config.model, (1, 8, 8)).state_dict()
    name = list(weights)[-1]
    weights[name] = torch.full_like(weights[name], number, dtype=torch.float64)
    replace_sealed(path, "ema.safetensors", save(weights))
    with pytest.raises(CheckpointError, match=rf"not finite numbers \({name}\): its training has diverged"):
        load_trained(path, CPU)


@pytest.mark.parametrize("text", ["", " \n\t\n", "# nothing", "[train]\nseed = 1", "[model]\n[schedule]\nkind = 'linear'"])
def test_a_stored_config_that_lacks_sections_is_no_default_config(tmp_path: Path, text: str) -> None:
    path = checkpoint(tmp_path)
    replace_sealed(path, "config.toml", text.encode())
    for stored in (path, exported(tmp_path / "x.safetensors", text)):
        with pytest.raises(ConfigError, match="objective: is missing, but a stored config is complete"):
            load_trained(stored, CPU)


def test_a_history_of_losses_has_bounds() -> None:
    sets = ["objective.timesteps.kind=loss-aware", "objective.timesteps.history=1000", "schedule.timesteps=10001"]
    with pytest.raises(ConfigError, match=r"history keeps 10,001,000 losses"):
        load_config(sets=sets)


def test_a_network_larger_than_the_memory_is_refused() -> None:
    model = load_config(sets=["model.base_channels=16384", "model.channel_mult=[256]"]).config.model
    with pytest.raises(ConfigError, match="GB of memory, but this machine has"):
        build_model(model, (1, 8, 8))


@pytest.mark.parametrize(
    "facts",
    [
        *({"image_shape": shape} for shape in ("1x8x8", [1, 8], [1, 65536, 65536], [2**70, 1, 1], [1, 8, 8.0], None, [-1, 8, 8])),
        *({"step": step} for step in ("6", -1, None, 1e400, 2**80, True)),
        *({"class_names": names} for names in ("ab", [1], ["x" * 2000], {"a": 1})),
        *({"config": config} for config in (1, None, [], "\0", "a = ", "model = 3")),
    ],
)
def test_facts_of_another_kind_are_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises((CheckpointError, ConfigError)):
        load_trained(exported(tmp_path / "x.safetensors", **facts), CPU)


def test_a_stored_config_cannot_have_other_files_read(tmp_path: Path) -> None:
    table = tmp_path / "secret.json"
    table.write_text(json.dumps([0.01] * 20))
    lines = f'[schedule]\nkind = "table"\ntimesteps = 20\npath = "{table}"\nvalues = "betas"\n'
    config = CONFIG.partition("[schedule]")[0] + lines + "\n[model]" + CONFIG.partition("[model]")[2]
    with pytest.raises(ConfigError, match=r"schedule\.path: names a file outside"):
        load_trained(exported(tmp_path / "x.safetensors", config), CPU)
    with pytest.raises(ConfigError, match=r"schedule\.path: names a file outside"):
        load_trained(checkpoint(tmp_path, config=config), CPU)


# ------------------------------------------------------------------------------------------------------------- terminals


def test_nothing_that_a_file_says_reaches_the_terminal_raw() -> None:
    program = """
        from rich.table import Table
        from rich.text import Text
        from ddpm_cli.errors import DdpmError
        from ddpm_cli.render.terminal.console import messages, print_text, results, show_error, show_line
        from ddpm_cli.config.resolve.faults import Fault

        evil = "ev\\x1b]0;owned\\x07\\x1b[2J\\r\\x9b2J\\u202eil"
        table = Table()
        table.add_column(Text(evil))
        table.add_row(Text(evil, "bold red"))
        for console in (results, messages):
            console.print(table)
            console.print(Text(evil))
        print_text(evil)
        show_line(evil, "bold", evil)
        show_error(DdpmError(f"first\\nsecond {Fault(evil, evil, evil)}", evil))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    shown = done.stdout + done.stderr
    assert re.search(r"first\n *second", shown)
    assert shown.count("ev") >= 8
    assert [letter for letter in shown if not letter.isprintable() and letter != "\n"] == []


def test_sampling_neither_shows_escapes_nor_looks_at_the_data(tmp_path: Path, ddpm: Ddpm) -> None:
    names = [ESCAPE + "../../x", "b"]
    config = to_toml(
        load_config(sets=[*SETS, "model.num_classes=2", "data.kind=folder", f"data.root={tmp_path / 'absent'}"]).config
    )
    path = checkpoint(tmp_path, STATE | {"class_names": names}, config)
    replace_sealed(path, "ema.safetensors", save(build_model(from_toml_text(config).model, (1, 8, 8)).state_dict()))
    before = files_below(tmp_path)
    done = ddpm("sample", str(path), "--label=0", "--n=1", "--sampler=ddim", "--steps=1", "--out=x.png", "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path).keys() - before.keys() == {"x.png"}
    assert "../../x" in done.stderr
    assert [letter for letter in done.stdout + done.stderr if not letter.isprintable() and letter != "\n"] == []
    assert with_row_names(Image.new("L", (8, 16)), names).size[1] == 16
