"""A short, seeded part of tests/soak/fuzz.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import Attack, attack, attacks, written_outside
from fuzzing_archives import archive_attacks
from fuzzing_formats import format_attacks
from fuzzing_pipelines import pipeline_attacks
from fuzzing_runs import FORGIVING, run_attacks

INPUTS = {
    **{"checkpoint": 150, "exported file": 150, "what a file asks for": 60, "config": 300, "table": 300, "picture": 300},
    **{"colour profile": 200, "large file": 60, "labels": 200},
    **{
        "training state": 60,
        "run folder": 60,
        "averages": 60,
        "parts of an evaluation": 100,
        "image cache": 60,
        "extractor weights": 60,
        "arrays of images": 150,
        "MATLAB files": 100,
        "HDF5 files": 100,
        "archives of others": 100,
        "tables of pixels": 100,
        "raw pixels": 60,
        "pipeline": 60,
        "zip": 100,
        "tar": 100,
        "packed tar": 100,
        "parquet": 60,
    },
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def prepared(scratch: Path) -> dict[str, Attack]:
    return attacks(scratch) | run_attacks(scratch) | format_attacks(scratch) | archive_attacks(scratch) | pipeline_attacks(scratch)


@pytest.mark.parametrize("reader", INPUTS)
def test_no_input_brings_a_reader_down(scratch: Path, prepared: dict[str, Attack], reader: str) -> None:
    with written_outside(scratch) as outside:
        outcome = attack(prepared[reader], range(10**6, 10**6 + INPUTS[reader]))
    assert outcome.failures == []
    assert outside == set()
    assert reader in FORGIVING or outcome.counts["read"] < INPUTS[reader] / 2, "the mutations are too weak to test anything"


def test_a_failure_is_told_with_its_seed() -> None:
    def fragile(dice: object) -> None:
        raise KeyError("x")

    assert attack(fragile, range(7, 8)).failures[0].startswith("seed 7: KeyError")
