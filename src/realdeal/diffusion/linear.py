"""The best linear denoiser of latents: where an LDM of few subjects starts from.

Latents are taken as Gaussian: their mean follows the covariates linearly, they vary along a few
principal modes around it, and a little everywhere. How much they vary, and along what, may hang on
the levels of categories. Of such latents the clean ones are guessed from noisy ones in closed
form. Trained diffusion models are close to that at high noise (Wang and Vastola 2023,
arXiv 2311.10892); a small network that adds to it need not learn it first.
"""

import torch
from torch import nn

RIDGE = 3.0  # subjects' worth of belief that a covariate changes nothing


class LinearDenoiser(nn.Module):
    """Buffers hold the fitted model of latents (D,), flattened, with zero mean.

    `slopes` (features, D) of standardised features; `modes` (K, D) orthonormal; of each of the
    `groups` of subjects the `axes` (G, A, K) along which it varies within the modes, orthonormal
    too, `variances` (G, A) along them and `rest` (G,) the variance elsewhere. Without groups there
    is one, whose axes are the modes.
    """

    def __init__(self, modes, size, features=0, groups=1, axes=None):
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("slopes", torch.zeros(features, size))
        self.register_buffer("modes", torch.zeros(modes, size))
        self.register_buffer("axes", torch.eye(axes or modes, modes).repeat(groups, 1, 1))
        self.register_buffer("variances", torch.ones(groups, axes or modes))
        self.register_buffer("rest", torch.ones(groups))

    @torch.no_grad()
    def fit(self, latents, features, weights=None):
        """Fit to latents (N, ...) and features (N, F) of N subjects.

        `weights` (groups, N) say how much each of them counts in a group's variation, in that of
        the first group all alike; None, there is no other. Modes that were fitted to few subjects
        hold nearly all of how these vary, but not of how others would: a group's `rest` is the
        geometric mean of its own and the first group's, which is too high where few vary.
        """
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
        if weights is None:
            weights = torch.ones(1, count)
        scores = vectors * values.sqrt()
        energies = (z**2).sum(1)
        for group, weight in enumerate(weights.double()):
            free = weight.sum() * freedom / count
            along, axes = torch.linalg.eigh(scores.T @ (weight[:, None] * scores))
            along, axes = (part.flip(-1) for part in (along, axes))
            along = along[: self.variances.shape[1]].clamp(min=1e-9)
            self.axes[group] = axes.T[: len(along)]
            self.variances[group] = along / free
            left = (weight @ energies - along.sum()) / (free * z.shape[1])
            self.rest[group] = left.clamp(min=1e-6)
        self.rest.copy_((self.rest[0] * self.rest).sqrt())

    def forward(self, z, alpha_cumprod, features, group=None):
        """The expected clean latents of `z` (N, ...) at signal levels `alpha_cumprod` (N,).

        `group` (N,) says whose variation each has; None, the first's.
        """
        if group is None:
            group = torch.zeros(len(z), dtype=torch.long, device=z.device)
        signal, noise = alpha_cumprod.sqrt()[:, None], 1 - alpha_cumprod[:, None]
        mean = ((features - self.centre) / self.scale) @ self.slopes
        away = z.flatten(1) - signal * mean
        along = away @ self.modes.T

        def gain(variance):
            return signal * variance / (signal**2 * variance + noise)

        rest = gain(self.rest[group][:, None])
        axes = self.axes[group]
        shift = torch.einsum("nak,nk->na", axes, along) * (gain(self.variances[group]) - rest)
        clean = mean + rest * away + torch.einsum("nak,na->nk", axes, shift) @ self.modes
        return clean.view_as(z)
