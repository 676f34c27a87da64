"""Networks: shapes and parameter counts at the paper's size, parameterisations, checkpoints."""

import itertools

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from snakemake.utils import update_config

from realdeal.data.volumes import store
from realdeal.diffusion.schedules import make_schedule
from realdeal.errors import InputError
from realdeal.networks.autoencoder import Autoencoder
from realdeal.networks.checkpoint import (
    build_autoencoder,
    build_latent_unet,
    build_refiner,
    load_model,
    save_model,
)
from realdeal.networks.unets import PatchUNet
from realdeal.training.autoencoder import block_components, linear_codec


@pytest.fixture(scope="module")
def configs():
    with open("config.yaml") as base, open("presets/realdeal-paper.yaml") as over:
        config = yaml.safe_load(base)
        update_config(config, yaml.safe_load(over))
    return config


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_paper_autoencoder_gives_the_papers_latent(configs):
    with torch.device("meta"):
        network = build_autoencoder(configs["autoencoder"]["network"])
        latents = network.encode(torch.empty(1, 1, *configs["preprocessing"]["shape"]))
        volume = network.decode(latents)
    assert latents.shape == (1, 4, 56, 72, 56)
    assert volume.shape == (1, 1, 224, 288, 224)
    # By hand, convolutions 27ab + b: stem 1->64, 64->128, 128->64 and the mirrored decoder
    # (last 64->1), residual blocks of 64, 128, 64 twice, bottlenecks 64-32-4 (with a
    # scale and a shift for 32 normalised channels) and back.
    c = lambda a, b, k=27: k * a * b + b  # noqa: E731
    blocks = 2 * (2 * c(64, 64) + 2 * c(128, 128) + 2 * c(64, 64))
    convolutions = c(1, 64) + c(64, 1) + 2 * (c(64, 128) + c(128, 64))
    bottleneck = c(64, 32, 1) + 2 * 32 + c(32, 4, 1) + c(4, 32, 1) + c(32, 64, 1)
    assert count(network) == blocks + convolutions + bottleneck


def test_folded_autoencoder_samples_down_by_four_too():
    network = Autoencoder((8, 16), fold=2)
    x = 2 * torch.rand(1, 1, 16, 8, 12) - 1
    z = network.encode(x)
    assert z.shape == (1, 4, 4, 2, 3) and network.decode(z).shape == x.shape
    assert 0.02 < z.std() < 0.45  # the sigmoid neither collapses nor saturates from the start
    with pytest.raises(ValueError, match="down by four"):
        Autoencoder((8, 16, 16), fold=2)


