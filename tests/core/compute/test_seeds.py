from __future__ import annotations

import torch

from ddpm_cli.core.compute.seeds import generator, seed_of


def test_seeds_differ_by_purpose_and_place_and_never_else() -> None:
    places = [(s, p, c) for s in (0, 1) for p in ("noise", "dropout") for c in ((), (0,), (1,), (0, 1), (1, 0))]
    seeds = {seed_of(s, p, *c) for s, p, c in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(3, "noise", 7) == seed_of(3, "noise", 7)
    draws = [torch.randn(4, generator=generator(torch.device("cpu"), 3, "noise", 7)) for _ in range(2)]
    assert torch.equal(*draws)
