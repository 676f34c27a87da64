"""PSNR, SSIM, MS-SSIM and 4-G-R-SSIM."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from realdeal.errors import InputError
from realdeal.metrics import diversity

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(rng.standard_normal((22, 24, 26)), 1.5)
    volume = np.clip(volume / np.abs(volume).max() * 1.5, -1, 1)
    volume[:, :, :6] = -1  # background, where nothing varies
    noisy = np.clip(volume + 0.1 * rng.standard_normal(volume.shape) * (volume > -1), -1, 1)
    return volume, noisy


def literal_four_g_r_ssim(reference, image, kernel, sigma, k, weights):
    """The definition written out voxel by voxel."""
    x, y = (np.asarray(v, dtype=float) / 2 + 0.5 for v in (reference, image))
    side = np.full((3, 3), 0.05)
    side[1, 1] = 0.1

    def gradient(v):
        out = np.zeros(np.array(v.shape) - 2)
        for i in np.ndindex(*out.shape):
            cube = v[i[0] : i[0] + 3, i[1] : i[1] + 3, i[2] : i[2] + 3]
            for axis in range(3):
                faces = np.moveaxis(cube, axis, 0)
                out[i] += abs((faces[2] * side).sum() - (faces[0] * side).sum())
        return out

    r = np.arange(kernel) - (kernel - 1) / 2
    g = np.exp(-(r**2) / (2 * sigma**2))
    window = np.einsum("i,j,k->ijk", g, g, g)
    window /= window.sum()
    c1, c2 = k[0] ** 2, k[1] ** 2
    gx, gy = gradient(x), gradient(y)
    x, y = x[1:-1, 1:-1, 1:-1], y[1:-1, 1:-1, 1:-1]
    th1, th2 = 0.12 * gx.max(), 0.06 * gx.max()
    values = [[], [], [], []]
    half = (kernel - 1) // 2
    for i in np.ndindex(*(np.array(gx.shape) - kernel + 1)):
        box = tuple(slice(n, n + kernel) for n in i)
        mx, my = (window * x[box]).sum(), (window * y[box]).sum()
        numerator, denominator = 2 * mx * my + c1, mx**2 + my**2 + c1
        l_term = numerator / denominator if denominator else 1
        ax, ay = (window * gx[box]).sum(), (window * gy[box]).sum()
        sx = np.sqrt(max((window * (gx[box] - ax) ** 2).sum(), 0))
        sy = np.sqrt(max((window * (gy[box] - ay) ** 2).sum(), 0))
        sxy = (window * (gx[box] - ax) * (gy[box] - ay)).sum()
        c_term = (2 * sx * sy + c2) / (sx**2 + sy**2 + c2)
        if sx == 0 or sy == 0:
            s_term = float(sx == sy)
        else:
            s_term = (sxy + c2 / 2) / (sx * sy + c2 / 2)
        ex, ey = gx[tuple(np.add(i, half))], gy[tuple(np.add(i, half))]
        if ex > th1 and ey > th1:
            part = 0
        elif ex > th1 or ey > th1:
            part = 1
        elif ex < th2 and ey <= th1:
            part = 2
        else:
            part = 3
        values[part].append(l_term * c_term * s_term)
    filled = [i for i in range(4) if values[i]]
    spare = sum(weights[i] for i in range(4) if not values[i]) / len(filled)
    return max(0, sum((weights[i] + spare) * np.mean(values[i]) for i in filled))


@pytest.mark.parametrize("kernel", [5, 11])
def test_four_g_r_ssim_equals_the_literal_definition(pair, kernel):
    options = {"kernel": kernel, "sigma": 1.5, "k": (0.01, 0.03), "weights": (0.1, 0.2, 0.3, 0.4)}
    small = [v[:17, :18, :19] for v in pair]
    expected = literal_four_g_r_ssim(*small, **options)
    assert diversity.four_g_r_ssim(*small, **options) == pytest.approx(expected, abs=1e-8)


def test_four_g_r_ssim_falls_under_noise_and_blur(pair):
    volume, noisy = pair
    variants = {
        "blurred": ndimage.gaussian_filter(volume, 1),
        "blurrier": ndimage.gaussian_filter(volume, 2),
        "noisy": noisy,
        "noisier": volume + 3 * (noisy - volume),
    }
    score = {name: diversity.four_g_r_ssim(volume, image) for name, image in variants.items()}
    assert diversity.four_g_r_ssim(volume, volume) == pytest.approx(1, abs=1e-9)
    assert 1 > score["blurred"] > score["blurrier"] > 0
    assert 1 > score["noisy"] > score["noisier"] >= 0


def test_empty_components_share_their_weight():
    flat = np.zeros((16, 16, 16))
    assert diversity.four_g_r_ssim(flat, flat, kernel=5) == pytest.approx(1)


def test_psnr_and_ssim(pair):
    volume, noisy = pair
    error = np.mean((volume - noisy) ** 2)
    assert diversity.psnr(volume, noisy) == pytest.approx(10 * np.log10(4 / error))
    assert diversity.psnr(volume, volume) == np.inf
    assert diversity.ssim(volume, volume) == pytest.approx(1)
    assert diversity.ssim(volume, noisy) < 0.99


def test_ms_ssim(pair):
    volume, noisy = pair
    assert diversity.ms_ssim(volume, volume) == pytest.approx(1, abs=1e-5)
    assert diversity.ms_ssim(volume, noisy) < 0.999
    sizes = {11: 1, 22: 2, 44: 3, 98: 3, 99: 4, 176: 5, 160: 4}
    assert {s: diversity.ms_ssim_levels((s, 300, 300)) for s in sizes} == sizes
    with pytest.raises(InputError, match="at least 11"):
        diversity.ms_ssim_levels((10, 64, 64))


@pytest.mark.parametrize("metric", ["psnr", "ssim", "ms_ssim", "four_g_r_ssim"])
def test_bad_input(pair, metric):
    function = getattr(diversity, metric)
    with pytest.raises(InputError, match="two equal"):
        function(pair[0], pair[1][1:])
    with pytest.raises(InputError, match="NaN"):
        function(pair[0], np.where(pair[1] > 0.5, np.nan, pair[1]))
    if metric != "psnr":
        with pytest.raises(InputError, match="at least"):
            function(pair[0][:9], pair[1][:9])
