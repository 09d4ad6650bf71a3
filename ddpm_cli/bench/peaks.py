"""Measure a device at its best: a matrix product and a 3x3 convolution of sizes that suit it."""

from __future__ import annotations

import torch

from ddpm_cli.bench.timing import Work

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU_MATRIX, CPU_MAPS = 1024, (32, 128, 16)
ACCELERATOR_MATRIX, ACCELERATOR_MAPS = 8192, (256, 256, 32)


def gemm(precision: str, device: torch.device) -> Work:
    """Multiply two square matrices, in FLOPs."""
    size = CPU_MATRIX if device.type == "cpu" else ACCELERATOR_MATRIX
    left, right = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    result = torch.empty_like(left)
    return Work(lambda: torch.mm(left, right, out=result), 2 * size**3)


def convolution(precision: str, device: torch.device) -> Work:
    """Convolve by 3x3 and keep the channels, in FLOPs, with the channels last, as the libraries compute it fastest."""
    images, channels, side = CPU_MAPS if device.type == "cpu" else ACCELERATOR_MAPS
    dtype, layout = DTYPES[precision], torch.channels_last
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype).to(memory_format=layout)
    x = torch.randn(images, channels, side, side, device=device, dtype=dtype).contiguous(memory_format=layout)
    return Work(torch.no_grad()(lambda: layer(x)), 2 * 9 * channels**2 * images * side**2)
