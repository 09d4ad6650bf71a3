"""Add a choice of each kind to `ddpm` from outside, one file each; pyproject.toml enters them."""
