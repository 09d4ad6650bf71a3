"""Train and sample denoising diffusion models."""

__version__ = "0.1.0"
