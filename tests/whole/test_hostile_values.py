"""Whatever a JSON or TOML file holds, it is read or refused with a message: hypothesis thinks up the values.

FUZZ_EXAMPLES=10000 python -m pytest tests/whole/test_hostile_values.py -n 0     for more examples than the few of the suite
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from fake_runs import add_figure, fake_run
from fuzzing import SETS, STATE
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.config.resolve.outline import all_keys
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.errors import CheckpointError, ConfigError, DdpmError
from ddpm_cli.render.terminal.compare import comparison_json
from ddpm_cli.runs.checkpoints import load_checkpoint, read_manifest, save_checkpoint
from ddpm_cli.runs.directory import create_run, list_runs
from ddpm_cli.runs.figures import figure_of
from ddpm_cli.runs.metrics_log import MetricsLog, read_rows
from ddpm_cli.runs.run_directory import RunDirectory

CONFIG = load_config(sets=SETS).config
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
more = settings(max_examples=EXAMPLES, derandomize=True, deadline=5000, database=None)

SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    st.sampled_from([10**30, 10**400, -(2**63), "../x", "/etc/passwd", "\x1b[2J", "none", "auto"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12
)
TOML_SCALARS = st.one_of(
    *(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.dates(), st.times(), st.datetimes()),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
TOML_VALUES = st.recursive(
    TOML_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abk", max_size=3), inner)
)


def edited(known: dict[str, Any]) -> SearchStrategy[dict[str, Any]]:
    """What a program wrote, with any of its values replaced or removed, and others added."""
    changes = st.dictionaries(st.sampled_from(sorted(known)) | st.text(max_size=5), VALUES, min_size=1, max_size=3)
    removed = st.sets(st.sampled_from(sorted(known)), max_size=1)
    return st.builds(
        lambda new, gone: {key: value for key, value in ({**known, **new}).items() if key not in gone}, changes, removed
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = create_run(tmp_path_factory.mktemp("values") / "runs", "run", "run")
    return save_checkpoint(run, 6, {}, STATE, to_toml(CONFIG), keep_last=1, best=False)


@contextmanager
def changed(path: Path, **texts: str) -> Iterator[None]:
    """Files of a checkpoint that hold something else during the block; the manifest agrees with them unless it is one of them."""
    good = {file: file.read_bytes() for file in path.iterdir()}
    manifest = json.loads((path / "manifest.json").read_text())
    for name, text in texts.items():
        manifest["files"][f"{name}.json"] = {"size": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    try:
        for name, text in ({"manifest": json.dumps(manifest)} | texts).items():
            (path / f"{name}.json").write_text(text)
        yield
    finally:
        for file, content in good.items():
            file.write_bytes(content)


@given(state=edited(STATE) | VALUES)
@more
def test_a_state_is_read_or_refused(checkpoint: Path, state: Any) -> None:
    with changed(checkpoint, state=json.dumps(state)), contextlib.suppress(CheckpointError):
        found = load_checkpoint(checkpoint).state
        for key in STATE:
            found[key]


@given(data=st.data())
@more
def test_a_manifest_is_read_or_refused(checkpoint: Path, data: st.DataObject) -> None:
    good = json.loads((checkpoint / "manifest.json").read_text())
    files = good["files"]
    manifest = data.draw(edited(good) | edited(files).map(lambda entries: good | {"files": entries}) | VALUES)
    with changed(checkpoint, manifest=json.dumps(manifest)), contextlib.suppress(CheckpointError):
        assert read_manifest(checkpoint).files.keys() <= {"config.toml", "state.json"} | set(manifest["files"])
        load_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    made = fake_run(tmp_path_factory.mktemp("runs"), "one")
    add_figure(made, 1.0)
    return made


@given(
    rows=st.lists(edited({"step": 3, "images": 30, "seconds": 0.5, "loss": 0.1}) | VALUES, max_size=4), torn=st.binary(max_size=30)
)
@more
def test_a_log_is_read_and_cut(run: RunDirectory, rows: list[Any], torn: bytes) -> None:
    from ddpm_cli.runs.record import read_run

    good = run.metrics_log.read_bytes()
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    try:
        run.metrics_log.write_bytes(lines + torn.replace(b"\n", b""))
        read_run(run)
        MetricsLog(run.metrics_log).truncate_after(5)
        assert all(row["step"] <= 5 for row in read_rows(run.metrics_log))
        assert run.metrics_log.read_bytes().count(b"\n") == len(read_rows(run.metrics_log))
    finally:
        run.metrics_log.write_bytes(good)


@given(data=st.data())
@more
def test_a_figure_is_read_or_passed_over(run: RunDirectory, data: st.DataObject) -> None:
    from ddpm_cli.render.terminal.evaluate import figure_lines

    (row,) = read_rows(run.evaluations_folder / "figures.jsonl")
    row = data.draw(edited(row) | edited(row["details"]).map(lambda details: row | {"details": details}))
    if figure := figure_of(json.loads(json.dumps(row))):
        assert all(text.isprintable() for line in figure_lines(figure) for text in line)


@given(info=edited({"created": 1.0, "device": "cpu", "data": {"sha256": "d", "train_images": 5}}) | VALUES)
@more
def test_facts_of_a_run_are_read_or_refused(run: RunDirectory, info: Any) -> None:
    from ddpm_cli.experiments.compare import compare

    good = run.info_path.read_bytes()
    try:
        run.info_path.write_text(json.dumps(info))
        assert len(list_runs(run.path.parent)) <= 1
        with contextlib.suppress(DdpmError):
            json.dumps(comparison_json(compare([run.path, run.path / "."], runs=run.path.parent)))
    finally:
        run.info_path.write_bytes(good)


@given(key=st.sampled_from(sorted(all_keys())), value=TOML_VALUES, text=st.text(max_size=30))
@more
def test_a_config_is_read_or_refused(key: str, value: Any, text: str) -> None:
    section, _, rest = key.partition(".")
    tree: Any = value
    for part in reversed([section, *rest.split(".")]):
        tree = {part: tree}
    for attempt in (
        lambda: from_toml_text(tomli_w.dumps(tree)),
        lambda: from_toml_text(to_toml(CONFIG) + text),
        lambda: load_config(sets=[f"{key}={text}"]),
        lambda: load_config(flags={key: (value, "--flag")}),
    ):
        with contextlib.suppress(ConfigError):
            attempt()
