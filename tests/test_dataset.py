"""The BIDS dataset of synthetic subjects: a small study written by hand, and the BIDS validator."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from realdeal.data.volumes import load_volume, save_volume
from realdeal.dataset.description import write_description
from realdeal.dataset.names import check_distinct, further_names, numbered, subject_id
from realdeal.dataset.subjects import image_name, write_subjects
from realdeal.errors import InputError
from realdeal.files import write_json
from realdeal.study import Study

ROOT = Path(__file__).resolve().parent.parent
AFFINE = np.array([[2.5, 0, 0, -20], [0, 2.5, 0, -30], [0, 0, 2.5, -10], [0, 0, 0, 1.0]])
MODALITIES = ["T1w", "T1ce", "T2w", "FLAIR", "PD"]
VALIDATOR = Path(sys.executable).parent / "bids-validator-deno"
MAKING = {
    "seed": 3,
    "networks": ["autoencoder", "ldm", "refiner"],
    "sampling": {"sampler": "ddim", "steps": 20, "spacing": "uniform"},
    "refinement": {"traversal": "joint", "sampler": "texture", "steps": 4},
}


def make_study(root, names, conditioned=True):
    """A study whose synthetic volumes are there; the asked ages are whole numbers, one missing."""
    study = Study(root)
    for network in MAKING["networks"]:
        path = study.model(network)
        about = {"version": "0.1.0", "commit": "abc", "seed": 3, "steps": 300, "seconds": 1.5}
        write_json(path.with_suffix(".json"), about)
        path.write_bytes(network.encode())
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        volume = np.full((8, 10, 9), -1.0, np.float32)
        volume[2:-2, 2:-2, 2:-2] = rng.uniform(-0.8, 1, (4, 6, 5))
        save_volume(study.volume("synthetic-refined", name), volume, AFFINE)
        if conditioned:
            modality = MODALITIES[number % 5]
            asked = {"age": 30 + number if number else None, "sex": "F", "modality": modality}
            write_json(study.asked(name), asked)
            found = {"age": 31.5 + number, "brain_volume": 1.2e6}
            write_json(study.measured("synthetic-refined", name), found)
    return study


def write_dataset(study, names, conditioned=True, source="demo", external=False, measured=True):
    modalities = MODALITIES if conditioned else ["T1w"]
    known = (conditioned, conditioned and measured)
    write_subjects(study, names, "synthetic-refined", MAKING, modalities, *known)
    about = ("tiny", source, "synthetic-refined", external, ROOT / "CITATION.cff")
    write_description(study, names, *about)
    return study.dataset()


def validate(folder):
    """Warnings of the BIDS validator as {(code, subcode)}; fails on errors."""
    if not VALIDATOR.exists():
        pytest.skip("bids-validator-deno is not installed beside this Python (pip install it)")
    command = [VALIDATOR, "--format", "json", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    issues = json.loads(done.stdout)["issues"]["issues"]
    errors = [issue for issue in issues if issue["severity"] == "error"]
    assert done.returncode == 0 and not errors, errors
    return {(issue["code"], issue.get("subCode")) for issue in issues}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("study"), numbered("synthetic", 5))
    write_dataset(study, numbered("synthetic", 5))
    return study


# Names


def test_names_grow_and_full_jobs_are_kept():
    assert numbered("synthetic", 1001, first=998)[1:3] == ["synthetic-999", "synthetic-1000"]
    assert further_names(20, 20, 7) == further_names(20, 5, 7) == []
    few, more = further_names(20, 22, 7), further_names(20, 35, 7)
    assert few == numbered("synthetic", 27, first=21)
    assert more == numbered("synthetic", 41, first=21) and more[:7] == few


def test_subjects_are_named_as_bids_wants():
    assert subject_id("synthetic-001") == "sub-synthetic001"
    assert subject_id("synthetic-scan_1.b") == "sub-syntheticscan1b"
    with pytest.raises(InputError, match="synthetic-a-1 and synthetic-A1 would both be"):
        check_distinct(["synthetic-a-1", "synthetic-b", "synthetic-A1"])


def test_suffix_is_the_modality():
    assert image_name(None, ["T2w"]) == "desc-synthetic_T2w"
    assert image_name("PD", MODALITIES) == "desc-synthetic_PDw"
    assert image_name("T1ce", MODALITIES) == "ce-gadolinium_desc-synthetic_T1w"
    with pytest.raises(InputError, match="add modality to ldm.conditioning"):
        image_name(None, ["FLAIR", "T1w"])


# Content


def test_the_validator_finds_no_error(study):
    # With a CITATION.cff the authors may not stand in dataset_description.json as well.
    assert validate(study.dataset()) == {("TOO_FEW_AUTHORS", None)}


def test_intensities_are_not_negative_and_map_back(study):
    path = study.dataset("sub-synthetic001/anat/sub-synthetic001_desc-synthetic_T1w.nii.gz")
    image = nib.load(path)
    data = image.get_fdata()
    original = load_volume(study.volume("synthetic-refined", "synthetic-001"))
    assert data[0, 0, 0] == 0 and data.min() == 0 and data.max() <= 1
    np.testing.assert_allclose(2 * data - 1, original.data, atol=1 / 32767)
    np.testing.assert_allclose(image.affine, original.affine)
    assert image.get_data_dtype() == np.int16
    assert image.dataobj.slope == pytest.approx(1 / 32767)


def test_sidecar_tells_how_the_image_was_made(study):
    (path,) = study.dataset("sub-synthetic002/anat").glob("*.json")
    assert path.name == "sub-synthetic002_ce-gadolinium_desc-synthetic_T1w.json"
    sidecar = json.loads(path.read_text())
    assert sidecar["Synthetic"] is True and sidecar["SkullStripped"] is True
    assert (sidecar["Volume"], sidecar["Seed"]) == ("synthetic-002", 3)
    assert sidecar["Sampling"]["steps"] == 20 and sidecar["Refinement"]["traversal"] == "joint"
    digest = hashlib.sha256(b"refiner").hexdigest()
    about = {"SHA256": digest, "Version": "0.1.0", "Commit": "abc", "Seed": 3, "Steps": 300}
    assert sidecar["Models"]["refiner"] == about
    assert sidecar["AskedCovariates"] == {"age": 31, "sex": "F", "modality": "T1ce"}
    assert sidecar["MeasuredCovariates"]["age"] == 32.5


def test_participants_have_asked_and_measured_covariates(study):
    lines = study.dataset("participants.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        *("participant_id", "age", "sex", "modality", "measured_age", "measured_brain_volume")
    ]
    assert lines[1].split("\t") == ["sub-synthetic001", "n/a", "F", "T1w", "31.5", "1200000.0"]
    assert lines[2].split("\t")[1] == "31"
    columns = json.loads(study.dataset("participants.json").read_text())
    assert set(lines[0].split("\t")) <= set(columns)
    assert columns["measured_brain_volume"] == {
        "Description": "Volume of the brain, measured on the image.",
        "Units": "mm^3",
    }


def test_checksums_are_those_of_sha256sum(study):
    sums = study.dataset("SHA256SUMS")
    listed = [line.split("  ")[1] for line in sums.read_text().splitlines()]
    assert len(listed) == 5 + 2 * 5  # five files at the top, two of each subject
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS", "--quiet"], cwd=study.dataset())
    assert done.returncode == 0


def test_readme_and_citation_say_where_it_comes_from(study):
    readme = study.dataset("README.md").read_text()
    assert "No image shows a person" in readme and "template anatomy" in " ".join(readme.split())
    citation = yaml.safe_load(study.dataset("CITATION.cff").read_text())
    assert citation["type"] == "dataset" and len(citation["references"]) == 4


def test_without_conditioning_there_are_names_alone(tmp_path):
    names = numbered("synthetic", 2)
    study = make_study(tmp_path, names, conditioned=False)
    folder = write_dataset(study, names, conditioned=False, source="bids", external=True)
    assert validate(folder) == {("TOO_FEW_AUTHORS", None)}
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert list(table.columns) == ["participant_id"] and len(table) == 2
    made_by = json.loads((folder / "dataset_description.json").read_text())["GeneratedBy"]
    assert len(made_by) == 2


def test_what_a_bundle_was_asked_for_is_told(tmp_path):
    names = numbered("synthetic", 2)
    folder = write_dataset(make_study(tmp_path, names), names, measured=False)
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert list(table.columns) == ["participant_id", "age", "sex", "modality"]
    assert table["age"][1] == 31


# Mistakes


def test_subjects_of_other_settings_are_named(study, tmp_path):
    shutil.copytree(study.root, tmp_path / "study")
    copy = Study(tmp_path / "study")
    about = ("tiny", "demo", "synthetic-refined", False, ROOT / "CITATION.cff")
    with pytest.raises(InputError, match=r"2 of its subjects .*sub-synthetic004"):
        write_description(copy, numbered("synthetic", 3), *about)
    with pytest.raises(InputError, match="sub-synthetic006: no such folder"):
        write_description(copy, numbered("synthetic", 6), *about)


def test_a_missing_measurement_is_named(tmp_path):
    names = numbered("synthetic", 1)
    study = make_study(tmp_path, names)
    study.measured("synthetic-refined", names[0]).unlink()
    with pytest.raises(InputError, match="measured/synthetic-refined/synthetic-001.json"):
        write_dataset(study, names)


# Workflow


def jobs(text):
    """{rule: jobs} of a dry run."""
    table = re.search(r"^job +count\n-+ +-+\n((?:.+\n)+?)total ", text, re.M)[1]
    return {name: int(count) for name, count in map(str.split, table.splitlines())}


def plan(snakemake, folder, sampling, **dataset):
    sections = {"sampling": sampling, "dataset": dataset}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(sections))
    files = ("--configfile", ROOT / "tests/tiny.yaml", folder / "dataset.yaml")
    done = snakemake("dataset", "-n", "--cores", 1, *files, directory=folder)
    assert done.returncode == 0, done.stdout
    return jobs(done.stdout)


def test_what_the_scores_use_is_shared_and_the_rest_is_added(snakemake, tmp_path):
    # Three synthetic volumes for the scores, in jobs of two.
    planned = plan(snakemake, tmp_path, {"volumes": 3}, subjects=6)
    assert {"sample_1", "sample_2", "sample_3", "sample_4", "refine_synthetic_4"} <= set(planned)
    assert {"write_subjects_1", "describe_dataset"} <= set(planned)
    assert not {"sample_5", "write_subjects_2"} & set(planned)
    coarse = plan(snakemake, tmp_path, {"volumes": 3}, subjects=2, variant="synthetic")
    assert "sample_1" in coarse and not {"sample_2", "train_refiner"} & set(coarse)


@pytest.mark.slow
def test_a_dataset_is_made_and_grows(snakemake, tiny_study, tmp_path):
    root = tmp_path / "run"  # what the scores use is there
    shutil.copytree(tiny_study, root, symlinks=True)

    def run(subjects):
        (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"dataset": {"subjects": subjects}}))
        files = ("--configfile", ROOT / "tests/tiny.yaml", tmp_path / "dataset.yaml")
        options = ("--cores", 2, "--show-failed-logs", *files)
        done = snakemake("dataset", *options, directory=root, timeout=840)
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout

    folder = root / "results/tiny/dataset"
    assert "train_refiner" not in run(3)  # two of them are those of the scores
    assert validate(folder) == {("TOO_FEW_AUTHORS", None)}
    assert "Nothing to be done" in run(3)
    made = jobs(run(5))  # the fourth volume is there: the job of the third was a full one
    assert {name: made[name] for name in made if "sample" in name or "refine" in name} == {
        "sample_3": 1,
        "refine_synthetic_3": 1,
    }
    assert validate(folder) == {("TOO_FEW_AUTHORS", None)}
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert list(table["participant_id"]) == [f"sub-synthetic00{n}" for n in range(1, 6)]