def test_linear_path_starts_as_the_best_linear_codec(tmp_path):
    rng = np.random.default_rng(0)
    # Smooth volumes, whose blocks have few strong components.
    volumes = gaussian_filter(rng.normal(size=(3, 16, 12, 8)), (0, 1.5, 1.5, 1.5))
    volumes = np.clip(2 * volumes, -1, 1)
    paths = [tmp_path / f"{i}.npy" for i in range(len(volumes))]
    for path, volume in zip(paths, volumes, strict=True):
        store(path, volume)
    blocks = volumes.reshape(3, 4, 4, 3, 4, 2, 4).transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, 64)
    reference = PCA(6).fit(blocks)
    mean, components, std = block_components(paths, 6)
    assert np.allclose(mean, reference.mean_, atol=1e-4)
    assert np.allclose(std, reference.explained_variance_**0.5, rtol=0.02)  # n or n - 1
    overlap = np.abs(components @ reference.components_.T)
    assert np.allclose(overlap, np.eye(6), atol=0.01)

    # The best linear map of the neighbouring latents, by scikit-learn.
    latents = (reference.transform(blocks) / std).reshape(3, 4, 3, 2, 6)
    padded = np.pad(latents, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
    around = [
        padded[:, i : i + 4, j : j + 3, k : k + 2]
        for i, j, k in itertools.product(range(3), repeat=3)
    ]
    around = np.stack(around, -1).reshape(-1, 27 * 6)
    ridge = Ridge(alpha=(0.3**2 + 1e-6) * len(blocks), fit_intercept=False)
    fitted = ridge.fit(around, blocks - reference.mean_)
    fitted = fitted.predict(around) + reference.mean_
    expected = fitted.reshape(3, 4, 3, 2, 4, 4, 4).transpose(0, 1, 4, 2, 5, 3, 6)

    network = Autoencoder((8, 16), latent_channels=6, fold=2, linear_path=True).eval()
    network.start_linear(*linear_codec(paths, 6, noise=0.3))
    with torch.no_grad():
        # What is learned starts small; here it is nothing.
        for last in (network.to_latent[-1], network.decoder[-1]):
            last.weight.zero_()
            last.bias.zero_()
        out = network(torch.from_numpy(volumes[:, None]).float())[:, 0].numpy()
    assert np.allclose(out, expected.reshape(volumes.shape).clip(-1, 1), atol=2e-3)
    # A sign may differ from scikit-learn's; the reconstruction does not depend on it.
    assert np.corrcoef(out.ravel(), volumes.ravel())[0, 1] > 0.8


def test_paper_unets_shapes_and_sizes(configs):
    with torch.device("meta"):
        ldm = build_latent_unet(configs["ldm"]["network"])
        out = ldm(torch.empty(1, 4, 56, 72, 56), torch.zeros(1, dtype=torch.long))
    assert out.shape == (1, 4, 56, 72, 56)
    description = configs["refiner"]["network"] | {
        "schedule": configs["refiner"]["schedule"],
        "residual_std": 0.1,
    }
    refiner = build_refiner(description)
    # MONAI 1.6.1's U-Net with these widths: pinned so that a change is noticed.
    assert (count(ldm) // 10**6, count(refiner) // 10**6) == (441, 68)


def test_refiner_forward_at_demo_size_and_residual_identity():
    abar = make_schedule(
        {"timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0205, "kind": "scaled_linear_beta"},
        "epsilon",
    ).alphas_cumprod
    unet = {
        "channels": [8, 8],
        "num_res_blocks": 1,
        "attention_levels": [False, False],
        "num_head_channels": [8, 8],
        "norm_num_groups": 8,
    }
    torch.manual_seed(0)
    network = PatchUNet(unet, abar, "residual", residual_std=0.2)
    for parameter in network.unet.out[-1].parameters():
        torch.nn.init.zeros_(parameter)
    # With F = 0 the prediction is the best linear estimate of the noise from d = a r + s n.
    t = torch.tensor([0, 200, 500, 999])
    residual = 0.2 * torch.randn(4, 1, 16, 16, 16)
    coarse, noise = torch.randn(2, 4, 1, 16, 16, 16)
    a, s = abar[t].sqrt().view(-1, 1, 1, 1, 1), (1 - abar[t]).sqrt().view(-1, 1, 1, 1, 1)
    predicted = network(a * (coarse + residual) + s * noise, t, coarse, coarse)
    for i in range(4):
        d = (a * residual + s * noise)[i]
        slope = (d * noise[i]).sum() / (d * d).sum()
        ratio = (predicted[i] * d).sum() / (d * d).sum()
        assert torch.allclose(predicted[i], ratio * d, atol=1e-4)
        # The regression's slope is known to one standard error of 1 / (std(d) sqrt(n)).
        assert abs(ratio - slope) < 4 / (d.std() * d.numel() ** 0.5)


def test_checkpoint_round_trip_and_refusals(tmp_path):
    network = {"channels": [2, 2, 4], "latent_channels": 4, "fold": 1, "linear_path": False}
    module = build_autoencoder(network)
    path = tmp_path / "autoencoder.safetensors"
    save_model(path, "autoencoder", module, network, extra={"mean": torch.ones(3)})
    loaded, description, extra = load_model(path, "autoencoder")
    assert description["commit"] and extra["mean"].tolist() == [1, 1, 1]
    x = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(loaded(x), module.eval()(x))
    with pytest.raises(InputError, match="not the ldm"):
        load_model(path, "ldm")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="safetensors"):
        load_model(path, "autoencoder")
