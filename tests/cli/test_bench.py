from __future__ import annotations

import json

import pytest
from command import Ddpm, assert_refused
from tiny_configs import NETWORK, as_options

CHANGES = {"model.stem": 1, "model.norm_groups": 4, "sample.sampler": "ddim"}
TINY_NETWORK = (*as_options(NETWORK | CHANGES), "--device=cpu")


def assert_spread(spread: dict[str, float], most: float = float("inf")) -> None:
    assert set(spread) == {"median", "low", "high"}
    assert 0 < spread["low"] <= spread["median"] <= spread["high"] < most


def test_json_holds_every_figure_and_nothing_else_is_on_stdout(ddpm: Ddpm) -> None:
    arguments = ("--batch-sizes=3,1", "--precisions=fp32,bf16", "--seconds=0.5", "--against=diffusers", "--json")
    done = ddpm("bench", *TINY_NETWORK, *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"machine", "image_shape", "network", "cases", "peers", "duels", "notes"}
    assert found["machine"]["threads"] == 1
    assert {"ddpm", "python", "torch", "diffusers"} <= set(found["machine"]["versions"])
    assert found["image_shape"] == [1, 28, 28]

    points = [(case["precision"], case["batch_size"]) for case in found["cases"]]
    assert points == [("fp32", 1), ("fp32", 3), ("bf16", 1), ("bf16", 3)]
    for case in found["cases"]:
        assert case["rounds"] in (3, 5)
        assert case["memory_bytes"] > 50e6
        assert_spread(case["convolution_gflops"])
        assert_spread(case["gemm_gflops"])
        for work in (case["training"], case["sampling"]):
            assert_spread(work["per_second"])
            assert_spread(work["gflops"])
            assert_spread(work["of_convolution_peak"], 1.5)
            assert_spread(work["of_gemm_peak"], 1.5)
            assert not work["compiled"]

    ours, theirs = found["network"], found["peers"][0]
    assert theirs == ours | {"name": "diffusers", "flops_per_image": theirs["flops_per_image"]}  # no differences
    assert ours["flops_per_image"] < theirs["flops_per_image"]  # of upsampling, computed with fewer products
    assert ours["same"]
    assert ours["differences"] == []
    told = [(duel["precision"], duel["batch_size"], duel["work"], duel["peer"]) for duel in found["duels"]]
    peers = ("diffusers", "diffusers-network")
    assert told == [(*point, work, peer) for point in points for work in ("training", "sampling") for peer in peers]
    for duel in found["duels"]:
        assert (duel["ours_compiled"], duel["theirs_compiled"]) == (False, False)
        for name in ("ours", "theirs", "ratio"):
            assert_spread(duel[name])


def test_tables_are_the_default(ddpm: Ddpm) -> None:
    done = ddpm("bench", *TINY_NETWORK, "--batch-sizes=2", "--seconds=0.2")
    assert done.returncode == 0, done.stderr
    for word in ("training", "sampling", "images/s", "evaluations/s", "of conv", "memory", "1 thread", "28x28, 1 channel"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--against=difusers"], ["'difusers'", '"diffusers"']),
        (["--batch-sizes=8,none"], ["'none'", "--batch-sizes 1,8,32"]),
        (["--batch-sizes=0"], ["whole numbers from 1"]),
        (["--precisions=fp8"], ["'fp8'", "fp32, bf16, fp16"]),
        (["--precisions=fp16"], ["fp16 needs a CUDA device"]),
        (["--preset=quik"], ['"quick"']),
    ],
)
def test_wrong_requests_are_told(ddpm: Ddpm, arguments: list[str], words: list[str]) -> None:
    assert_refused(ddpm("bench", "--device=cpu", *arguments), *words)
