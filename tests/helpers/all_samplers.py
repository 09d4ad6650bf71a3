"""Every kind of sampler, and those of its options that take another way through its code."""

from __future__ import annotations

from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.config.schema.sample import (
    DdimSampler,
    DdpmSampler,
    DpmSolverSampler,
    EulerSampler,
    HeunSampler,
    SamplerBase,
    UnipcSampler,
)

SAMPLERS: dict[str, SamplerBase] = {kind: cls() for kind, cls in sections()["sample.sampler"].items()} | {
    "ddpm fixed-large": DdpmSampler(variance="fixed-large"),
    "ddpm learned-range": DdpmSampler(variance="learned-range"),
    "ddim eta 1": DdimSampler(eta=1.0),
    "euler churn": EulerSampler(s_churn=2.0, s_noise=1.01),
    "heun churn": HeunSampler(s_churn=2.0, s_noise=1.01),
    "dpm-solver++ 1": DpmSolverSampler(order=1),
    "dpm-solver++ 3": DpmSolverSampler(order=3),
    "dpm-solver++ 1 sde": DpmSolverSampler(order=1, sde=True),
    "dpm-solver++ 2 sde": DpmSolverSampler(sde=True),
    "dpm-solver++ 3 sde": DpmSolverSampler(order=3, sde=True),
    "unipc bh1": UnipcSampler(variant="bh1"),
    "unipc 1": UnipcSampler(order=1),
    "unipc 3": UnipcSampler(order=3),
}
