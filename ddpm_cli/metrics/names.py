"""The names of what `ddpm evaluate` measures. Imports no torch."""

OF_SAMPLES = ("fid", "kid", "inception-score", "precision-recall", "fcd", "nearest")
LIKELIHOODS = ("bits-per-dim", "nll-ode")
PER_TIMESTEP = "loss-per-timestep"
HELD_OUT = (*LIKELIHOODS, PER_TIMESTEP)
"""Those that look at held-out images."""
METRICS = (*OF_SAMPLES, *HELD_OUT)
OF_INCEPTION = ("fid", "kid", "inception-score", "precision-recall")
"""Those that look through the Inception network."""
SMALLEST_N = {"fid": 2, "kid": 2, "inception-score": 10, "precision-recall": 4, "fcd": 2, "nearest": 1}
"""Samples that each of them is defined for."""
