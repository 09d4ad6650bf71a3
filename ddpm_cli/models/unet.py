"""Predict noise, x_0 or v from a noisy image, its noise level and perhaps its class, by a U-Net (Ho et al. 2020, App. B)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from ddpm_cli.errors import ConfigError
from ddpm_cli.models.base import ImageAxis
from ddpm_cli.models.conditioned import Conditioned
from ddpm_cli.models.cost import FLOAT32, PassCost
from ddpm_cli.models.embeddings import Frequencies, TimeEmbedding
from ddpm_cli.models.layers import NORM_EPS, Downsample, DownsamplePadding, Upsample, conv, group_norm, zeroed
from ddpm_cli.models.stages import DownLevel, LevelResampling, Stage, StageOptions, UpLevel
from ddpm_cli.models.unet_cost import flops_at, pairs_at, working_channels

LEAST_BASE_CHANNELS = 4
LARGEST_SMALL_PADDING = 32  # tiny images may be padded beyond their own size


class UNet(Conditioned):
    """Predict by the U-Net of Ho et al. 2020, App. B, from images of one size.

    An image is padded with zeros, half of them on each side, to a multiple of stem * 2 ** (levels - 1), and the result is cropped
    back. Zeros are what the 3x3 convolutions already see beyond the border, and they fit an image of any size; reflection needs
    an image larger than the padding, and copied pixels are noise that is not independent.

    The zero-initialised last convolution makes the output of a new network exactly 0.

    Args:
        in_channels: Channels of x.
        image_size: (H, W) of x, each at least 1.
        base_channels: Channels of the first level, at least 4.
        channel_mult: Channels of each level as multiples of base_channels; each level but the last halves H and W.
        blocks_per_level: Residual blocks in each level on the way down; one more on the way up.
        attention_resolutions: Heights of the feature maps, after padding and stem, that get self-attention.
        attention_heads: Heads of each self-attention.
        middle_attention: Whether there is self-attention between the two middle blocks.
        dropout: Dropout probability in the residual blocks, in [0, 1).
        scale_shift_norm: Whether the time embedding scales and shifts the norm instead of being added.
        norm_groups: Groups of each GroupNorm at most; the largest divisor of its channels is taken.
        stem: Space-to-depth factor: stem x stem pixels become channels in front of the network and pixels again behind it.
        norm_eps: Added to the variance in each GroupNorm.
        downsample_padding: See `Downsample`.
        time_frequencies: See `sinusoidal_embedding`.
        out_channels: Channels of the result; those of x if None.
        attention_head_channels: Channels of each head, instead of a number of heads that is the same everywhere; None for that.
        resampling: Whether levels are halved and doubled by a convolution or within a residual block.
        time_scale: Factor of the step before it is embedded.
        time_channels: Sines and cosines that the step is embedded as, at least 4, or 2 with the frequencies "transformer"; None for
            base_channels.
        num_classes: See `Conditioned`.
    Raises:
        ConfigError: If an attention resolution is the height of no feature map, if the heads do not divide the channels
            that get attention, if base_channels is less than 4, or if a group of a norm has a single value.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: tuple[int, int],
        base_channels: int,
        channel_mult: Sequence[int],
        blocks_per_level: int,
        attention_resolutions: Collection[int],
        attention_heads: int,
        middle_attention: bool,
        dropout: float,
        scale_shift_norm: bool,
        norm_groups: int,
        stem: int,
        norm_eps: float = NORM_EPS,
        downsample_padding: DownsamplePadding = "symmetric",
        time_frequencies: Frequencies = "ddpm",
        attention_head_channels: int | None = None,
        resampling: LevelResampling = "convolution",
        time_scale: float = 1.0,
        time_channels: int | None = None,
        out_channels: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        if base_channels < LEAST_BASE_CHANNELS:
            raise ConfigError(
                f"model.base_channels ({base_channels}) is too small for a time embedding.",
                f"Set it to at least {LEAST_BASE_CHANNELS}.",
            )
        super().__init__(
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            time_embedding=TimeEmbedding(time_channels or base_channels, 4 * base_channels, time_frequencies, time_scale),
            embedding_channels=4 * base_channels,
        )
        self.stateless = dropout == 0
        self.stem = stem
        levels = len(channel_mult)
        self.padding = _padding(image_size, stem * 2 ** (levels - 1))
        _check_padding(image_size, self.padding, levels)
        heights = _feature_heights(image_size[0] + sum(self.padding[2:]), stem, levels)
        _check_attention(attention_resolutions, heights)
        attention = [height in attention_resolutions for height in heights]
        channels = [base_channels * multiple for multiple in channel_mult]
        options = StageOptions(
            self.embedding_channels,
            dropout,
            scale_shift_norm,
            norm_groups,
            attention_heads,
            attention_head_channels,
            downsample_padding,
            resampling,
        )

        self.conv_in = conv(in_channels * stem**2, base_channels)

        self.down, skip_channels = _way_down(base_channels, channels, blocks_per_level, attention, options)
        self.middle_in = Stage(channels[-1], channels[-1], options, attention=middle_attention)
        self.middle_out = Stage(channels[-1], channels[-1], options, attention=False)

        self.up = _way_up(channels, skip_channels, blocks_per_level + 1, attention, options)

        self.norm_out = group_norm(channels[0], norm_groups)
        self.conv_out = zeroed(conv(channels[0], (out_channels or in_channels) * stem**2))
        self.skips_per_level = blocks_per_level + 1
        self._check_norms()
        for module in self.modules():
            if isinstance(module, nn.GroupNorm):
                module.eps = norm_eps

    def feature_sizes(self) -> list[tuple[int, int]]:
        """List height and width of the feature maps of each level, the first level's first."""
        left, right, top, bottom = self.padding
        height, width = self.image_size[0] + top + bottom, self.image_size[1] + left + right
        return [(height // (self.stem * 2**level), width // (self.stem * 2**level)) for level in range(len(self.down))]

    def image_axes(self) -> Mapping[str, ImageAxis]:
        """Say how the first convolution reads the image, and the last one writes it."""
        pixels = self.stem**2
        parts = self.conv_out.out_channels // (self.in_channels * pixels)
        writes = ImageAxis(0, self.in_channels, pixels, parts)
        return {"conv_in.weight": ImageAxis(1, self.in_channels, pixels), "conv_out.weight": writes, "conv_out.bias": writes}

    def pass_cost(self) -> PassCost:
        """Reckon it from sizes; a trace of the memory and `forward_flops` say nearly the same, if the network can be afforded."""
        pixels = [height * width for height, width in self.feature_sizes()]
        located = list(self._located(pixels))
        skips = sum(
            count * sum(level.skip_channels) for level, count in zip(self.down, pixels, strict=True) if isinstance(level, DownLevel)
        )
        working = max(count * working_channels(module) for module, count in located if isinstance(module, Stage))
        ends = pixels[0] * (2 * self.conv_in.in_channels + self.conv_in.out_channels + 2 * self.conv_out.out_channels)
        flops = sum(flops_at(module, count) for module, count in located)
        flops += 2 * pixels[0] * (self.conv_in.weight.numel() + self.conv_out.weight.numel())
        pairs = sum(pairs_at(module, count) for module, count in located)
        return PassCost(FLOAT32 * (skips + working + ends), flops, pairs)

    def _located(self, pixels: list[int]) -> Iterator[tuple[nn.Module, int]]:
        """Stages, halvings and doublings, each with the pixels of the feature maps that it works on."""
        for level, count in zip(self.down, pixels, strict=True):
            yield from ((module, count) for module in level.modules() if isinstance(module, Stage))
            yield from ((module, count // 4) for module in level.modules() if isinstance(module, Downsample))
        yield from ((module, pixels[-1]) for module in (self.middle_in, self.middle_out))
        for level, count in zip(self.up, reversed(pixels), strict=True):
            yield from ((module, count) for module in level.modules() if isinstance(module, Stage | Upsample))

    def _check_norms(self) -> None:
        """Refuse norms of a single value, which are 0 whatever the value, and which torch refuses for one image alone."""
        if self.feature_sizes()[-1] != (1, 1):
            return
        lowest = [self.down[-1], self.middle_in, self.middle_out, self.up[0], *([self.norm_out] if len(self.down) == 1 else [])]
        norms = [module for part in lowest for module in part.modules() if isinstance(module, nn.GroupNorm)]
        channels = min((norm.num_channels for norm in norms if norm.num_groups == norm.num_channels), default=None)
        if channels is not None:
            raise ConfigError(
                f"Feature maps of 1x1 with {channels} channels in as many groups leave a norm a single value, which it makes 0.",
                f"Set model.norm_groups={channels // 2} or fewer, give model.channel_mult fewer levels, or lower model.stem.",
            )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None, augmentation: Tensor | None = None) -> Tensor:
        """Predict from noisy images, their noise levels, their classes and how they were augmented.

        Args:
            x: Noisy images x_t, [B, C, H, W].
            t: Noise levels, [B], int or float.
            labels: Classes in [0, num_classes], int64, [B]; None stands for the null label.
            augmentation: See `take_augmentation`, [B, size]; None stands for 0.
        Returns:
            Prediction, [B, out_channels, H, W].
        Raises:
            ShapeError: If the images have another size or other channels than the network was built for, or if there are labels or
                an augmentation and it was built for none.
        """
        self.check_images(x)
        embedding = self.embed(t, labels, augmentation)
        h = self.conv_in(functional.pixel_unshuffle(functional.pad(x, self.padding), self.stem))

        skips = [h]
        for level in self.down:
            skips += level(skips[-1], embedding)

        h = self.middle_out(self.middle_in(skips[-1], embedding), embedding)

        for level in self.up:
            h = level(h, [skips.pop() for _ in range(self.skips_per_level)], embedding)

        h = self.conv_out(functional.silu(self.norm_out(h)))
        return self._crop(functional.pixel_shuffle(h, self.stem))

    def _crop(self, x: Tensor) -> Tensor:
        left, _, top, _ = self.padding
        height, width = self.image_size
        return x[:, :, top : top + height, left : left + width]


def _way_down(
    first: int, channels: Sequence[int], blocks: int, attention: Sequence[bool], options: StageOptions
) -> tuple[nn.ModuleList, list[int]]:
    """The levels on the way down, each with `blocks` blocks, and the channels of all skips, those of the input among them."""
    levels, skip_channels = nn.ModuleList(), [first]
    for level, count in enumerate(channels):
        halves = level < len(channels) - 1
        down = DownLevel(skip_channels[-1], count, blocks, options, attention=attention[level], halves=halves)
        levels.append(down)
        skip_channels += down.skip_channels
    return levels, skip_channels


def _way_up(
    channels: Sequence[int], skip_channels: Sequence[int], skips_per_level: int, attention: Sequence[bool], options: StageOptions
) -> nn.ModuleList:
    """The levels on the way up, the lowest first, each of which takes its skips from the end of those that are left."""
    levels, left, below = nn.ModuleList(), list(skip_channels), channels[-1]
    for level in reversed(range(len(channels))):
        skips = [left.pop() for _ in range(skips_per_level)]
        levels.append(UpLevel(below, channels[level], skips, options, attention=attention[level], doubles=level > 0))
        below = channels[level]
    return levels


def _padding(image_size: tuple[int, int], multiple: int) -> tuple[int, int, int, int]:
    """Zeros to add left, right, above and below, so that both sides are divisible by `multiple`."""
    height, width = (-side % multiple for side in image_size)
    return width // 2, width - width // 2, height // 2, height - height // 2


def _check_padding(image_size: tuple[int, int], padding: tuple[int, int, int, int], levels: int) -> None:
    """Refuse networks that would work on more padding than image, each level doubling it."""
    (height, width), (left, right, top, bottom) = image_size, padding
    if left + right > max(width, LARGEST_SMALL_PADDING) or top + bottom > max(height, LARGEST_SMALL_PADDING):
        raise ConfigError(
            f"A network of {levels} levels would pad images of {height}x{width} to {height + top + bottom}x{width + left + right}.",
            "Give model.channel_mult fewer levels, or lower model.stem.",
        )


def _feature_heights(padded_height: int, stem: int, levels: int) -> list[int]:
    return [padded_height // (stem * 2**level) for level in range(levels)]


def _check_attention(resolutions: Collection[int], heights: Sequence[int]) -> None:
    unknown = sorted(set(resolutions) - set(heights))
    if unknown:
        raise ConfigError(
            f"model.attention_resolutions names {_enumerate(unknown)}, but the feature maps are {_enumerate(heights)} high.",
            "Choose from those heights; they are counted after stem and padding.",
        )


def _enumerate(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
