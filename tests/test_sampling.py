"""Sampling a conditioned LDM: it depends on what is asked, on guidance, not on the batch."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import SHORT, small_unet

from realdeal.data.volumes import load_volume, save_volume
from realdeal.errors import InputError
from realdeal.networks.autoencoder import Autoencoder
from realdeal.networks.checkpoint import build_latent_unet, save_model
from realdeal.sampling import Generator, sample
from realdeal.study import Study

COVARIATES = [{"name": "age", "range": [20, 80]}, {"name": "sex", "levels": ["F", "M"]}]
SETTINGS = {"sampler": "ddim", "steps": 3, "spacing": "uniform", "guidance": 1, "batch_size": 2}
OLD, YOUNG = {"age": 80, "sex": "F"}, {"age": 20, "sex": "F"}


def make_study(root, dropout):
    """Random networks whose local denoiser knows that age brightens the latents."""
    study = Study(root)
    torch.manual_seed(0)
    codec = {"channels": [4, 4], "latent_channels": 1, "fold": 2, "linear_path": False}
    module = Autoencoder(**codec)
    save_model(study.model("autoencoder"), "autoencoder", module, codec)
    conditioning = {"covariates": COVARIATES, "enter": "both", "context_width": 4}
    network = {
        "unet": small_unet(4, 4, attention=True),
        "latent_channels": 1,
        "coordinates": False,
        "conditioning": conditioning | {"dropout": dropout},
        "guess": {"windows": [[0, 3]], "spread": 0.1},
        "examples": 20,
        "latent_shape": [1, 4, 4, 4],
        "schedule": SHORT,
        "prediction": "v_prediction",
    }
    module = build_latent_unet(network)
    told = torch.rand(20, 3)
    latents = told[:, :1, None, None, None] * torch.ones(20, 1, 4, 4, 4)
    module.guess.fit(latents + 0.05 * torch.randn(20, 1, 4, 4, 4), told, 3)
    extra = {
        f"latent_{k}": torch.full((1, 1, 1, 1), v)
        for k, v in {"mean": 0.5, "std": 0.2, "low": 0.0, "high": 1.0}.items()
    }
    trained = {"ranges": {"age": [30, 60]}, "categories": ["sex"], "combinations": [["F"], ["M"]]}
    description = {
        "config": {"schedule": SHORT, "prediction": "v_prediction"},
        "latent_shape": [1, 4, 4, 4],
        "trained": trained,
    }
    save_model(study.model("ldm"), "ldm", module, network, extra, description)
    save_volume(
        study.volume("original", "like"), np.eye(16)[None].repeat(16, 0), np.diag([4, 4, 4, 1.0])
    )
    return study


def draw(generator, asked, **changes):
    noises = [torch.Generator().manual_seed(i) for i in range(len(asked))]
    return np.array(generator.sample(noises, SETTINGS | changes, asked))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("conditioned"), dropout=0.1)


def test_what_is_asked_changes_the_volume_and_guidance_says_how_much(study):
    generator = Generator(study)
    by_guidance = {}
    for guidance in (0, 1, 2):
        old, young = (draw(generator, [row], guidance=guidance) for row in (OLD, YOUNG))
        by_guidance[guidance] = np.abs(old - young).max()
    assert by_guidance[0] < 1e-6  # nobody is told anything
    assert by_guidance[1] > 1e-3 and by_guidance[2] > by_guidance[1]


def test_a_volume_does_not_depend_on_its_batch(study):
    generator = Generator(study)
    together = draw(generator, [OLD, YOUNG], sampler="ddpm", steps=20)
    alone = draw(generator, [OLD], sampler="ddpm", steps=20)
    assert np.allclose(together[0], alone[0], atol=1e-5)


def test_guidance_needs_a_network_that_was_told_nothing_at_times(tmp_path):
    generator = Generator(make_study(tmp_path, dropout=0))
    with pytest.raises(InputError, match="guidance: 2 needs an LDM"):
        draw(generator, [OLD], guidance=2)
    assert draw(generator, [OLD]).shape == (1, 16, 16, 16)


def test_requests_are_written_with_what_is_extrapolation(study):
    like = study.volume("original", "like")
    rows = [{"participant_id": f"sub-{i}", "age": 30 + i, "sex": "F"} for i in range(5)]
    pd.DataFrame(rows).to_csv(study.participants, sep="\t", index=False)
    asked = {"synthetic-002": {"age": 95.0, "sex": "M"}}
    subjects = [row["participant_id"] for row in rows]
    names = ["synthetic-001", "synthetic-002", "synthetic-003"]
    sample(study, names, SETTINGS, 0, like, asked=asked, asked_of=subjects)
    told = {name: json.loads(study.asked(name).read_text()) for name in names}
    assert told["synthetic-002"] == {"age": 95.0, "sex": "M", "extrapolated": ["age"]}
    assert told["synthetic-001"]["sex"] == "F" and told["synthetic-001"]["extrapolated"] == []
    before = load_volume(study.volume("synthetic", "synthetic-001")).data
    sample(study, names[:1], SETTINGS, 0, like, asked=asked, asked_of=subjects[::-1])
    assert json.loads(study.asked(names[0]).read_text()) == told[names[0]]
    after = load_volume(study.volume("synthetic", "synthetic-001")).data
    assert np.allclose(before, after, atol=1e-4)  # another batch


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_makes_the_same_volumes(tmp_path, monkeypatch):
    study = make_study(tmp_path, 0.1)
    made = {}
    for device in ("cpu", "cuda"):
        monkeypatch.setattr("realdeal.sampling.choose_device", lambda d=device: torch.device(d))
        noises = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        generator = Generator(study)
        made[device] = np.stack(generator.sample(noises, SETTINGS | {"steps": 10}, [OLD, YOUNG]))
    # Convolutions may compute in TF32, with ten bits.
    difference = np.linalg.norm(made["cuda"] - made["cpu"])
    assert difference < 0.02 * np.linalg.norm(made["cpu"] - made["cpu"].mean())
