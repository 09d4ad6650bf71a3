"""Files that were made to do harm: each ends in one message, within 5 seconds and 500 MB, and nothing is written elsewhere.

Seconds and memory are those of each test beyond what importing torch takes, see limits.py: `cost` measures all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Ddpm, assert_refused, files_below
from fake_runs import add_figure, fake_run
from fuzzing import SETS, STATE
from limits import within_limits
from PIL import Image
from safetensors.torch import save

from ddpm_cli.cli.app import app
from ddpm_cli.config.loader import from_toml_text, load_config
from ddpm_cli.config.sweep import load_sweep
from ddpm_cli.config.toml_text import to_toml
from ddpm_cli.data.arrays import load_arrays
from ddpm_cli.data.picture import MOST_PIXELS, decode, read_whole
from ddpm_cli.engine.build import build_model
from ddpm_cli.engine.generate import load_trained
from ddpm_cli.engine.schedule_table import read_schedule_table
from ddpm_cli.engine.weights import unflatten_optimizer
from ddpm_cli.errors import CheckpointError, ConfigError, DataError, RequestError, RunError, ScheduleError
from ddpm_cli.export.safetensors import load_model_file, save_model_file
from ddpm_cli.files import UnreadableError
from ddpm_cli.render.images import with_row_names
from ddpm_cli.runs.checkpoints import load_checkpoint, save_checkpoint
from ddpm_cli.runs.directory import create_run
from ddpm_cli.runs.figures import figure_of
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.tensor_files import HEADER_LIMIT, read_tensor_file

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cost() -> Iterator[None]:
    with within_limits():
        yield


CONFIG = to_toml(load_config(sets=SETS).config)
ESCAPE = "\x1b]0;owned\x07\x1b[2J\r\u202e"


def checkpoint(folder: Path, state: dict[str, Any] | None = None, config: str = CONFIG, text: bytes | None = None) -> Path:
    """A checkpoint whose sums are right, whatever is in it."""
    run = create_run(folder / "runs", None, "run")
    (run.path / "run.json").write_text('{"created": 1.0}')
    weights = build_model(load_config(sets=SETS).config.model, (1, 8, 8)).state_dict()
    path = save_checkpoint(run, 6, {"ema": weights, "model": weights}, state or STATE, config, keep_last=1, best=False)
    if text is not None:
        replace_sealed(path, "state.json", text)
    return path


def replace_sealed(path: Path, name: str, data: bytes) -> None:
    (path / name).write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))


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


def exported(path: Path, config: str = CONFIG, **facts: Any) -> Path:
    weights = build_model(load_config(sets=SETS).config.model, (1, 8, 8)).state_dict()
    text = json.dumps({"config": config, "image_shape": [1, 8, 8], "step": 6, "class_names": []} | facts)
    save_model_file(path, weights, {"ddpm": text})
    return path


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


# ------------------------------------------------------------------------------------------------------------ run folders


@pytest.mark.parametrize("make", [os.symlink, lambda target, path: os.mkfifo(path)], ids=["link", "pipe"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "lock"])
def test_resume_writes_into_no_link_and_no_pipe(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path, Path], None]
) -> None:
    run = Path(shutil.copytree(trained_folder / "runs" / "tiny", tmp_path / "runs" / "tiny"))
    (run / name).unlink()
    target = tmp_path / "mine"
    target.write_text("mine")
    make(target, run / name)
    before = files_below(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=name):
        app(["resume", "tiny", "--steps=7"], standalone_mode=False)
    assert target.read_text() == "mine"
    assert files_below(tmp_path).keys() - {"runs/tiny/lock"} == before.keys() - {"runs/tiny/lock"}


@pytest.mark.parametrize("name", ["evaluations", "evaluations/work"])
@pytest.mark.parametrize("asked", ["tiny", "runs/tiny/checkpoints/step-00000006"])
def test_evaluate_writes_into_no_link(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, asked: str
) -> None:
    run = Path(shutil.copytree(trained_folder / "runs" / "tiny", tmp_path / "runs" / "tiny"))
    (tmp_path / "mine").mkdir()
    (run / name).parent.mkdir(exist_ok=True)
    os.symlink(tmp_path / "mine", run / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="symbolic link"):
        app(["evaluate", asked, "--metrics=fcd", "--n=200", "--set=sample.sampler.steps=1"], standalone_mode=False)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("number", [10**400, 10**20, -1, 1.5, True, "6", None])
def test_rows_of_a_log_have_a_step(tmp_path: Path, number: Any) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": number, "loss": 1.0}) + "\n" + '{"step": 3}\n')
    assert [row["step"] for row in read_rows(path)] in ([3], [True, 3])


def test_a_figure_edited_by_hand_is_none(tmp_path: Path) -> None:
    run = fake_run(tmp_path, "one")
    add_figure(run, 1.0)
    (row,) = read_rows(run.evaluations_folder / "figures.jsonl")
    assert figure_of(row) is not None
    wrong: list[dict[str, Any]] = [
        *({"value": value} for value in ("1", None, 10**400, float("nan"))),
        *({"n": n} for n in (1.5, "1", 10**400)),
        *({"details": details} for details in ([], {"sampler": "ddim"}, row["details"] | {"steps": "x"})),
        *({"rows": rows} for rows in ([1], [{}], [{"t_first": 1, "t_last": "x", "loss": 1, "standard_error": 1}])),
        *({"terms": terms} for terms in ([], {"a": "x"})),
        *({"floor_n": None}, {"metric": 3}, {"notes": 3}),
    ]
    assert [change for change in wrong if figure_of(row | change) is not None] == []
    told = figure_of(row | {"metric": ESCAPE, "data": ESCAPE, "notes": [ESCAPE], "terms": {ESCAPE: 1.0}})
    assert told is not None
    assert (told.metric + told.data + told.notes[0] + next(iter(told.terms))).isprintable()


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


# -------------------------------------------------------------------------------------------------------------- configs


BOMBS = {
    "keys": "\n".join(f"k{number} = 1" for number in range(10_000)),
    "sections": "\n".join(f"[a{number}]" for number in range(10_000)),
    "faults": "[schedule]\nkind = 'table'\nbetas = [" + "'x', " * 40_000 + "]",
    "array": "x = " + "[" * 100_000,
    "closed array": "x = " + "[" * 100_000 + "]" * 100_000,
    "inline tables": "x = " + "{a = " * 100_000,
    "dotted key": ".".join("a" * 400_000) + " = 1",
    "spaced key": " . ".join(["'a'", '"b\\"."'] * 60_000) + " = 1",
    "dotted section": "[" + ".".join("a" * 400_000) + "]",
    "integer": "[train]\nseed = " + "9" * 900_000,
    "hexadecimal": "[train]\nseed = 0x" + "f" * 900_000,
    "long integer": "[train]\nseed = " + "9" * 4000,
    "float": "[optimizer]\nlr = " + "9" * 900_000 + ".0",
    "string": "[schedule]\nkind = '" + "x" * 900_000 + "'",
    "spaces": "a" + " " * 900_000,
    "quotes": '"' * 900_000,
    "escapes": '"' + "\\" * 900_000,
    "dates": "[train]\nseed = 9999-99-99T99:99:99",
    "control": "[train]\nseed = '\\u001b[2J'",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.timeout(20)
def test_toml_bombs_are_refused(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(BOMBS[bomb])
    for read in (lambda: load_config(file=path), lambda: from_toml_text(BOMBS[bomb]), lambda: load_sweep(path)):
        with pytest.raises(ConfigError) as refused:
            read()
        assert len(str(refused.value)) < 20_000
        assert len(str(refused.value).splitlines()) < 30


def test_thousands_of_faults_are_counted_and_a_few_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(BOMBS["keys"])
    with pytest.raises(ConfigError, match="and 9,980 more"):
        load_config(file=path)


def test_a_key_of_many_parts_in_a_text_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[train] # a.b.c.d, 1.2.3\nseed = 3\n" + "# " + "." * 1000 + "\n" + f"# {'1.5, ' * 1000}\n")
    assert load_config(file=path).config.train.seed == 3


@pytest.mark.parametrize("grid", ["seed = [" + "1, " * 200_000 + "]", "seed = [1, 2]\n" + "steps = [" + "1, 2, " * 1000 + "]"])
def test_sweep_bombs_are_refused(tmp_path: Path, grid: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f"[grid.train]\n{grid}\n")
    with pytest.raises(ConfigError):
        load_sweep(path)


@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", ".", "..", "", "a\nb", "a\n", "x\0", "-x", ".x", "a\\b", "ä", "x" * 101])
def test_names_that_are_paths_are_refused_everywhere(tmp_path: Path, name: str) -> None:
    root = tmp_path / "runs"
    for attempt in (lambda: create_run(root, name, "run"), lambda: create_run(root, None, name)):
        with pytest.raises(RunError, match="cannot be the name of a run"):
            attempt()
    file = tmp_path / "sweep.toml"
    file.write_text(f"[arms.{json.dumps(name)}]\n")
    with pytest.raises(RunError, match="cannot be the name of a run"):
        load_sweep(file, name)
    with pytest.raises(ConfigError, match="cannot be the name of a run"):
        load_sweep(file, "sweep")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.toml"]


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "text",
    [
        *(
            "beta\nnan\n",
            "beta\ninf\n",
            '{"betas": [NaN]}',
            '{"betas": [1e999]}',
            '{"betas": [0.1, "\\u001b[2J"]}',
            "beta\n\x1b[2J\n",
        ),
        *("beta\n" + "0\n" * 500_000, '{"betas": [' + "0," * 500_000 + "0]}", '{"betas": [' + "[]," * 300_000 + "[]]}"),
        *(
            "a," * 1_000_000,
            "[" * 9_000_000,
            '"' + "x" * 9_000_000,
            "\0\1\2",
            '{"betas": [' + "9" * 100_000 + "]}",
            "x" * 10_000_001,
        ),
    ],
    ids=range(15),
)
@pytest.mark.timeout(20)
def test_table_bombs_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ScheduleError) as refused:
        read_schedule_table(path, "betas")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


# -------------------------------------------------------------------------------------------------------------- pictures


def test_a_decompression_bomb_is_not_unpacked() -> None:
    side = int(MOST_PIXELS**0.5) + 1
    for form, mode in (("PNG", "1"), ("GIF", "1"), ("TIFF", "1")):
        buffer = io.BytesIO()
        Image.new(mode, (side, side)).save(buffer, format=form, **({"compression": "group4"} if form == "TIFF" else {}))
        assert buffer.tell() < 2_000_000
        with pytest.raises(UnreadableError, match="would unpack to more than 50,000,000 pixels"):
            decode(buffer.getvalue(), (3, 8, 8), "white")


@pytest.fixture(scope="module", params=["LA", "RGBA", "CMYK"])
def largest_picture(request: pytest.FixtureRequest) -> bytes:
    """As many pixels as are read, of a kind that is converted and turned on its side: three copies of it if done carelessly."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    form = "JPEG" if request.param == "CMYK" else "PNG"
    Image.new(request.param, (7000, MOST_PIXELS // 7000)).save(buffer, format=form, exif=exif)
    return buffer.getvalue()


def test_the_largest_picture_is_read_within_the_limits(largest_picture: bytes) -> None:
    assert decode(largest_picture, (3, 8, 8), "white").shape == (3, 8, 8)
    assert read_whole(largest_picture)[0].height == 7000


def test_threads_together_hold_no_more_than_the_largest_picture(largest_picture: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(decode, shape=(1, 8, 8), background="white"), [largest_picture] * 2))


def test_an_archive_of_arrays_that_is_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 28, 28)})
        for _ in range(28 * 28):
            file.write(bytes(2**20))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"would unpack to 0\.8 GB"):
        load_arrays(path)


# ------------------------------------------------------------------------------------------------------------- terminals


def test_nothing_that_a_file_says_reaches_the_terminal_raw() -> None:
    program = """
        from rich.table import Table
        from rich.text import Text
        from ddpm_cli.errors import DdpmError
        from ddpm_cli.render.console import messages, print_text, results, show_error, show_line
        from ddpm_cli.config.faults import Fault

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
    assert "first\nsecond" in shown
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
