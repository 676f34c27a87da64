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

from math import prod

import torch
from torch import nn

RIDGE = 3.0  # subjects' worth of belief that a covariate changes nothing
MARK_WIDTH = 3  # latent voxels over which deviations are averaged to find a subject's mark


def ridge_slopes(features, targets):
    """Slopes (F, D) of standardised features (N, F) for centred targets (N, D)."""
    penalty = RIDGE * torch.eye(features.shape[1], dtype=features.dtype)
    return torch.linalg.solve(features.T @ features + penalty, features.T @ targets)


def window_sums(field, width):
    """Sums of `field` (x, y, z, ...) over windows around each place, zero beyond its edges."""
    shape = field.shape
    for axis in range(3):  # products with band matrices, faster than 3D pooling
        place = torch.arange(shape[axis], device=field.device)
        within = ((place[:, None] - place).abs() <= width // 2).to(field)
        field = within @ field.reshape(prod(shape[:axis]), shape[axis], -1)
    return field.reshape(shape)


def marks_of(deviations, share):
    """Where each of N subjects of a group deviates most from its mean: bool (N, 1, x, y, z).

    `deviations` (N, C, x, y, z); `share` of the places are marked, rounded down.
    """
    power = ((deviations - deviations.mean(0)) ** 2).sum(1)
    power = window_sums(power.movedim(0, -1), MARK_WIDTH).movedim(-1, 0).flatten(1)
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

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def forward(self, z, alpha_cumprod, features, group=None):
        """The expected clean latents of `z` (N, C, x, y, z) at signal levels `alpha_cumprod` (N,).

        `features` (N, F) and `group` (N,) say what each is; without groups all are of group 0.
        """
        mean = self._mean(features).view_as(z)
        signal = alpha_cumprod.view(-1, 1, 1, 1, 1)
        variance = signal * self.spread + 1 - signal
        away = z - signal.sqrt() * mean
        numbers = [0] * len(z) if group is None else group.tolist()
        widths = [self._window(float(a / (1 - a))) for a in alpha_cumprod]
        nearest = torch.empty_like(z)
        alike = {}  # those of one group and window are guessed together
        for i, key in enumerate(zip(numbers, widths, strict=True)):
            alike.setdefault(key, []).append(i)
        for (number, width), rows in alike.items():
            known = self.groups == number
            if not (number and known.any()):
                known = torch.ones_like(known)
            nearest[rows] = self._nearest(away[rows], signal[rows], variance[rows], known, width)
        gain = signal.sqrt() * self.spread / variance
        return mean + nearest + gain * (away - signal.sqrt() * nearest)

    def _nearest(self, away, signal, variance, known, width):
        """The mosaic of the `known` training subjects' deviations that fits `away` best."""
        shape = away.shape
        away, examples = places_first(away), places_first(self.deviations[known].to(away.dtype))
        signal, variance = signal.view(1, -1, 1), variance.view(1, -1, 1)

        def log_odds(clean):
            """By place, of each of `clean` (places, M, C), to zero latents: (places, N, M)."""
            match = signal.sqrt() * away @ clean.mT - signal / 2 * (clean**2).sum(2).unsqueeze(1)
            return match / variance

        odds = log_odds(examples)
        around = window_sums(odds.view(*shape[2:], *odds.shape[1:]), width).view_as(odds)
        weights = torch.softmax(around, 2)
        if self.share and width == self.windows[0][1]:
            # The odds that the brain has this mark rather than what is usual there.
            marks = places_first(self.marks[known].to(away.dtype)).mT
            evidence = marks * (odds - log_odds(examples.mean(1, keepdim=True)))
            chosen = torch.softmax(evidence.sum(0), 1) * marks
            weights = chosen + (1 - chosen.sum(2, keepdim=True)) * weights
        return (weights @ examples).permute(1, 2, 0).reshape(shape)


def places_first(field):
    """(N, C, x, y, z) as (places, N, C)."""
    return field.flatten(2).permute(2, 0, 1)
