"""Train denoising-diffusion-pytorch's U-Net by its Trainer, as its README does, for some minutes, and draw samples.

    python examples/speedrun/peers/lucidrains_trainer.py --out runs/peers/lucidrains-s0.npz

Network, diffusion, batch size and rates are those of its README (version 2.3). What differs: one channel and 32x32 pixels, for
three halvings do not go into 28; full precision on a CPU; no samples and no FID while it trains; and it is ended by the clock.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from threading import Timer

import torch
from common import Clock, draw_and_keep, race
from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet
from PIL import Image

SIDE = 32


def main() -> None:
    asked = race(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(asked.images()):
            Image.fromarray(image).save(Path(folder, f"{number:05d}.png"))
        network = Unet(dim=64, dim_mults=(1, 2, 4, 8), channels=1, flash_attn=True)
        diffusion = GaussianDiffusion(network, image_size=SIDE, timesteps=1000, sampling_timesteps=250)
        trainer = Trainer(
            diffusion,
            folder,
            train_batch_size=asked.batch_size or 32,
            train_lr=8e-5,
            train_num_steps=700_000,
            gradient_accumulate_every=2,
            ema_decay=0.995,
            amp=torch.cuda.is_available(),
            calculate_fid=False,
            save_and_sample_every=10**9,
            results_folder=folder,
        )

        def stop() -> None:
            trainer.train_num_steps = 0

        clock, timer = Clock(asked.minutes), Timer(60 * asked.minutes, stop)
        timer.daemon = True
        timer.start()
        trainer.train()
        trained = clock.minutes
        model = trainer.ema.ema_model.eval()

        def draw(count: int) -> torch.Tensor:
            with torch.inference_mode():
                return model.sample(batch_size=count)

        draw_and_keep(asked, trainer.step, trained, draw)


if __name__ == "__main__":
    main()
