"""The sampler `texture`: one to a few steps that draw what the network cannot know.

A network predicts the mean of all scans that a smooth volume may stand for, and the mean of many
textures is no texture. A thousand small steps put it back bit by bit; here each step draws it at
once: a Gaussian field of the strength and the spatial spectrum that held-out patches showed about
their predictions (the idea of Bao et al. 2022, Analytic-DPM, with a covariance that is measured,
coloured, and depends on the tissue). Since the smooth volume says nearly all that is to be known
at the noisiest levels, sampling starts from it and its own texture, where the noise has the size
of what is missing, and needs no evaluation before.
"""

from itertools import product

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.diffusion.schedules import predicted_noise_and_clean

# Bin centres: intensity and contrast of the coarse volume, spatial frequency in cycles per voxel.
INTENSITIES = np.linspace(-0.9, 0.9, 10)
CONTRASTS = np.linspace(0.05, 0.4, 8)
FREQUENCIES = (np.arange(16) + 0.5) / 32
NEIGHBOURHOOD = 5  # voxels, for the contrast
FEWEST = 0.002  # share of the voxels that a bin needs to be trusted
# What was measured holds the network's own error, too, which is not to be drawn (chosen on two
# brains of the demo study, seed 0, and kept for the others).
TEMPERATURE = 0.9
SPAN = 5.0  # log SNRs over which steps spread, about that of noise as large as what is missing


def contrast(coarse):
    """Standard deviation in the neighbourhood of each voxel of a tensor (N, 1, X, Y, Z)."""
    options = {
        "kernel_size": NEIGHBOURHOOD,
        "stride": 1,
        "padding": NEIGHBOURHOOD // 2,
        "count_include_pad": False,
    }
    variance = F.avg_pool3d(coarse**2, **options) - F.avg_pool3d(coarse, **options) ** 2
    return variance.clamp(min=0).sqrt()


def radial_frequency(shape):
    """Distance (X, Y, Z) from the centre of the spectrum in cycles per voxel, at most 0.5."""
    axes = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij", sparse=True)
    return np.minimum(np.sqrt(sum(axis**2 for axis in axes)), 0.5)


def strength(amplitude, coarse):
    """What a table (intensity, contrast) says of each voxel of a tensor (N, 1, X, Y, Z)."""
    table = torch.as_tensor(amplitude, dtype=torch.float32, device=coarse.device)[None, None]
    place = [
        2 * (values - centres[0]) / (centres[-1] - centres[0]) - 1
        for values, centres in ((contrast(coarse), CONTRASTS), (coarse, INTENSITIES))
    ]
    grid = torch.stack(place, -1).view(1, 1, -1, 2)
    found = F.grid_sample(table, grid, padding_mode="border", align_corners=True)
    return found.view(coarse.shape)


def _bin(values, centres):
    return np.digitize(values, (centres[1:] + centres[:-1]) / 2)


def _amplitude(missing, coarse):
    """Root mean square (intensity, contrast); bins with few voxels are as the nearest others."""
    shape = len(INTENSITIES), len(CONTRASTS)
    contrasts = _bin(contrast(coarse).numpy(), CONTRASTS)
    bins = (_bin(coarse.numpy(), INTENSITIES) * shape[1] + contrasts).ravel()
    count = np.bincount(bins, minlength=shape[0] * shape[1])
    squares = np.bincount(bins, missing.numpy().ravel().astype(float) ** 2, len(count))
    trusted = np.flatnonzero(count > FEWEST * count.sum())
    places = np.array(list(product(range(shape[0]), range(shape[1]))))
    distance = ((places[:, None] - places[trusted]) ** 2).sum(-1)
    nearest = trusted[distance.argmin(1)]
    return np.sqrt(squares[nearest] / count[nearest] + 1e-12).reshape(shape)


