"""Train diffusers' UNet2DModel as its example for unconditional images does, for some minutes, and draw samples.

    python examples/speedrun/peers/diffusers_unconditional.py --out runs/peers/diffusers-s0.npz

Network, scheduler, optimizer, rates, augmentation, EMA and batch size are the defaults of its script train_unconditional.py, in
examples/unconditional_image_generation (version 0.42), three channels included. The resolution is 32, the smallest that its five
halvings go into. What differs: training ends by the clock, not after 100 epochs; and samples are drawn by its DDIMPipeline in 50
steps, where the script's DDPMPipeline takes 1000.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from common import Clock, draw_and_keep, race
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms

SIDE, EPOCHS, SAMPLING_STEPS = 32, 100, 50


def main() -> None:
    asked, accelerator = race(__doc__), Accelerator()
    network = UNet2DModel(
        sample_size=SIDE,
        layers_per_block=2,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    )
    noising = DDPMScheduler(num_train_timesteps=1000)
    adam = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    loader = DataLoader(Pictures(asked.images()), batch_size=asked.batch_size or 16, shuffle=True)
    rate = get_scheduler("cosine", adam, num_warmup_steps=500, num_training_steps=len(loader) * EPOCHS)
    network, adam, loader, rate = accelerator.prepare(network, adam, loader, rate)
    ema = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    ema.to(accelerator.device)

    clock, steps = Clock(asked.minutes), 0
    network.train()
    while not clock.is_over:
        for x_0 in loader:
            eps = torch.randn_like(x_0)
            t = torch.randint(0, noising.config.num_train_timesteps, (len(x_0),), device=x_0.device)
            loss = functional.mse_loss(network(noising.add_noise(x_0, eps, t), t).sample, eps)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
            rate.step()
            adam.zero_grad()
            ema.step(network.parameters())
            steps += 1
            if clock.is_over:
                break
    trained = clock.minutes
    network.eval()
    ema.copy_to(network.parameters())
    pipeline = DDIMPipeline(accelerator.unwrap_model(network), DDIMScheduler.from_config(noising.config))
    pipeline.set_progress_bar_config(disable=True)

    def draw(count: int) -> torch.Tensor:
        images = pipeline(batch_size=min(count, 16), num_inference_steps=SAMPLING_STEPS, output_type="np").images
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    draw_and_keep(asked, steps, trained, draw)


class Pictures:
    """Images as the example's data set hands them out: in three channels, resized, and flipped each time anew."""

    def __init__(self, images):
        self._images = images
        self._change = transforms.Compose(
            [
                transforms.Resize(SIDE, interpolation=transforms.InterpolationMode.BILINEAR),
                transforms.CenterCrop(SIDE),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        return self._change(Image.fromarray(self._images[index]).convert("RGB"))


if __name__ == "__main__":
    main()
