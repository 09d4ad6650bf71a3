"""Look through the Inception network of 2015-12-05, whose features FID, KID, precision and recall are defined with.

The network, its legacy resize and its weights are torch-fidelity's (the extra `metrics`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.downloads import short_timeout
from ddpm_cli.errors import CheckpointError, RequestError, ShapeError
from ddpm_cli.metrics.features import Features, in_parts
from ddpm_cli.metrics.weights_file import WeightsFile, file_sha256, load_strictly, read_weights
from ddpm_cli.results.events import Listener, Notice, ignore

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

NAME = "inception-2015-12-05"
URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the content of URL, which is the file that torch-fidelity downloads itself; its name begins with the same digits."""

_BATCH_SIZE = 32
_REMEDY = (
    "Where there is a network, `from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as E; "
    "from safetensors.torch import save_file; save_file(E('inception-v3-compat', ['2048']).state_dict(), 'inception.safetensors')` "
    "writes such a file."
)


class InceptionExtractor:
    """Give 2,048 features, a `FeatureExtractor`; images are resized to 299x299 as TensorFlow 1 did, without antialiasing.

    Grey images are seen as colour ones with three equal channels. Logits are without the last layer's bias, as the Inception Score
    takes them; None where the weights have no last layer.

    Args:
        network: On the device to work on, with its weights.
        sha256: Of the file that they were read from.
    """

    name = NAME
    dimensions = 2048

    def __init__(self, network: FeatureExtractorInceptionV3, sha256: str) -> None:
        self.network = network
        self.sha256 = sha256
        self._has_head = bool(network.fc.weight.any())

    def __call__(self, images: Tensor) -> Features:
        """Look at images, uint8 [N, C, H, W]; see `FeatureExtractor`.

        Raises:
            ShapeError: If they have neither one channel nor three.
        """
        if images.shape[1] not in (1, 3):
            raise ShapeError(
                f"Inception sees grey or RGB images, not ones of {images.shape[1]} channels.", "Use a metric without Inception."
            )
        return in_parts(self._look, images, _BATCH_SIZE)

    def _look(self, images: Tensor) -> Features:
        pixels = images.to(self.network.fc.weight.device).expand(-1, 3, -1, -1)
        features, logits = self.network(pixels)
        return Features(features, logits if self._has_head else None)


def load_inception(weights: Path | None, device: torch.device, on_event: Listener = ignore) -> InceptionExtractor:
    """Build the network with weights from a file, or from torch-fidelity's download.

    Args:
        weights: A safetensors file, float32 or float16, with the names of torch-fidelity's `FeatureExtractorInceptionV3`; None
            for its own file, which is downloaded once into torch's cache.
        device: Where to work.
        on_event: Is told before a download begins.
    Raises:
        RequestError: If torch-fidelity is not installed, or the download fails.
        CheckpointError: If the file is missing, damaged or not of this network.
    """
    require_inception(weights)
    content = _downloaded(on_event) if weights is None else read_weights(weights, _REMEDY)
    network = blank_network()
    load_strictly(network, content.tensors, str(weights or "The downloaded file"), _REMEDY)
    return InceptionExtractor(network.to(device), content.sha256)


def require_inception(weights: Path | None) -> None:
    """Refuse what `load_inception` would refuse of its packages and the name of the file.

    Raises:
        RequestError: If torch-fidelity is not installed.
        CheckpointError: If the file is missing.
    """
    require_packages("Each of FID, KID, Inception Score, precision and recall", "metrics", "torch-fidelity")
    if weights is not None and not weights.exists():
        read_weights(weights, _REMEDY)


def blank_network() -> FeatureExtractorInceptionV3:
    """Build torch-fidelity's network with random weights; its constructor would download and unpickle some."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    class Blank(library.FeatureExtractorInceptionV3):  # type: ignore[misc]  # the library has no types
        def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
            return super().load_state_dict(state_dict, strict, assign) if state_dict else None

    with torch.random.fork_rng(devices=[]), _no_download(library):
        return Blank("inception-v3-compat", ["2048", "logits_unbiased"])


@contextlib.contextmanager
def _no_download(library: ModuleType) -> Iterator[None]:
    name = "load_state_dict_from_url"
    download = getattr(library, name)
    setattr(library, name, lambda *args, **kwargs: {})
    try:
        yield
    finally:
        setattr(library, name, download)


def _downloaded(on_event: Listener) -> WeightsFile:
    path = Path(torch.hub.get_dir(), "checkpoints", URL.rsplit("/", 1)[1])
    try:
        if not path.is_file():
            on_event(Notice(f"Downloading Inception's weights (96 MB) into {path.parent}."))
            path.parent.mkdir(parents=True, exist_ok=True)
            with short_timeout():
                torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256, progress=False)
        found = file_sha256(path)
    except (OSError, RuntimeError, HTTPException) as error:
        raise RequestError(
            f"Inception's weights (96 MB) cannot be downloaded from {URL}: {getattr(error, 'reason', None) or error}.",
            f"Name a file with --extractor-weights FILE. {_REMEDY}",
        ) from error
    if found != SHA256:
        raise CheckpointError(f"{path} is damaged: its checksum is not the published one.", "Delete it, to download it again.")
    # Its sum is known, and with weights_only torch runs no code that a file names.
    return WeightsFile(torch.load(path, map_location="cpu", weights_only=True), {}, found)
