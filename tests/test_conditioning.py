"""Conditioning of the LDM: encoding, planes and tokens, and that the network obeys."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import SHORT, small_unet

from realdeal.data.participants import read_covariates
from realdeal.diffusion.conditioning import Conditioning, encode, extrapolated, trained_range
from realdeal.diffusion.schedules import denoise, make_schedule
from realdeal.errors import InputError
from realdeal.networks.checkpoint import load_model
from realdeal.sampling import SPREAD, draw_covariates
from realdeal.study import Study
from realdeal.training.ldm import train_ldm

COVARIATES = [
    {"name": "age", "range": [20, 80]},
    {"name": "volume", "range": [1000, 2000]},
    {"name": "sex", "levels": ["F", "M"]},
]
ROWS = [
    {"participant_id": "a", "age": 50, "volume": 1250.0, "sex": "M"},
    {"participant_id": "b", "age": 95, "volume": 1000, "sex": "F"},
]


def test_encoding_by_hand():
    expected = [[0.5, 0.25, 1], [1.25, 0, 0]]  # an age of 95 is extrapolation
    assert encode(ROWS, COVARIATES).tolist() == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sex": "X"}, "sex 'X' is none of F, M"),
        ({"age": None}, "has no age"),
        ({"age": float("nan")}, "has no age"),
        ({"age": "old"}, "'old' is not a number"),
    ],
)
def test_bad_covariates_are_one_line(change, words):
    with pytest.raises(InputError, match=words) as caught:
        encode([ROWS[0] | change], COVARIATES)
    assert str(caught.value).startswith("a: ") and "\n" not in str(caught.value)


def test_planes_and_tokens():
    values = encode(ROWS, COVARIATES)
    planes, context = Conditioning(COVARIATES, "concatenate")(values)
    assert context is None
    assert planes.tolist() == [[0.5, 0.25, 0, 1], [1.25, 0, 1, 0]]
    both = Conditioning(COVARIATES, "both", context_width=8)
    planes, context = both(values)
    assert planes.shape == (2, 4) and context.shape == (2, 2, 8)  # numbers, sex
    assert torch.equal(context[0, 1], both.embeddings[0].weight[1])
    # Brain LDM: four continuous values are themselves the only token.
    four = [{"name": str(i), "range": [0, 1]} for i in range(4)]
    hybrid = Conditioning(four, "both")
    planes, context = hybrid(torch.arange(8.0).view(2, 4))
    assert torch.equal(planes, context[:, 0]) and hybrid.context_width == 4
    assert not list(hybrid.parameters())


@pytest.mark.parametrize("enter", ["concatenate", "cross_attention"])
def test_a_trained_network_obeys(tmp_path, enter):
    """Latents are all 0 for F and all 1 for M: samples must follow what is asked."""
    study = Study(tmp_path)
    names = [f"sub-{i}" for i in range(8)]
    rows = []
    for i, name in enumerate(names):
        sex = "FM"[i % 2]
        rows.append({"participant_id": name, "age": 30 + i, "volume": 1500, "sex": sex})
        path = study.store("latents", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).normal(0, 0.05, (1, 4, 4, 4))
        np.save(path, (noise + (sex == "M")).astype(np.float32))
    pd.DataFrame(rows).to_csv(study.participants, sep="\t", index=False)
    settings = {
        "prediction": "v_prediction",
        "per_voxel": False,
        "std_floor": 0,
        "conditioning": {"covariates": COVARIATES, "enter": enter, "context_width": 8},
        "schedule": SHORT,
        "network": {
            "latent_channels": 1,
            "coordinates": False,
            "guess": None,
            "unet": small_unet(16, 16, attention=True),
        },
        "training": {
            "steps": 150,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "learning_rate_schedule": "one_cycle",
            "weight_decay": 0.0,
            "gradient_clip": 1.0,
            "ema": 0,
            "precision": "32-true",
            "validation_subjects": 0,
            "validations": 1,
            "checkpoint_seconds": 1000,
            "accumulation": 1,
        },
    }
    train_ldm(study, names, settings, seed=0)
    network, description, extra = load_model(study.model("ldm"), "ldm")
    assert description["network"]["conditioning"]["enter"] == enter
    means = {}
    for sex in "FM":
        asked = encode([ROWS[0] | {"sex": sex}], COVARIATES).expand(4, -1)
        latents = denoise(
            lambda z, t, asked=asked: network(z, torch.full((len(z),), t), asked),
            torch.randn(4, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0)),
            make_schedule(SHORT, "v_prediction"),
            20,
        )
        means[sex] = float((latents * extra["latent_std"] + extra["latent_mean"]).mean())
    assert means["F"] < 0.25 and means["M"] > 0.75, means


def test_what_is_asked_depends_on_seed_and_name_alone(tmp_path):
    study = Study(tmp_path)
    table = pd.DataFrame(ROWS + [{"participant_id": "c", "age": 20, "volume": 1e3, "sex": "F"}])
    table.to_csv(study.participants, sep="\t", index=False)
    known = read_covariates(study, "abc")
    asked = [draw_covariates(known, COVARIATES, 0, f"s{i}") for i in range(12)]
    assert asked == [draw_covariates(known, COVARIATES, 0, f"s{i}") for i in range(12)]
    for row in asked:  # near somebody's, within the cohort's range, and nobody's
        assert 20 <= row["age"] <= 95 and row["sex"] in "FM"
        assert min(abs(row["age"] - age) for age in (20, 50, 95)) < 4 * SPREAD * 75
    assert len({row["age"] for row in asked}) > 3
    # The same number in another set is asked for the same.
    twins = [draw_covariates(known, COVARIATES, 0, f"{kind}-001") for kind in "xy"]
    assert twins[0] == twins[1] != draw_covariates(known, COVARIATES, 0, "x-002")
    with pytest.raises(InputError, match="has no d"):
        read_covariates(study, "d")


def test_standardised_covariates_have_unit_variance():
    values = encode([ROWS[0], ROWS[1], ROWS[0] | {"age": 20}], COVARIATES)
    conditioning = Conditioning(COVARIATES, "concatenate", standardise=True)
    conditioning.set_statistics(values)
    planes, _ = conditioning(values)
    assert torch.allclose(planes[:, :2].mean(0), torch.zeros(2), atol=1e-6)
    assert torch.allclose(planes[:, :2].std(0), torch.ones(2), atol=1e-6)
    assert planes[:, 2:].tolist() == [[0, 1], [1, 0], [0, 1]]


def test_who_is_told_nothing_sees_none_of_it():
    values = encode(ROWS, COVARIATES)
    conditioning = Conditioning(COVARIATES, "both", context_width=8, dropout=0.5)
    told = torch.tensor([True, False])
    planes, context = conditioning(values, told)
    assert planes.tolist() == [[0.5, 0.25, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert torch.equal(context[1], conditioning.nothing)
    everyone, all_context = conditioning(values)
    assert torch.equal(everyone[0], planes[0]) and torch.equal(all_context[0], context[0])
    assert everyone[1, -1] == 0


def test_what_lies_beyond_the_training_set_is_named():
    trained = trained_range(
        [
            {"age": 30, "volume": 1500, "sex": "F"},
            {"age": 60, "volume": 1700, "sex": "M"},
        ],
        COVARIATES,
    )
    assert trained["ranges"] == {"age": [30, 60], "volume": [1500, 1700]}
    asked = {"age": 45, "volume": 1600, "sex": "M"}
    assert extrapolated(asked, trained) == []
    assert extrapolated(asked | {"age": 61}, trained) == ["age"]
    # A combination of levels that did not occur, though each level did.
    cells = [
        {"name": "pathology", "levels": ["healthy", "dementia"]},
        {"name": "modality", "levels": ["T1w", "PD"]},
    ]
    rows = [
        {"pathology": "healthy", "modality": "T1w"},
        {"pathology": "healthy", "modality": "PD"},
        {"pathology": "dementia", "modality": "T1w"},
    ]
    trained = trained_range(rows, cells)
    assert extrapolated(rows[1], trained) == []
    unseen = {"pathology": "dementia", "modality": "PD"}
    assert extrapolated(unseen, trained) == ["pathology x modality"]
