"""Tables and figures of Brain LDM and Conditional MRI, from scores whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from realdeal.data.volumes import save_volume
from realdeal.files import write_json, write_table
from realdeal.metrics.cells import score_cells
from realdeal.metrics.distribution import frechet_distance
from realdeal.metrics.novelty import score_novelty
from realdeal.metrics.whole import score_diversity, score_reconstruction
from realdeal.paper import brain_ldm, conditional_mri
from realdeal.paper.summaries import correlation, share
from realdeal.study import Study

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AGE = {"name": "age", "range": [20, 80]}
SEX = {"name": "sex", "levels": ["F", "M"]}
PUBLISHED = "resources/published_brain_ldm.csv"


def volume(study, variant, name, seed=0):
    data = np.random.default_rng(seed).uniform(-1, 1, (16, 16, 16)).astype(np.float32)
    save_volume(study.volume(variant, name), data, AFFINE)


def facts(**more):
    return {
        "title": "Title",
        "stamp": {"Study": "x"},
        "seed": 0,
        "features": "alexnet",
        "published": PUBLISHED,
    } | more


def names(kind, count=6):
    return [f"{kind}-{i:03d}" for i in range(1, count + 1)]


@pytest.fixture
def brains(tmp_path):
    """Samples that are read 10 years too old, and every other sex wrongly."""
    study, rng = Study(tmp_path), np.random.default_rng(0)
    sets = {"synthetic": names("synthetic"), "ddpm-1000": names("ddpm-1000")}
    for members in sets.values():
        for i, name in enumerate(members):
            age, sex = 30.0 + 8 * i, "FM"[i % 2]
            write_json(study.asked(name), {"age": age, "sex": sex, "extrapolated": []})
            for variant in ("synthetic", "synthetic-refined"):
                found = {"age": age + 10, "sex": "F"}
                write_json(study.measured(variant, name), found)
                volume(study, variant, name, seed=i)
    rows = []
    for i in range(6):
        volume(study, "original", f"sub-{i}", seed=50 + i)
        rows.append({"participant_id": f"sub-{i}", "age": 20 + i, "sex": "F"})
        write_json(study.measured("original", f"sub-{i}"), {"age": 20.0 + i, "sex": "F"})
    write_table(study.participants, pd.DataFrame(rows))
    variants = ("synthetic", "ddpm-1000", "synthetic-refined", "original")
    scores = [
        {"metric": "fid", "dim": dim, "variant": v, "draw": draw, "value": 1 + i + dim}
        for i, v in enumerate(variants)
        for dim in range(3)
        for draw in range(4)
    ]
    write_table(study.scores("distribution"), pd.DataFrame(scores))
    alike = [
        {"metric": m, "variant": v, "region": "all", "value": value}
        for m in ("ms_ssim", "4_g_r_ssim")
        for v in variants
        for value in (0.4, 0.6)
    ]
    write_table(study.scores("diversity"), pd.DataFrame(alike))
    likely = [
        {"metric": "likeness", "variant": v, "value": value + i}
        for i, v in enumerate(variants)
        for value in (0.2, 0.4)
    ]
    write_table(study.scores("novelty"), pd.DataFrame(likely))
    times = [
        {"variant": v, "volume": i, "seconds": s + rng.normal(0, 1e-9)}
        for v, s in (("ddpm-1000", 20.0), ("ddim-50", 1.0))
        for i in range(2)
    ]
    write_table(study.scores("sampling_time"), pd.DataFrame(times))
    about = facts(
        sets=sets,
        settings={"sampler": "ddim", "steps": 50},
        ways=[{"sampler": "ddpm", "steps": 1000}],
        covariates=[SEX, AGE],
        evaluated=[f"sub-{i}" for i in range(6)],
        test=[f"sub-{i}" for i in range(6)],
    )
    return study, about


def test_quality_has_ours_beside_the_papers(brains):
    study, about = brains
    brain_ldm.quality_table(study, about)
    table = pd.read_csv(study.item("quality", "csv")).set_index("row")
    assert table.loc["LDM + DDIM 50", "fid"] == 2.0  # mean of 1, 2, 3
    assert table.loc["LDM, DDPM 1,000", "published_fid_med3d"] == 0.0076
    assert table.loc["LDM + DDIM 50", "published_seconds"] == 7.6
    assert table.loc["Real", "ms_ssim"] == pytest.approx(0.5)
    assert table.loc["LDM, DDPM 1,000", "likeness"] == pytest.approx(1.3)
    assert np.isnan(table.loc["LSGAN", "fid"])
    text = study.item("quality", "md").read_text()
    assert "20.0 times faster" in text and "Never to be compared" in text


def test_obedience_by_hand(brains):
    study, about = brains
    brain_ldm.obedience_table(study, about)
    table = pd.read_csv(study.item("obedience", "csv")).set_index(["covariate", "row"])
    line = table.loc["age", "LDM + DDIM 50"]
    assert line["r"] == pytest.approx(1) and line["slope"] == pytest.approx(1)
    assert line["error"] == pytest.approx(10) and line["published_r"] == 0.692
    assert table.loc[("sex", "LDM + DDIM 50"), "agreement"] == 0.5
    assert table.loc[("sex", "Real, held out"), "agreement"] == 1


def test_figures_of_brain_ldm(brains):
    study, about = brains
    for value, name in ((-0.5, "age_-0.5-001"), (1.5, "age_1.5-001")):
        asked = {"age": 20 + 60 * value, "sex": "F", "extrapolated": ["age"]}
        write_json(study.asked(name), asked)
        write_json(study.measured("synthetic", name), {"age": 40.0})
        volume(study, "synthetic", name)
    about["extrapolation"] = {"age": [-0.5, 1.5]}
    for name, draw in brain_ldm.FIGURES.items():
        draw(study, about)
        assert study.item(name).stat().st_size > 5000


CELLS = [(p, m) for p in ("healthy", "dementia") for m in ("T1w", "PD")]


@pytest.fixture
def cells(tmp_path):
    """dementia x PD is unseen, and its samples are read as healthy."""
    study, rng = Study(tmp_path), np.random.default_rng(0)
    sets = {kind: names(kind, 8) for kind in ("synthetic", "without-conditioning")}
    groups = {kind: {} for kind in ("original", *sets, "synthetic-refined")}
    rows, examples, subjects = [], {}, names("sub", 16)
    for i, subject in enumerate(subjects):
        pathology, modality = CELLS[i % 4]
        cell = f"{pathology} x {modality}"
        about = {"pathology": pathology, "modality": modality}
        rows.append({"participant_id": subject} | about)
        write_json(study.measured("original", subject), about)
        volume(study, "original", subject, seed=i)
        volume(study, "reconstructed", subject, seed=i + 1)
        groups["original"].setdefault(cell, []).append(["original", subject])
        examples.setdefault(cell, subject)
    write_table(study.participants, pd.DataFrame(rows))
    for kind, members in sets.items():
        for i, name in enumerate(members):
            pathology, modality = CELLS[i % 4]
            about = {"pathology": pathology, "modality": modality}
            write_json(study.asked(name), about | {"extrapolated": []})
            read = about | ({"pathology": "healthy"} if CELLS[i % 4] == ("dementia", "PD") else {})
            for variant in ("synthetic", "synthetic-refined"):
                write_json(study.measured(variant, name), read)
                volume(study, variant, name, seed=100 + i)
            group = groups[kind].setdefault(f"{pathology} x {modality}", [])
            group.append(["synthetic", name])
    groups["synthetic-refined"] = {
        cell: [["synthetic-refined", name] for _, name in members]
        for cell, members in groups["synthetic"].items()
    }
    features = {}
    for kind, members in (
        ("original-cells", subjects),
        ("synthetic", sets["synthetic"]),
        ("synthetic-refined", sets["synthetic"]),
        ("without-conditioning", sets["without-conditioning"]),
    ):
        worse = 1.0 if kind.startswith("without") else 0.0
        arrays = {f"dim{d}": worse + rng.normal(size=(len(members), 5, 4)) for d in range(3)}
        features[kind] = arrays
        path = study.features(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays, subjects=np.array(members), extractor="alexnet")
    about = facts(
        sets=sets,
        unseen=[["dementia", "PD"]],
        cells=sorted(f"{p} x {m}" for p, m in CELLS),
        covariates=[
            {"name": "pathology", "levels": ["healthy", "dementia"]},
            {"name": "modality", "levels": ["T1w", "PD"]},
        ],
        examples=examples,
        test=subjects,
        evaluated=subjects,
    )
    candidates = ["synthetic", "synthetic-refined", "without-conditioning"]
    score_cells(study, candidates, groups, seed=0)
    score_diversity(study, groups, pairs=8, seed=0)
    learnt = {c: g for c, g in groups["original"].items() if c != "dementia x PD"}
    score_novelty(study, groups, learnt)
    score_reconstruction(study, subjects)
    return study, about, features


def test_the_fid_of_a_cell_is_that_of_its_volumes(cells):
    study, _, features = cells
    scores = pd.read_csv(study.scores("cells"))
    of = (scores["variant"] == "synthetic") & (scores["region"] == "dementia x T1w")
    value = scores.loc[of & (scores["dim"] == 1), "value"].item()
    fake = features["synthetic"]["dim1"][[2, 6]].reshape(-1, 4)
    real = features["original-cells"]["dim1"][[2, 6, 10, 14]].reshape(-1, 4)
    assert value == pytest.approx(frechet_distance(fake, real))


def test_tables_of_conditional_mri(cells):
    study, about, _ = cells
    for make in conditional_mri.TABLES.values():
        make(study, about)
    table = pd.read_csv(study.item("cells", "csv")).set_index("cell")
    assert table["unseen"].sum() == 1 and (table["n"] == 2).all() and (table["n_real"] == 4).all()
    assert table.loc["dementia x PD", "agreement_synthetic"] == 0
    assert "†" in study.item("cells", "md").read_text()
    table = pd.read_csv(study.item("unseen", "csv")).set_index(["row", "cells"])
    assert table.loc[("Full conditioning", "seen"), "agreement"] == 1
    assert table.loc[("Full conditioning", "unseen"), "agreement"] == 0
    assert table.loc[("Full conditioning", "unseen"), "modality"] == 1
    assert table.loc[("Real, held out", "unseen"), "agreement"] == 1
    assert table.loc[("Real, held out", "seen"), "likeness"] == pytest.approx(1)  # the same scans
    assert table.loc[("Full conditioning", "seen"), "likeness"] < 0.9
    assert np.isnan(table.loc[("Full conditioning", "unseen"), "likeness"])
    table = pd.read_csv(study.item("ablation", "csv")).set_index("row")
    assert table.loc["Without conditioning", "full_better"] == 3  # of three seen cells
    assert (
        table.loc["Without conditioning", "fid_seen"] > table.loc["Full conditioning", "fid_seen"]
    )


def test_figure_of_conditional_mri(cells):
    study, about, _ = cells
    conditional_mri.grid_figure(study, about)
    assert study.item("grid").stat().st_size > 5000


def test_intervals():
    r, low, high = correlation([1, 2, 3, 4], [2, 4, 6, 8.5], seed=0)
    assert 0.9 < low <= r <= high <= 1
    p, low, high = share(np.array([1] * 9 + [0]))
    # Wilson's interval of 9 in 10, as tabulated.
    assert (p, round(low, 3), round(high, 3)) == (0.9, 0.596, 0.982)
