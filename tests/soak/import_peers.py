"""Compare what `ddpm import` makes of guided-diffusion's networks with guided-diffusion itself, and with the tests' own network.

    pip download --no-deps guided-diffusion-sdk==1.0.0 && tar xzf guided_diffusion_sdk-1.0.0.tar.gz
    python tests/soak/import_peers.py guided_diffusion_sdk-1.0.0

Each small network gets three steps of training by guided-diffusion's own loss, is saved as its script saves one, and imported. Both
programs then predict the same, and draw from the same noise by ancestral sampling and by DDIM.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from peer_networks import OpenAiNetwork, OpenAiSize, randomise

from ddpm_cli.config.schema.sample import DdimSampler
from ddpm_cli.interop.import_model import import_model
from ddpm_cli.interop.same_noise import sample_from, seeded_noise
from ddpm_cli.sampling.generate import load_trained

SIZE, STEPS = 32, 40
COMMON = {
    "image_size": SIZE,
    "num_channels": 32,
    "channel_mult": "1,2",
    "num_res_blocks": 1,
    "attention_resolutions": "16",
    "num_heads": 2,
    "diffusion_steps": STEPS,
    "rescale_timesteps": False,
}
CASES: dict[str, tuple[dict[str, Any], OpenAiSize]] = {
    "added": ({"use_scale_shift_norm": False, "sigma_small": True}, OpenAiSize(scale_shift=False)),
    "scaled steps": ({"rescale_timesteps": True, "noise_schedule": "cosine"}, OpenAiSize()),
    "x0": ({"predict_xstart": True, "attention_resolutions": "32,16"}, OpenAiSize(rates=(1, 2))),
    "guided": (
        {
            "num_head_channels": 16,
            "resblock_updown": True,
            "use_new_attention_order": True,
            "class_cond": True,
            "learn_sigma": True,
        },
        OpenAiSize(head_channels=16, residual=True, new_order=True, out=6, classes=1000),
    ),
}


@contextlib.contextmanager
def replayed(shape: tuple[int, ...]) -> Iterator[None]:
    """Let the other program draw the noise that ours draws."""
    noise = seeded_noise(shape, 6)
    with patch("torch.randn_like", lambda x: noise()):
        yield


def largest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


def compare(name: str, script_util: Any, folder: Path) -> float:
    flags, size = CASES[name]
    small = flags.get("sigma_small", False)
    given = (
        script_util.model_and_diffusion_defaults() | COMMON | {key: value for key, value in flags.items() if key != "sigma_small"}
    )
    torch.manual_seed(0)
    network, diffusion = script_util.create_model_and_diffusion(**given)
    if small:  # which its own command has no flag for
        names = ("noise_schedule", "use_kl", "predict_xstart", "rescale_timesteps", "learn_sigma")
        diffusion = script_util.create_gaussian_diffusion(steps=STEPS, sigma_small=True, **{name: given[name] for name in names})
    randomise(network)
    labels = {"y": torch.tensor([3, 999])} if given["class_cond"] else {}
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(3):
        losses = diffusion.training_losses(network, torch.rand(2, 3, SIZE, SIZE) * 2 - 1, torch.randint(STEPS, (2,)), labels)
        optimizer.zero_grad()
        losses["loss"].mean().backward()
        optimizer.step()
    network.eval()
    file = folder / f"{name.replace(' ', '-')}.pt"
    torch.save(network.state_dict(), file)
    text = " ".join(f"--{key} {value}" for key, value in {**given, "sigma_small": small}.items() if value != "")
    model = load_trained(import_model(file, None, runs=folder / "runs", flags=text).run, torch.device("cpu"))

    x_T = seeded_noise((2, 3, SIZE, SIZE), 5)()
    t, y = torch.tensor([3, STEPS - 3]), labels.get("y")
    scale = 1000 / STEPS if given["rescale_timesteps"] else 1.0
    own = OpenAiNetwork(size).eval()
    own.load_state_dict({key: weight.reshape(own.state_dict()[key].shape) for key, weight in network.state_dict().items()})
    with torch.no_grad():
        wanted = network(x_T, t * scale, **labels)
        predicted = largest(model.network(x_T, t, *labels.values()), wanted)
        anew = largest(own(x_T, t * scale, *labels.values()), wanted)
        with replayed(x_T.shape):
            drawn = diffusion.p_sample_loop(network, x_T.shape, noise=x_T, model_kwargs=labels, device=torch.device("cpu"))
        with replayed(x_T.shape):
            ddim = diffusion.ddim_sample_loop(network, x_T.shape, noise=x_T, model_kwargs=labels, device=torch.device("cpu"))
    sampler = model.config.sample.sampler
    of_ddpm = largest(sample_from(model, sampler, x_T, seeded_noise(x_T.shape, 6), y), drawn)
    of_ddim = largest(sample_from(model, DdimSampler(steps=STEPS), x_T, seeded_noise(x_T.shape, 6), y), ddim)
    print(
        f"{name}: prediction {predicted:.1e} (spread {float(wanted.std()):.2f}), the tests' network {anew:.1e}; "
        f"images DDPM {of_ddpm:.1e}, DDIM {of_ddim:.1e} (spread {float(drawn.std()):.2f})",
        flush=True,
    )
    assert predicted < 1e-5
    assert anew < 1e-5
    assert of_ddim < 1e-3  # noise of 1e-6 in its own predictions changes its own images by 7.7e-4 (cosine, T = 40)
    return of_ddpm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="Folder with guided_diffusion/.")
    sys.path.insert(0, str(parser.parse_args().source))
    for name in ("blobfile", "mpi4py"):  # for its logs and its several processes
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["mpi4py"].MPI = None  # type: ignore[attr-defined]
    from guided_diffusion import script_util

    with tempfile.TemporaryDirectory() as folder:
        worst = max(compare(name, script_util, Path(folder)) for name in CASES)
    assert worst < 1e-4, worst


if __name__ == "__main__":
    main()
