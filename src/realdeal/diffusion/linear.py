"""The best linear denoiser of latents: where an LDM of few subjects with measures starts from.

Latents are taken as Gaussian: their mean follows the covariates linearly, they vary along a few
principal modes around it, and a little everywhere. Of such latents the clean ones are guessed from
noisy ones in closed form. Trained diffusion models are close to that at high noise (Wang and
Vastola 2023, arXiv 2311.10892); a small network that adds to it need not learn it first.
"""

import torch
from torch import nn

RIDGE = 3.0  # subjects' worth of belief that a covariate changes nothing


def ridge_slopes(features, targets):
    """Slopes (F, D) of standardised features (N, F) for centred targets (N, D)."""
    penalty = RIDGE * torch.eye(features.shape[1], dtype=features.dtype)
    return torch.linalg.solve(features.T @ features + penalty, features.T @ targets)


class LinearDenoiser(nn.Module):
    """Buffers hold the fitted model of latents (D,), flattened, with zero mean.

    `slopes` (features, D) of standardised features; `basis` (modes, D) orthonormal, `variances`
    (modes,) along it and `rest` () elsewhere.
    """

    def __init__(self, modes, shape, features=0):
        super().__init__()
        size = torch.Size(shape).numel()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("slopes", torch.zeros(features, size))
        self.register_buffer("basis", torch.zeros(modes, size))
        self.register_buffer("variances", torch.ones(modes))
        self.register_buffer("rest", torch.ones(()))

    @torch.no_grad()
    def fit(self, latents, features, effects=0, groups=None):
        """Fit to latents (N, C, x, y, z) and features (N, F) of N subjects.

        `effects` and `groups`, which `LocalDenoiser` needs, change nothing.
        """
        z = latents.flatten(1).double()
        z = z - z.mean(0)
        freedom = len(z) - 1
        if features.shape[1]:
            x = features.double()
            self.centre.copy_(x.mean(0))
            self.scale.copy_(x.std(0).clamp(min=1e-6))
            x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
            self.slopes.copy_(ridge_slopes(x, z))
            z = z - x @ self.slopes.double()
            freedom = max(freedom - x.shape[1], len(z) // 2)
        # The Gram matrix is small where the covariance is huge.
        values, vectors = torch.linalg.eigh(z @ z.T)
        kept = slice(-len(self.basis), None)
        values, vectors = values[kept].flip(0).clamp(min=1e-9), vectors[:, kept].flip(1)
        self.basis.copy_((vectors.T @ z) / values.sqrt()[:, None])
        self.variances.copy_(values / freedom)
        left = ((z**2).sum() - values.sum()) / (freedom * z.shape[1])
        self.rest.copy_(left.clamp(min=1e-6))

    def forward(self, z, alpha_cumprod, features, group=None):
        """The expected clean latents of `z` (N, C, x, y, z) at signal levels `alpha_cumprod` (N,).

        `group` changes nothing: all subjects vary in the same ways.
        """
        signal, noise = alpha_cumprod.sqrt()[:, None], 1 - alpha_cumprod[:, None]
        mean = ((features - self.centre) / self.scale) @ self.slopes
        away = z.flatten(1) - signal * mean

        def gain(variance):
            return signal * variance / (signal**2 * variance + noise)

        rest = gain(self.rest)
        shift = (away @ self.basis.T) * (gain(self.variances) - rest)
        return (mean + rest * away + shift @ self.basis).view_as(z)
