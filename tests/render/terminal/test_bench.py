from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import ConsoleDimensions

from ddpm_cli.render.terminal.bench import bench_sheets, lead, show_benchmark
from ddpm_cli.render.terminal.console import CleanConsole
from ddpm_cli.results.benchmark import UNDER_OUR_LOOP, Benchmark, Case, Duel, Machine, Network, Speed, Spread

SPREAD = Spread(12345.6, 11234.5, 23456.7)
SPEED = Speed(SPREAD, Spread(423456.7, 4e5, 5e5), Spread(0.714, 0.7, 0.8), Spread(0.0312, 0.03, 0.04), compiled=True)
FOUND = Benchmark(
    Machine("cuda:0", "NVIDIA H100 80GB HBM3", 16, "Linux-6.1-x86_64", {"torch": "2.14.1", "smalldiffusion": "0.5.0"}),
    (3, 32, 32),
    Network("ddpm", 35_746_307, 12_100_000_000, same=True),
    tuple(
        Case(size, precision, 5, 71_300_000_000, SPREAD, SPREAD, SPEED, SPEED)
        for size in (1, 1024)
        for precision in ("fp32", "bf16")
    ),
    (
        Network("diffusers", 35_746_307, 12_100_000_000, same=True),
        Network(
            "smalldiffusion", 35_746_307, 12_100_000_000, False, ("no stem, so 16 times the pixels", "an embedding of log sigma")
        ),
    ),
    tuple(
        Duel(
            peer,
            work,
            1024,
            "bf16",
            5,
            SPREAD,
            SPREAD,
            Spread(1.3, 1.25, 12.345),
            ours_compiled=True,
            theirs_compiled=peer == UNDER_OUR_LOOP,
        )
        for work in ("training", "sampling")
        for peer in ("diffusers", UNDER_OUR_LOOP, "smalldiffusion")
    ),
    ("The machine was not steady.",),
)


@pytest.mark.parametrize("width", [80, 200])
def test_tables_are_whole(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CleanConsole, "is_terminal", True)
    monkeypatch.setattr(CleanConsole, "size", ConsoleDimensions(width, 50))
    show_benchmark(FOUND)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    rows = [line.split() for line in lines]
    work = ["1,024", "bf16", "12,346", "11,234-23,457", "423,457", "71%", "3%"]
    assert rows.count(work) == 2
    assert rows.count(["1,024", "bf16", "12,346", "12,346", "71.3", "GB", "5"]) == 1
    assert rows.count(["smalldiffusion", "1,024", "bf16", "12,346", "12,346", "1.30", "1.25-12.35"]) == 2
    assert rows.count(["diffusers-network", "1,024", "bf16", "12,346", "12,346", "1.30", "1.25-12.35"]) == 2
    flat = " ".join(word for row in rows for word in row)
    for text in ("NVIDIA H100 80GB HBM3 (cuda:0), 16 threads", "nothing: the same network", "no stem, so 16", "not steady"):
        assert text in flat
    assert flat.count("the network alone. Compiled: ours, diffusers-network.") == 2
    assert "compiled: training, sampling" in flat


def test_what_is_not_compiled_is_told() -> None:
    case = replace(FOUND.cases[0], training=replace(SPEED, compiled=False))
    assert lead(replace(FOUND, cases=(case,)))[-1] == "compiled: sampling"
    duels = tuple(
        replace(duel, ours_compiled=False, theirs_compiled=False) for duel in FOUND.duels if duel.peer == "smalldiffusion"
    )
    assert {sheet.remark for sheet in bench_sheets(replace(FOUND, duels=duels))[-2:]} == {"Compiled: nothing."}


def test_without_cases_there_are_notes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show_benchmark(Benchmark(FOUND.machine, FOUND.image_shape, FOUND.network, (), (), (), FOUND.notes))
    assert capsys.readouterr().out.splitlines()[-1] == "The machine was not steady."
