"""Describe the config's `[model]`: the networks and what can be said about them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, model_validator

from ddpm_cli.config.schema.section import Choice, OneOf, PositiveInt, Share
from ddpm_cli.core.names import plain
from ddpm_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddpm_cli.models.base import Denoiser
    from ddpm_cli.models.dit import DiT
    from ddpm_cli.models.unet import UNet

MOST_CLASSES = 1_000_000
Multiple = Annotated[int, Field(ge=1, le=256)]


def count_or_auto(value: Any) -> int | str:
    """Accept a whole number from 1 to MOST_CLASSES, or "auto"."""
    if isinstance(value, int) and 1 <= value <= MOST_CLASSES:
        return value
    if isinstance(value, str) and plain(value) == "auto":
        return "auto"
    raise ValueError(f'must be a whole number from 1 to {MOST_CLASSES:,} or "auto"')


class NetworkBase(Choice):
    """Predict by a network."""

    makes_smaller: ClassVar[str] = "lower its sizes in [model]"
    """What to do for a smaller network: the end of a sentence, without its full stop."""
    num_classes: Annotated[int | str, PlainValidator(count_or_auto)] | None = Field(
        None, description="Number of classes, to train with class labels. auto takes it from the data."
    )

    @property
    def called(self) -> str:
        """Say what people call it."""
        return self.kind

    @abstractmethod
    def build(self, image_shape: tuple[int, int, int], out_channels: int) -> Denoiser:
        """Build the network, with random weights, on torch's default device.

        Args:
            image_shape: (channels, height, width) of an image.
            out_channels: Channels of the prediction.
        Raises:
            ConfigError: If the sizes do not fit together, or `num_classes` is still to be taken from the data.
        """

    def for_images(self, before: tuple[int, int, int], now: tuple[int, int, int]) -> NetworkBase:
        """Say what makes the same network for images of another shape: settings that name sizes of feature maps move along.

        Args:
            before: (channels, height, width) of the images that these settings are for.
            now: Of those that the result is for.
        Raises:
            ConfigError: If it can be none for such images.
        """
        return self

    def as_moved_in(self, other: NetworkBase) -> NetworkBase:
        """Take over from the settings of the same network for other images what `for_images` moves along."""
        return self

    def resolved_classes(self) -> int | None:
        """Tell the number of classes that the network takes labels of; None if it takes none.

        Raises:
            ConfigError: If it is still to be taken from the data, see `build.network.with_classes`.
        """
        if isinstance(self.num_classes, str):
            raise ConfigError('model.num_classes is "auto", but no data set is at hand to count.', "Give the number of classes.")
        return self.num_classes


class UNetConfig(NetworkBase):
    """Predict by the U-Net of Ho et al. 2020, App. B."""

    makes_smaller: ClassVar[str] = "lower model.base_channels or model.channel_mult, or raise model.stem"
    kind: Literal["unet"] = "unet"
    # These limits are far beyond any network of use, and keep a stranger's config from filling the memory.
    base_channels: int = Field(40, ge=4, le=16_384, description="Channels of the first level.")
    channel_mult: tuple[Multiple, ...] = Field(
        (1, 2),
        min_length=1,
        max_length=16,
        description="Channels of each level, as multiples of base_channels. Each further level halves the image.",
    )
    blocks_per_level: int = Field(2, ge=1, le=32, description="Residual blocks in each level on the way down.")
    attention_resolutions: tuple[PositiveInt, ...] = Field(
        (), description="Heights of the feature maps, after stem and padding, that get self-attention."
    )
    attention_heads: PositiveInt = Field(1, description="Heads of each self-attention. The number must divide its channels.")
    attention_head_channels: PositiveInt | None = Field(
        None,
        description="Channels of each head, instead of attention_heads, so that wider levels have more (Dhariwal & Nichol 2021).",
    )
    middle_attention: bool = Field(True, description="Use self-attention between the two middle blocks.")
    dropout: Share = Field(0.0, description="Dropout in the residual blocks.")
    scale_shift_norm: bool = Field(False, description="Let the time embedding scale and shift the norm, instead of adding it.")
    norm_groups: PositiveInt = Field(
        8,
        description="Groups of each GroupNorm, at most. The largest divisor of the channels is taken. With one channel in a "
        "group the norm takes the time embedding out again.",
    )
    stem: Literal[1, 2, 4] = Field(2, description="Space-to-depth factor in front of the network. 2 or 4 make it fast on CPUs.")
    norm_eps: float = Field(1e-6, gt=0, le=1, description="Number that is added to the variance in each GroupNorm.")
    downsample_padding: Literal["symmetric", "asymmetric"] = Field(
        "symmetric",
        description="Where halving convolutions see zeros: on all sides, or right and below, as in the code of Ho et al. 2020.",
    )
    resampling: Literal["convolution", "residual"] = Field(
        "convolution",
        description="What halves and doubles feature maps: a convolution, or a residual block around a mean of pixels, or around "
        "repeated ones (Dhariwal & Nichol 2021).",
    )
    time_frequencies: Literal["ddpm", "transformer"] = Field(
        "ddpm", description="The time embedding's lowest frequency: 1/10000 (Ho et al. 2020), or the last before it."
    )
    time_scale: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Factor of the step before it is embedded. With 1000/T the embedding sees the same range whatever T is.",
    )
    time_channels: int | None = Field(
        None,
        ge=2,
        le=16_384,
        description="Sines and cosines that the step is embedded as, instead of base_channels. 2 go with transformer alone.",
    )

    @model_validator(mode="after")
    def _one_frequency_has_no_range(self) -> UNetConfig:
        if self.time_channels is not None and self.time_channels < 4 and self.time_frequencies == "ddpm":
            raise ValueError('time_channels below 4 needs time_frequencies "transformer", whose only frequency is then 1')
        return self

    @property
    def called(self) -> str:
        """Say what people call it."""
        return "U-Net"

    def build(self, image_shape: tuple[int, int, int], out_channels: int) -> UNet:
        """Build the U-Net."""
        from ddpm_cli.models.unet import UNet

        channels, height, width = image_shape
        sizes = self.model_dump(exclude={"kind", "num_classes"})
        return UNet(
            in_channels=channels,
            image_size=(height, width),
            out_channels=out_channels,
            num_classes=self.resolved_classes(),
            **sizes,
        )

    def for_images(self, before: tuple[int, int, int], now: tuple[int, int, int]) -> NetworkBase:
        """Move self-attention to the heights that the same levels have."""
        if not self.attention_resolutions:
            return self
        moved = dict(zip(self._heights(before), self._heights(now), strict=True))
        heights = tuple(dict.fromkeys(moved.get(height, height) for height in self.attention_resolutions))
        return self.model_copy(update={"attention_resolutions": heights})

    def as_moved_in(self, other: NetworkBase) -> NetworkBase:
        """Take over the heights that get self-attention."""
        if not isinstance(other, UNetConfig):
            return self
        return self.model_copy(update={"attention_resolutions": other.attention_resolutions})

    def _heights(self, image_shape: tuple[int, int, int]) -> list[int]:
        import torch

        plain = self.model_copy(update={"attention_resolutions": (), "num_classes": None})
        with torch.device("meta"):
            return [height for height, _ in plain.build(image_shape, image_shape[0]).feature_sizes()]


class DitConfig(NetworkBase):
    """Predict by a transformer on patches of the image (Peebles & Xie 2023)."""

    makes_smaller: ClassVar[str] = "lower model.width or model.depth, or raise model.patch_size"
    kind: Literal["dit"] = "dit"
    patch_size: int = Field(4, ge=1, le=1024, description="Side of a patch, in pixels. Patches must divide the image.")
    width: int = Field(192, ge=4, le=16_384, description="Channels of a token, a multiple of 4 and of heads.")
    depth: int = Field(6, ge=1, le=256, description="Blocks, each of self-attention and a perceptron.")
    heads: PositiveInt = Field(4, description="Heads of each self-attention. The number must divide the width.")
    mlp_ratio: float = Field(4.0, gt=0, le=64, description="Channels inside the perceptrons, as a multiple of the width.")
    registers: int = Field(0, ge=0, le=4096, description="Learned tokens beside those of the patches (Darcet et al. 2024).")
    dropout: Share = Field(0.0, description="Dropout in the blocks.")

    @model_validator(mode="after")
    def _width_is_divided(self) -> DitConfig:
        if self.width % self.heads:
            raise ValueError(f"model.heads ({self.heads}) does not divide model.width ({self.width}); choose a divisor of it")
        if self.width % 4:
            raise ValueError(f"model.width ({self.width}) is no multiple of 4, which the positions of patches need")
        return self

    @property
    def called(self) -> str:
        """Say what people call it."""
        return "DiT"

    def build(self, image_shape: tuple[int, int, int], out_channels: int) -> DiT:
        """Build the transformer."""
        from ddpm_cli.models.dit import DiT

        channels, height, width = image_shape
        return DiT(
            in_channels=channels,
            image_size=(height, width),
            out_channels=out_channels,
            num_classes=self.resolved_classes(),
            **self.model_dump(exclude={"kind", "num_classes"}),
        )


ModelConfig = Annotated[NetworkBase, OneOf("ddpm.networks", UNetConfig, DitConfig, default="unet")]
