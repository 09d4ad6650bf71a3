"""Make the parts of the U-Net: residual block, self-attention, down- and upsampling.

Nothing here casts for autocast. On CUDA autocast itself runs group_norm in float32; on the CPU group_norm takes bfloat16 but
sums and normalises in float32; scaled_dot_product_attention keeps its softmax in float32 on both.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_cli.errors import ConfigError

M = TypeVar("M", bound=nn.Module)

NORM_EPS = 1e-6
Resampling = Literal["none", "down", "up"]


def conv(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Make a convolution that keeps H and W at stride 1, initialised as by Ho et al. 2020: variance 1 / fan_avg, bias 0."""
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # there is a bias
    return layer


def linear(in_channels: int, out_channels: int) -> nn.Linear:
    """Make a linear layer, initialised as `conv` is."""
    layer = nn.Linear(in_channels, out_channels)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def zeroed(layer: M) -> M:
    """Set all weights of a layer to 0, so that the branch that it ends does nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int, most_groups: int) -> nn.GroupNorm:
    """Make a GroupNorm (Wu & He 2018) with the largest number of groups that divides the channels and is at most `most_groups`."""
    groups = next(n for n in range(min(channels, most_groups), 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, channels, eps=NORM_EPS)


class ResidualBlock(nn.Module):
    """Compute two convolutions around the time embedding, plus a shortcut (Ho et al. 2020, App. B).

    h = conv_in(silu(norm_in(x)));  h = norm_out(h + project(silu(embedding)));  result = shortcut(x) + conv_out(dropout(silu(h)))

    With scale_shift the embedding acts on the normalised features instead (Dhariwal & Nichol 2021, Sec. 4.3, AdaGN):
    h = norm_out(h) * (1 + scale) + shift.

    With a resampling, silu(norm_in(x)) and x are halved by the mean of 2x2 pixels, or doubled by repeating each, before the first
    convolution and the shortcut (Dhariwal & Nichol 2021, Sec. 3, after BigGAN).

    Args:
        in_channels: Channels of x.
        out_channels: Channels of the result; where they differ from those of x the shortcut is a 1x1 convolution.
        embedding_channels: Length of the embedding.
        dropout: Probability that an activation is dropped in training.
        scale_shift: Whether the embedding scales and shifts instead of being added.
        norm_groups: Groups of each GroupNorm at most.
        resampling: "down" halves H and W, "up" doubles them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int,
        *,
        dropout: float,
        scale_shift: bool,
        norm_groups: int,
        resampling: Resampling = "none",
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resampling: Resampling = resampling
        self.norm_in = group_norm(in_channels, norm_groups)
        self.conv_in = conv(in_channels, out_channels)
        self.project = linear(embedding_channels, 2 * out_channels if scale_shift else out_channels)
        self.norm_out = group_norm(out_channels, norm_groups)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(conv(out_channels, out_channels))
        self.shortcut = nn.Identity() if in_channels == out_channels else conv(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [B, in_channels, H, W] and an embedding [B, embedding_channels] to [B, out_channels, H, W], if not resampled."""
        h: Tensor = self.conv_in(_resampled(functional.silu(self.norm_in(x)), self.resampling))
        condition = self.project(functional.silu(embedding))[:, :, None, None]
        # What a convolution returns is added to in place: nothing else needs it, not even its gradient.
        if self.scale_shift:
            scale, shift = condition.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm_out(h), 1 + scale)
        else:
            h = self.norm_out(h.add_(condition))
        result: Tensor = self.conv_out(self.dropout(functional.silu(h)))
        return result.add_(self.shortcut(_resampled(x, self.resampling)))


def _resampled(x: Tensor, resampling: Resampling) -> Tensor:
    if resampling == "down":
        return functional.avg_pool2d(x, kernel_size=2)
    return functional.interpolate(x, scale_factor=2.0, mode="nearest") if resampling == "up" else x


class SelfAttention(nn.Module):
    """Let all pixels attend to each other, and add the result (Ho et al. 2020, App. B; Vaswani et al. 2017, Eq. 1).

    The linear layers act on each pixel and are computed as the paper's 1x1 convolutions, query, key and value in one: on a CPU the
    convolutions' library takes half the time of the matrix products'.

    Args:
        channels: Channels of x and of the result.
        heads: Attention heads.
        norm_groups: Groups of the GroupNorm at most.
        head_channels: Channels of each head, which then say how many there are; None leaves that to heads.
    Raises:
        ConfigError: If heads, or head_channels, does not divide channels.
    """

    def __init__(self, channels: int, heads: int, norm_groups: int, head_channels: int | None = None) -> None:
        super().__init__()
        if head_channels is not None and channels % head_channels:
            raise ConfigError(
                f"model.attention_head_channels ({head_channels}) does not divide the {channels} channels that get attention.",
                f"Choose a divisor of {channels}.",
            )
        heads = heads if head_channels is None else channels // head_channels
        if channels % heads:
            raise ConfigError(
                f"model.attention_heads ({heads}) does not divide the {channels} channels that get attention.",
                f"Choose a divisor of {channels}.",
            )
        self.heads = heads
        self.norm = group_norm(channels, norm_groups)
        self.query = linear(channels, channels)
        self.key = linear(channels, channels)
        self.value = linear(channels, channels)
        self.project = zeroed(linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to [B, C, H, W]."""
        batch, channels, height, width = x.shape
        projected = _on_pixels(self.norm(x), self.query, self.key, self.value).permute(0, 2, 3, 1)
        by_head = projected.reshape(batch, height * width, 3 * self.heads, channels // self.heads).transpose(1, 2)
        query, key, value = by_head.chunk(3, dim=1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        pixels = mixed.transpose(1, 2).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return _on_pixels(pixels, self.project).add_(x)


def _on_pixels(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Linear layers at every pixel of x [B, C, H, W], their results one after the other along the channels."""
    weight, bias = (torch.cat(tensors) for tensors in zip(*((layer.weight, layer.bias) for layer in layers), strict=True))
    return functional.conv2d(x, weight[:, :, None, None], bias)


DownsamplePadding = Literal["symmetric", "asymmetric"]


class Downsample(nn.Module):
    """Halve H and W with a convolution of stride 2.

    Args:
        channels: Channels of x and of the result.
        padding: "symmetric" pads a zero on each side; "asymmetric" pads right and below alone, as TensorFlow does, in which Ho et
            al. 2020 trained.
    """

    def __init__(self, channels: int, padding: DownsamplePadding = "symmetric") -> None:
        super().__init__()
        self.conv = conv(channels, channels, stride=2)
        self.pads_before = padding == "symmetric"
        if not self.pads_before:
            self.conv.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W], H and W even, to [B, C, H / 2, W / 2]."""
        result: Tensor = self.conv(x if self.pads_before else functional.pad(x, (0, 1, 0, 1)))
        return result


class Upsample(nn.Module):
    """Double H and W by repeating pixels, then a convolution.

    Of the nine pixels under its kernel four at most differ. So it is computed as the transposed convolution of stride 2 that it
    equals, whose 4x4 kernel holds the sums of the weights that meet the same pixel: 16 products for four pixels instead of 36.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to [B, C, 2 H, 2 W]."""
        turned = self.conv.weight.flip(2, 3).transpose(0, 1)
        # Means times four and not divisor_override, which ONNX cannot express and torch's exporter silently leaves out.
        sums = 4 * functional.avg_pool2d(turned, kernel_size=2, stride=1, padding=1)
        return functional.conv_transpose2d(x, sums, self.conv.bias, stride=2, padding=1)
