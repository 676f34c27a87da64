"""A closed-form denoiser of latents: where an LDM of few subjects starts from.

What is clean at a place is guessed from the training latents there, each weighted by how well its
surroundings match the noisy ones. The surroundings are a window that shrinks as the noise does, so
that samples are mosaics, anatomy of many subjects that agrees where it meets, and copies of none;
convolutional diffusion models are close to that (Kamb and Ganguli 2024, arXiv 2412.20292). Masses
and plaques survive it, which a Gaussian guess would smear. Means follow the covariates linearly.

As no window knows of the others, each would decide on its own whether there is a mass: a brain
might have none, or two. So what marks a subject out, the places where it deviates most from its
group, is drawn whole, and that of one subject for the whole brain.
"""

import torch
from torch import nn
from torch.nn import functional as F

RIDGE = 3.0  # subjects' worth of belief that a covariate changes nothing
MARK_WIDTH = 3  # latent voxels over which deviations are averaged to find a subject's mark


def ridge_slopes(features, targets):
    """Slopes (F, D) of standardised features (N, F) for centred targets (N, D)."""
    penalty = RIDGE * torch.eye(features.shape[1], dtype=features.dtype)
    return torch.linalg.solve(features.T @ features + penalty, features.T @ targets)


def window_sums(field, width):
    """Sums of `field` (N, 1, x, y, z) over windows around each place, zero beyond its edges."""
    padded = F.pad(field, 6 * [width // 2])
    return F.avg_pool3d(padded, width, stride=1) * width**3


def marks_of(deviations, share):
    """Where each of N subjects of a group deviates most from its mean: bool (N, 1, x, y, z).

    `deviations` (N, C, x, y, z); `share` of the places are marked, rounded down.
    """
    power = ((deviations - deviations.mean(0)) ** 2).sum(1, keepdim=True)
    power = window_sums(power, MARK_WIDTH).flatten(1)
    marked = torch.zeros_like(power, dtype=torch.bool)
    marked.scatter_(1, power.topk(int(share * power.shape[1])).indices, True)
    return marked.view(len(deviations), 1, *deviations.shape[2:])


class LocalDenoiser(nn.Module):
    """Buffers hold the fitted model of latents (C, x, y, z) = `shape`, which have zero mean.

    `slopes` (features, C x y z) of standardised features, the mean of a subject; `deviations`
    (N, C, x, y, z) from it of the N training subjects, float16; `groups` (N,) the combination of
    levels that each belongs to. Whoever belongs to a group deviates as its subjects do, and, in
    group 0 or one without subjects, as anyone.

    `windows` [[signal-to-noise ratio, width], ...] in rising order: from that ratio on the window
    is so many latent voxels wide (odd). `spread` is the variance around each training subject.
    `marks` is the share of the places that mark a subject out; they are drawn whole while the
    window is the first.
    """

    def __init__(self, count, shape, features, windows, spread, marks=0):
        super().__init__()
        self.windows, self.spread, self.share = windows, spread, marks
        size = torch.Size(shape).numel()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("slopes", torch.zeros(features, size))
        self.register_buffer("deviations", torch.zeros(count, *shape, dtype=torch.float16))
        self.register_buffer("groups", torch.zeros(count, dtype=torch.long))
        self.register_buffer("marks", torch.zeros(count, 1, *shape[1:], dtype=torch.bool))

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
        for group in self.groups.unique():
            own = self.groups == group
            self.marks[own] = marks_of(self.deviations[own].float(), self.share)

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
            if not (number and known.any()):
                known = torch.ones_like(known)
            deviations = self.deviations[known].to(z.dtype)
            noise = 1 - signal
            away = noisy - signal.sqrt() * centre
            variance = signal * self.spread + noise
            misfit = self._misfit(away, signal.sqrt() * deviations, variance)
            width = self._window(float(signal / noise))
            weights = torch.softmax(-window_sums(misfit, width), 0)
            nearest = (weights * deviations).sum(0)
            if self.share and width == self.windows[0][1]:
                # The odds that the brain has this mark rather than what is usual there.
                marks, usual = self.marks[known], deviations.mean(0, keepdim=True)
                usual = self._misfit(away, signal.sqrt() * usual, variance)
                evidence = (marks * (usual - misfit)).sum((1, 2, 3, 4), keepdim=True)
                chosen = torch.softmax(evidence, 0) * marks
                nearest = (chosen * deviations).sum(0) + (1 - chosen.sum(0)) * nearest
            gain = signal.sqrt() * self.spread / variance
            guesses.append(centre + nearest + gain * (away - signal.sqrt() * nearest))
        return torch.stack(guesses)

    @staticmethod
    def _misfit(noisy, clean, variance):
        """Minus log likelihood of `noisy` (C, x, y, z), given `clean` (N, C, x, y, z), by place."""
        return ((noisy - clean) ** 2).sum(1, keepdim=True) / (2 * variance)
