"""A closed-form denoiser of latents: where an LDM of few subjects starts from.

What is clean at a place is guessed from the training latents there, each weighted by how well its
surroundings match the noisy ones. The surroundings are a window that shrinks as the noise does, so
that samples are mosaics, anatomy of many subjects that agrees where it meets, and copies of none;
convolutional diffusion models are close to that (Kamb and Ganguli 2024, arXiv 2412.20292). Masses
and plaques survive it, which a Gaussian guess would smear. Means follow the covariates linearly.
"""

import torch
from torch import nn
from torch.nn import functional as F

RIDGE = 3.0  # subjects' worth of belief that a covariate changes nothing


def ridge_slopes(features, targets):
    """Slopes (F, D) of standardised features (N, F) for centred targets (N, D)."""
    penalty = RIDGE * torch.eye(features.shape[1], dtype=features.dtype)
    return torch.linalg.solve(features.T @ features + penalty, features.T @ targets)


class LocalDenoiser(nn.Module):
    """Buffers hold the fitted model of latents (C, x, y, z) = `shape`, which have zero mean.

    `slopes` (features, C x y z) of standardised features, the mean of a subject; `deviations`
    (N, C, x, y, z) from it of the N training subjects, float16; `groups` (N,) the combination of
    levels that each belongs to. Whoever belongs to a group deviates as its subjects do, and, in
    group 0 or one without subjects, as anyone.

    `windows` [[signal-to-noise ratio, width], ...] in rising order: from that ratio on the window
    is so many latent voxels wide (odd). `spread` is the variance around each training subject.
    """

    def __init__(self, count, shape, features, windows, spread):
        super().__init__()
        self.windows, self.spread = windows, spread
        size = torch.Size(shape).numel()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("slopes", torch.zeros(features, size))
        self.register_buffer("deviations", torch.zeros(count, *shape, dtype=torch.float16))
        self.register_buffer("groups", torch.zeros(count, dtype=torch.long))

    @torch.no_grad()
    def fit(self, latents, features, effects, groups=None):
        """Fit to latents (N, C, x, y, z), features (N, F) and groups (N,) of N subjects.

        The first `effects` features are fitted first, and the others to what these leave over: so
        a pair of levels that no subject has is given all that its levels do on their own.
        """
        z = latents.flatten(1).double()
        if features.shape[1]:
            x = features.double()
            self.centre.copy_(x.mean(0))
            self.scale.copy_(x.std(0).clamp(min=1e-6))
            x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
            first = ridge_slopes(x[:, :effects], z)
            second = ridge_slopes(x[:, effects:], z - x[:, :effects] @ first)
            self.slopes.copy_(torch.cat([first, second]))
        self.deviations.copy_(latents - self._mean(features).view_as(latents))
        if groups is not None:
            self.groups.copy_(groups)

    def _mean(self, features):
        return ((features - self.centre) / self.scale) @ self.slopes

    def _window(self, ratio):
        return [width for least, width in self.windows if ratio >= least][-1]

    def forward(self, z, alpha_cumprod, features, group=None):
        """The expected clean latents of `z` (N, C, x, y, z) at signal levels `alpha_cumprod` (N,).

        `features` (N, F) and `group` (N,) say what each is; without groups all are of group 0.
        """
        mean = self._mean(features).view_as(z)
        group = [0] * len(z) if group is None else group.tolist()
        guesses = []
        for noisy, centre, signal, number in zip(z, mean, alpha_cumprod, group, strict=True):
            known = self.groups == number
            deviations = self.deviations[known] if number and known.any() else self.deviations
            deviations = deviations.to(z.dtype)
            noise = 1 - signal
            away = noisy - signal.sqrt() * centre
            variance = signal * self.spread + noise
            misfit = ((away - signal.sqrt() * deviations) ** 2).sum(1, keepdim=True)
            width = self._window(float(signal / noise))
            # With zeros around, the sum over what of the window lies inside.
            misfit = F.avg_pool3d(F.pad(misfit, 6 * [width // 2]), width, stride=1) * width**3
            weights = torch.softmax(-misfit / (2 * variance), 0)
            nearest = (weights * deviations).sum(0)
            gain = signal.sqrt() * self.spread / variance
            guesses.append(centre + nearest + gain * (away - signal.sqrt() * nearest))
        return torch.stack(guesses)