def describe(missing, coarse, brain):
    """Strength and spectrum of what predictions miss, clean - predicted.

    All three are tensors (N, 1, P, P, P) of patches; `brain` is boolean. Returns the root mean
    square at each of `INTENSITIES` and `CONTRASTS` of the coarse patch, and the power at each of
    `FREQUENCIES` of what is missing over that strength.
    """
    amplitude = _amplitude(missing, coarse)
    unit = (missing / strength(amplitude, coarse) * brain)[:, 0].numpy()
    window = np.hanning(unit.shape[-1] + 2)[1:-1]  # patches do not go on at their other end
    unit = unit * window[:, None, None] * window[:, None] * window
    power = (np.abs(np.fft.fftn(unit, axes=(1, 2, 3))) ** 2).mean(0)
    bins = _bin(radial_frequency(unit.shape[1:]), FREQUENCIES).ravel()
    count = np.bincount(bins, minlength=len(FREQUENCIES))
    sums = np.bincount(bins, power.ravel() / power.mean(), len(FREQUENCIES))
    found = count > 0
    return amplitude, np.interp(FREQUENCIES, FREQUENCIES[found], sums[found] / count[found])


class Texture:
    """What was measured at several time steps, and about the coarse volume itself.

    `description` is that of a trained refiner: {"timesteps": ascending, "amplitudes", "spectra":
    one entry for each and a last one for the coarse volume, "residual_std": of original - coarse}.
    """

    def __init__(self, description):
        self.timesteps = np.array(description["timesteps"])
        self.amplitudes = np.array(description["amplitudes"])
        self.spectra = np.array(description["spectra"])
        self.residual_std = description["residual_std"]

    def _at(self, tables, t):
        """The table of a time step, between those measured; None: of the coarse volume."""
        if t is None:
            return tables[-1]
        above = np.clip(np.searchsorted(self.timesteps, t), 1, len(self.timesteps) - 1)
        low, high = self.timesteps[above - 1], self.timesteps[above]
        part = (t - low) / (high - low)
        return (1 - part) * tables[above - 1] + part * tables[above]

    def draw(self, white, coarse, t=None):
        """Texture from white noise (N, 1, X, Y, Z), to be added to the prediction at time step t.

        `coarse` has the same shape; t None: to be added to the coarse volume itself.
        """
        axes = (-3, -2, -1)
        frequency = radial_frequency(white.shape[-3:])
        power = np.interp(frequency, FREQUENCIES, self._at(self.spectra, t))
        colour = torch.from_numpy(np.sqrt(power / power.mean()).astype(np.float32))
        spectrum = torch.fft.fftn(white, dim=axes) * colour.to(white.device)
        unit = torch.fft.ifftn(spectrum, dim=axes).real
        return unit * strength(self._at(self.amplitudes, t), coarse)

    def sampling_timesteps(self, alphas_cumprod, steps):
        """Time steps from the noisiest down, spread about noise as large as what is missing."""
        log_snr = torch.log(alphas_cumprod / (1 - alphas_cumprod)).double()
        offsets = SPAN * ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps - 0.5)
        wanted = offsets - 2 * float(np.log(self.residual_std))
        nearest = (log_snr[None] - wanted[:, None]).abs().argmin(1)
        return sorted(set(nearest.tolist()), reverse=True)

    @torch.no_grad()
    def sample(
        self,
        predict,
        x,
        coarse,
        scheduler,
        steps,
        *,
        noise,
        constrain=lambda x: x,
        temperature=TEMPERATURE,
    ):
        """Refine `coarse` (N, 1, X, Y, Z) in [-1, 1]; `x` is white noise of its shape.

        `predict(x, t)` gives the noise in x, `noise()` fresh white noise, `constrain(x)` puts
        back what is known after each step. No steps: the coarse volume with texture, which no
        network has seen. All texture is drawn at `temperature` times its measured strength.
        """
        abar = scheduler.alphas_cumprod
        timesteps = self.sampling_timesteps(abar, steps)
        clean = (coarse + temperature * self.draw(noise(), coarse)).clamp(-1, 1)
        if not timesteps:
            return constrain(clean)
        start = float(abar[timesteps[0]])
        x = constrain(start**0.5 * clean + (1 - start) ** 0.5 * x)
        for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
            now = float(abar[t])
            then = 1.0 if following is None else float(abar[following])
            _, clean = predicted_noise_and_clean(predict(x, t), x, now, "epsilon")
            clean = clean.clamp(-1, 1) + temperature * self.draw(noise(), coarse, t)
            epsilon = (x - now**0.5 * clean) / (1 - now) ** 0.5
            x = constrain(then**0.5 * clean + (1 - then) ** 0.5 * epsilon)
        return x
