"""Say which layers of denoising-diffusion-pytorch's `Unet` ours has not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ddpm_cli.errors import RequestError
from ddpm_cli.interop.peers.peer_model import Weights, inexpressible

PROGRAM = "denoising-diffusion-pytorch"


def is_denoising_diffusion_pytorch(weights: Weights) -> bool:
    """Tell whether the names are those of its `Unet`, alone or in a `GaussianDiffusion`."""
    return any(name.endswith("init_conv.weight") for name in weights) and any("mid_block1.block1.proj" in name for name in weights)


def refusal(weights: Weights) -> RequestError:
    """Say what ours would have to have, each layer with the name of a weight of it."""
    return inexpressible(PROGRAM, _lacks(weights))


def _lacks(weights: Weights) -> Iterator[str]:
    layers = {
        r"init_conv\.weight$": "its first convolution sees 7x7 pixels",
        r"block1\.norm\.g$": "its residual blocks convolve first and normalise by RMSNorm then, not GroupNorm",
        r"downs\.\d+\.2\.to_out\.1\.g$": "its outer levels have linear attention",
        r"mem_kv$": "its attention has learned keys and values besides those of the pixels",
        r"downs\.0\.3\.1\.weight$": "it halves by space to depth and a 1x1 convolution",
        r"time_mlp\.1\.weight$": "its time embedding has a GELU",
        r"final_res_block\.block1\.proj\.weight$": "a last residual block sees the first convolution again",
    }
    for pattern, what in layers.items():
        name = next((name for name in weights if re.search(pattern, name)), None)
        if name is not None:
            yield f"{what} ({name})"
