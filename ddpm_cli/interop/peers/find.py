"""Find out which program a file of weights is of, and read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ddpm_cli.core.io.files import input_errors, printable
from ddpm_cli.core.io.pickled_weights import PickledWeights, read_pickled_weights
from ddpm_cli.errors import CheckpointError, RequestError
from ddpm_cli.interop.peers.denoising_diffusion_pytorch import is_denoising_diffusion_pytorch, refusal
from ddpm_cli.interop.peers.flags import Flags
from ddpm_cli.interop.peers.openai import is_openai, read_openai
from ddpm_cli.interop.peers.peer_model import PeerModel, Weights
from ddpm_cli.interop.peers.pytorch_ddpm import NOISE, is_pytorch_ddpm, read_pytorch_ddpm
from ddpm_cli.interop.peers.small_diffusion import is_small_diffusion, read_small_diffusion
from ddpm_cli.results.events import Listener, Notice

if TYPE_CHECKING:
    from torch import Tensor

Which = Literal["ema", "model"]
SKIPPED = ("opt", "optim", "optimizer", "optimizer_state_dict", "sched", "scheduler", "scaler")
"""Of a whole training state, what no network is made of."""
PARALLEL = "module."
PROGRAMS = "improved-diffusion, guided-diffusion, pytorch-ddpm and smalldiffusion"
REMEDY = (
    "Copy it again from where it is whole; or, where you trust it, keep its weights alone: torch.save(model.state_dict(), FILE)"
)
SHOWN = 3

Reader = Callable[[Weights, Flags, "tuple[int, int] | None", Path], PeerModel]
READERS: Sequence[tuple[Callable[[Weights], bool], Reader]] = (
    (is_openai, read_openai),
    (is_pytorch_ddpm, read_pytorch_ddpm),
    (is_small_diffusion, read_small_diffusion),
)


def find_peer(path: Path, *, flags: Flags, size: tuple[int, int] | None, which: Which | None, on_event: Listener) -> PeerModel:
    """Read a file that another program's training wrote, without running any of it.

    Args:
        path: What `torch.save` wrote.
        flags: The flags that the other program was given.
        size: Height and width of the images, where the file leaves them open.
        which: The averaged weights or those that were trained, of a file that holds both; if None the averaged ones.
        on_event: Told if no bound on memory could be set.
    Raises:
        CheckpointError: If it is damaged, of another kind, or holds anything but tensors in plain containers.
        RequestError: If ours cannot be that network, or a setting is missing.
    """
    with input_errors(path, CheckpointError, REMEDY):
        found = read_pickled_weights(path, skip=SKIPPED)
    if not found.bounded:
        on_event(Notice(f"This system sets no bound on the memory of the process that read {path}.", important=True))
    sets = _sets(found)
    chosen = _chosen(path, sets, which)
    try:
        for is_its, reader in READERS:
            if is_its(chosen):
                noise = found.tensors.get(NOISE)
                given = {} if noise is None or reader is not read_pytorch_ddpm else {"noise": noise}
                return reader(chosen, flags, size, path, **given)
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the weight {printable(str(error.args[0]))}.", REMEDY) from error
    except (IndexError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} has weights of shapes that fit no network ({printable(str(error))}).", REMEDY) from error
    raise AssertionError("a set is chosen only if a reader knows it")


def _sets(found: PickledWeights) -> dict[str, dict[str, Tensor]]:
    """The sets of weights of a file by the key that leads to each, empty for weights that lie in the outermost dict."""
    sets: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.tensors.items():
        key, _, rest = name.rpartition("/")
        sets.setdefault(key, {})[rest.removeprefix(PARALLEL)] = tensor
    return sets


def _chosen(path: Path, sets: Mapping[str, Mapping[str, Tensor]], which: Which | None) -> Mapping[str, Tensor]:
    known = {key: weights for key, weights in sets.items() if any(is_its(weights) for is_its, _ in READERS)}
    if not known:
        raise _unknown(path, sets)
    averaged = [key for key in known if "ema" in key.lower()]
    trained = [key for key in known if key not in averaged]
    fitting = (trained if which == "model" else averaged) if averaged and trained else list(known)
    if which is not None and not (averaged and trained):
        raise RequestError(f"{path} holds one set of weights, so that there is nothing to choose.", "Leave --weights out.")
    if len(fitting) > 1:
        raise RequestError(
            f"{path} holds {len(fitting)} sets of weights: {', '.join(map(printable, fitting))}.", "Save one of them alone."
        )
    return known[fitting[0]]


def _unknown(path: Path, sets: Mapping[str, Mapping[str, Tensor]]) -> RequestError:
    for weights in sets.values():
        if is_denoising_diffusion_pytorch(weights):
            return refusal(weights)
    weights = max(sets.values(), key=len, default={})
    if any(name.startswith("down_blocks.0.resnets") for name in weights):
        return RequestError(f"{path} is the weights of a diffusers model.", "Name its folder, which has a config.json.")
    shown = "; ".join(f"{printable(name)} {list(weight.shape)}" for name, weight in list(weights.items())[:SHOWN])
    what = f"{len(weights):,} tensors, first {shown}" if weights else "no tensors"
    return RequestError(
        f"{path} is of no program whose networks ddpm knows: it holds {what}.",
        f"Those of {PROGRAMS} can be imported, and diffusers' folders.",
    )
