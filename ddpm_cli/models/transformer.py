"""Make the blocks of the transformer: self-attention and a perceptron, both modulated by an embedding.

Nothing here casts for autocast: layer_norm sums in float32 on CUDA and on the CPU, and scaled_dot_product_attention keeps its
softmax in float32 on both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_cli.models.base import Block
from ddpm_cli.models.layers import NORM_EPS, linear, zeroed


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift normalised tokens (Peebles & Xie 2023, Sec. 3.2, adaLN): layer_norm(x) * (1 + scale) + shift.

    Args:
        x: Tokens, [B, N, width].
        shift: What is added, [B, 1, width].
        scale: What is multiplied by, less 1, [B, 1, width].
    """
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale)


@dataclass(frozen=True)
class TransformerOptions:
    """Hold what all blocks have in common.

    Attributes:
        width: Channels of a token, and of the embedding.
        heads: Of each self-attention; the number divides the width.
        hidden: Channels inside the perceptron.
        dropout: Probability that an activation is dropped in training.
    """

    width: int
    heads: int
    hidden: int
    dropout: float


class TokenAttention(nn.Module):
    """Let all tokens attend to each other (Vaswani et al. 2017, Sec. 3.2.2)."""

    def __init__(self, options: TransformerOptions) -> None:
        super().__init__()
        width = options.width
        self.heads = options.heads
        self.query, self.key, self.value = linear(width, width), linear(width, width), linear(width, width)
        self.project = linear(width, width)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, N, width] to the like."""
        batch, tokens, width = x.shape
        parts = (self.query, self.key, self.value)
        weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
        # The channels of a head lie side by side: where they do not, CPUs leave the fused kernel without a word.
        projected = functional.linear(x, weight, bias).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = (part.transpose(1, 2) for part in projected.unbind(2))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.dropout(self.project(mixed.transpose(1, 2).reshape(batch, tokens, width)))
        return result


class Perceptron(nn.Module):
    """Map each token by itself: project(dropout(gelu(expand(x)))), with the tanh form of GELU (Hendrycks & Gimpel 2016)."""

    def __init__(self, options: TransformerOptions) -> None:
        super().__init__()
        self.expand = linear(options.width, options.hidden)
        self.dropout = nn.Dropout(options.dropout)
        self.project = linear(options.hidden, options.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, N, width] to the like."""
        result: Tensor = self.project(self.dropout(functional.gelu(self.expand(x), approximate="tanh")))
        return result


class TransformerBlock(Block):
    """Compute a block with adaLN-Zero (Peebles & Xie 2023, Sec. 3.2).

    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation(silu(embedding))
    x = x + gate_1 * attention(modulated(x, shift_1, scale_1))
    x = x + gate_2 * perceptron(modulated(x, shift_2, scale_2))

    The modulation is 0 at first, so that a new block does nothing.
    """

    def __init__(self, options: TransformerOptions) -> None:
        super().__init__()
        self.modulation = zeroed(linear(options.width, 6 * options.width))
        self.attention = TokenAttention(options)
        self.perceptron = Perceptron(options)

    def compute(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map tokens [B, N, width] and an embedding [B, width] to tokens."""
        of_block = self.modulation(functional.silu(embedding))[:, None]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = of_block.chunk(6, dim=-1)
        x = torch.addcmul(x, gate_1, self.attention(modulated(x, shift_1, scale_1)))
        return torch.addcmul(x, gate_2, self.perceptron(modulated(x, shift_2, scale_2)))
