"""The best linear denoiser of latents: where an LDM of few subjects starts from.

Latents are taken as Gaussian: their mean follows the covariates linearly, they vary along a few
principal modes around it, and a little everywhere. Of such latents the clean ones are guessed
from noisy ones in closed form. Trained diffusion models are close to that at high noise (Wang and
Vastola 2023, arXiv 2311.10892); a small network that adds to it need not learn it first.
"""

import torch
from torch import nn

RIDGE = 3.0  # subjects' worth of belief that a covariate changes nothing


class LinearDenoiser(nn.Module):
    """Buffers hold the fitted model of latents (D,), flattened, with zero mean.

    `slopes` (features, D) of standardised features, `modes` (K, D) orthonormal, `variances` (K,)
    along them and `rest` () the variance elsewhere.
    """

    def __init__(self, modes, size, features=0):
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("slopes", torch.zeros(features, size))
        self.register_buffer("modes", torch.zeros(modes, size))
        self.register_buffer("variances", torch.ones(modes))
        self.register_buffer("rest", torch.ones(()))

    @torch.no_grad()
    def fit(self, latents, features):
        """Fit to latents (N, ...) and features (N, F) of N subjects."""
        z = latents.flatten(1).double()
        z = z - z.mean(0)
        count, freedom = len(z), len(z) - 1
        if features.shape[1]:
            x = features.double()
            self.centre.copy_(x.mean(0))
            self.scale.copy_(x.std(0).clamp(min=1e-6))
            x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
            ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
            self.slopes.copy_(torch.linalg.solve(x.T @ x + ridge, x.T @ z))
            z = z - x @ self.slopes.double()
            freedom = max(freedom - x.shape[1], count // 2)
        # The Gram matrix is small where the covariance is huge.
        values, vectors = torch.linalg.eigh(z @ z.T)
        kept = slice(-len(self.modes), None)
        values, vectors = values[kept].flip(0).clamp(min=1e-9), vectors[:, kept].flip(1)
        self.modes.copy_((vectors.T @ z) / values.sqrt()[:, None])
        self.variances.copy_(values / freedom)
        left = (z**2).sum() - values.sum()
        self.rest.copy_((left / (freedom * z.shape[1])).clamp(min=1e-6))

    def forward(self, z, alpha_cumprod, features):
        """The expected clean latents of `z` (N, ...) at signal levels `alpha_cumprod` (N,)."""
        signal, noise = alpha_cumprod.sqrt()[:, None], 1 - alpha_cumprod[:, None]
        mean = ((features - self.centre) / self.scale) @ self.slopes
        away = z.flatten(1) - signal * mean
        along = away @ self.modes.T

        def gain(variance):
            return signal * variance / (signal**2 * variance + noise)

        shift = along * (gain(self.variances) - gain(self.rest))
        clean = mean + gain(self.rest) * away + shift @ self.modes
        return clean.view_as(z)
