"""Which synthetic volumes a study needs, what they are asked for, and what is refused."""

import copy

import pytest
import yaml

from realdeal.data.splits import split
from realdeal.errors import InputError
from realdeal.metrics.whole import draw_pairs
from realdeal.systems import (
    ablations,
    check_system,
    extrapolation,
    ldms,
    read_requests,
    requests,
    sample_sets,
    seen_cells,
)

AGE = {"name": "age", "range": [20, 80]}
PATHOLOGY = {"name": "pathology", "levels": ["healthy", "dementia"]}
MODALITY = {"name": "modality", "levels": ["T1w", "T2w", "PD"]}


def config(system="realdeal", covariates=(), **sampling):
    with open("config.yaml") as file:
        settings = copy.deepcopy(yaml.safe_load(file))
    settings["system"] = system
    settings["sampling"] |= sampling
    if covariates:
        settings["ldm"]["conditioning"] = {"covariates": list(covariates), "enter": "both"}
    return settings


def test_combinations_are_asked_for_in_turn():
    names = [f"synthetic-{i}" for i in range(8)]
    asked = requests(names, config(covariates=[PATHOLOGY, MODALITY]))
    cells = [(row["pathology"], row["modality"]) for row in asked.values()]
    assert len(set(cells[:6])) == 6 and cells[6:] == cells[:2]
    assert requests(names, config(covariates=[PATHOLOGY, AGE])) == {}  # drawn from the cohort


def test_a_table_of_requests(tmp_path):
    path = tmp_path / "wanted.tsv"
    path.write_text("age\tpathology\n95\tdementia\n30\thealthy\n")
    settings = config(covariates=[AGE, PATHOLOGY])
    settings["sampling"]["covariates"] = str(path)
    first = {"age": 95.0, "pathology": "dementia"}
    second = {"age": 30.0, "pathology": "healthy"}
    asked = requests(["a", "b", "c"], settings)
    assert asked == {"a": first, "b": second, "c": first}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age\tpathology\n30\tflu\n", "line 2: pathology 'flu' is none of healthy, dementia"),
        ("age\tpathology\nold\thealthy\n", "line 2: age 'old' is not a number"),
        ("age\tpathology\n30\thealthy\n\tdementia\n", "line 3: has no age"),
        ("age\n30\n", "line 2: has no pathology"),
        ("age\tpathology\n", "has no rows"),
    ],
)
def test_bad_requests_are_one_line(tmp_path, text, words):
    path = tmp_path / "wanted.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_requests(path, [AGE, PATHOLOGY])


def test_sets_of_brain_ldm():
    settings = config("brain-ldm", [AGE, PATHOLOGY])
    settings["sampling_study"]["extrapolation"] = {"age": [-0.5, 1.5]}
    sets = sample_sets(settings, ["synthetic-001", "synthetic-002"])
    assert list(sets) == ["synthetic", "ddpm-1000", "extrapolation"]
    assert sets["ddpm-1000"].names == ["ddpm-1000-001", "ddpm-1000-002"]
    assert sets["ddpm-1000"].settings["steps"] == 1000
    assert sets["extrapolation"].asked == {
        "age_-0.5-001": {"age": -10, "pathology": "healthy"},
        "age_1.5-001": {"age": 110, "pathology": "healthy"},
    }
    settings["sampling_study"]["extrapolation"] = {"height": [2]}
    with pytest.raises(InputError, match="height is no continuous covariate"):
        extrapolation(settings)


def test_ablations_of_conditional_mri():
    settings = config("conditional-mri", [PATHOLOGY, MODALITY])
    assert list(ldms(settings)) == [
        "ldm",
        "ldm-without-pathology",
        "ldm-without-modality",
        "ldm-without-conditioning",
    ]
    left = ablations(settings["ldm"]["conditioning"])
    assert left["without-pathology"]["covariates"] == [MODALITY]
    assert left["without-conditioning"] is None
    sets = sample_sets(settings, ["synthetic-001"])
    assert sets["without-modality"].model == "ldm-without-modality"
    assert sets["without-modality"].asked["without-modality-001"] == {
        "pathology": "healthy",
        "modality": "T1w",
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (config("brain-ldm"), "brain-ldm needs ldm.conditioning with a continuous covariate"),
        (config("conditional-mri", [PATHOLOGY]), "needs .* levels of pathology and modality"),
        (config("brain-ldm", [AGE], coarse="external"), "samples its own LDM"),
        (config(ldm={"guidance": 2}), "sampling.ldm.guidance: 2 needs an LDM"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        check_system(settings)


def test_unseen_cells_are_kept_out():
    cells = {"a": ("healthy", "T1w"), "b": ("dementia", "T1w"), "c": ("healthy", "PD")}
    assert seen_cells(["a", "b", "c"], cells, []) == ["a", "b", "c"]
    assert seen_cells(["a", "b", "c"], cells, [["dementia", "T1w"]]) == ["a", "c"]
    with pytest.raises(InputError, match="no subject is dementia x PD; there are dementia x T1w"):
        seen_cells(["a"], cells, [["dementia", "PD"]])
    with pytest.raises(InputError, match="leaves no subject"):
        seen_cells(["a"], cells, [["healthy", "T1w"]])


def test_each_stratum_is_split_alike():
    strata = {f"sub-{i:02d}": "ab"[i % 2] for i in range(16)}
    train, test = split(list(strata), 0.75, 0, strata)
    assert sorted(train + test) == sorted(strata)
    assert [strata[s] for s in test].count("a") == 2 == [strata[s] for s in test].count("b")
    one = dict.fromkeys(strata, "a")
    assert split(list(strata), 0.75, 0, one) == split(list(strata), 0.75, 0)


def test_pairs():
    import numpy as np

    pairs = draw_pairs("abcdef", 6, np.random.default_rng(0))
    assert len(set(pairs)) == 6 and all(x != y for x, y in pairs)
    assert sorted("".join(x + y for x, y in pairs)) == sorted("abcdef" * 2)  # each in two
    assert len(draw_pairs("abc", 100, np.random.default_rng(0))) == 3
