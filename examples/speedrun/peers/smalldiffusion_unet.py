"""Train smalldiffusion's U-Net as its example for Fashion-MNIST does, for some minutes, and draw samples.

    python examples/speedrun/peers/smalldiffusion_unet.py --out runs/peers/smalldiffusion-s0.npz

Network, schedule, batch size, rates and sampler are those of its examples/fashion_mnist_unet.py (version 0.5), all by its public
functions. The example ends after 300 epochs, and this by the clock.
"""

from __future__ import annotations

from common import Clock, draw_and_keep, race
from PIL import Image
from smalldiffusion import Scaled, ScheduleLogLinear, Unet, img_normalize, img_train_transform, samples, training_loop
from torch.utils.data import DataLoader
from torch_ema import ExponentialMovingAverage


def main() -> None:
    asked = race(__doc__)
    images = asked.images()
    loader = DataLoader(Pictures(images), batch_size=asked.batch_size or 1024, shuffle=True)
    schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
    model = Scaled(Unet)(images.shape[-1], 1, 1, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,))
    ema = ExponentialMovingAverage(model.parameters(), decay=0.999)
    clock, steps = Clock(asked.minutes), 0
    for state in training_loop(loader, model, schedule, epochs=300, lr=7e-4):
        if steps == 0:
            ema.to(state.x0.device)
        ema.update()
        steps += 1
        state.pbar.set_description(f"{steps} steps, loss {state.loss.item():.4f}")
        if clock.is_over:
            break
    trained = clock.minutes
    with ema.average_parameters():

        def draw(count: int):
            *_, x_0 = samples(model, schedule.sample_sigmas(20), gam=1.6, batchsize=count)
            return img_normalize(x_0)

        draw_and_keep(asked, steps, trained, draw)


class Pictures:
    """Images as the example's data set hands them out: turned into a tensor, and flipped, each time anew."""

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        return img_train_transform(Image.fromarray(self._images[index]))


if __name__ == "__main__":
    main()
