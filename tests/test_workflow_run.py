"""A whole study in miniature, really run: every file of the manifest, and nothing run twice."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image
from test_training import wait_for

from realdeal.config import check_table
from realdeal.study import Study
from realdeal.training.loop import before

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests/tiny.yaml"
EXPECTED = (ROOT / "tests/expected_outputs.txt").read_text().split()
STAGES = (
    *("preprocess_1", "train_autoencoder", "reconstruct_1", "train_ldm", "sample_1"),
    *("train_refiner", "refine_synthetic_1", "score_seam", "table2"),
)

pytestmark = pytest.mark.slow


def override(tmp_path, **sections):
    path = tmp_path / "override.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture(scope="module")
def study(tiny_study):
    """The folder in which the tiny study was run to its report."""
    return tiny_study


def rerun(snakemake, folder, *configfiles):
    """The rules that would run again: {name: jobs}."""
    done = snakemake("-n", "--cores", 2, "--configfile", TINY, *configfiles, directory=folder)
    assert done.returncode == 0, done.stdout
    if "Nothing to be done" in done.stdout:
        return {}
    table = re.search(r"^job +count\n-+ +-+\n((?:.+\n)+?)total ", done.stdout, re.M)[1]
    return {name: int(count) for name, count in map(str.split, table.splitlines())}


def test_every_expected_file_is_there(study):
    root = study / "results/tiny"
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    others = ("benchmarks/", "states/", "training/events/")
    found = {path for path in found if not path.startswith(others)}
    assert sorted(found) == sorted(EXPECTED)
    assert all((root / path).stat().st_size for path in EXPECTED)


def test_tables_are_complete(study):
    for number in range(1, 7):
        table = pd.read_csv(study / f"results/tiny/tables/table{number}.csv")
        assert set(table["table"]) == {number}
        assert table["value"].notna().all()
        assert table.loc[table["row"] == "RealDeal", "value"].size


def test_participants_follow_their_schema(study):
    schema = ROOT / "workflow/schemas/participants.schema.yaml"
    check_table(study / "results/tiny/participants.tsv", schema)


def test_every_job_has_a_log_and_a_benchmark(study):
    logs = {path.stem for path in (study / "logs/tiny").glob("*.log")}
    benchmarks = {path.stem for path in (study / "results/tiny/benchmarks").glob("*.tsv")}
    assert logs == benchmarks and len(logs) > 30


def test_tables_and_figures_say_what_made_them(study):
    root = study / "results/tiny"
    made = (root / "provenance.json").read_bytes()
    digest = hashlib.sha256(made).hexdigest()[:16]
    assert json.loads(made)["data"]["subjects"] == 6
    for path in (*root.glob("tables/*.md"), *root.glob("tables/*.tex")):
        csv = hashlib.sha256(path.with_suffix(".csv").read_bytes()).hexdigest()[:16]
        text = path.read_text()
        assert f"Provenance: provenance.json {digest}; " in text
        assert f"; {path.stem}.csv: {csv}\n" in text and "autoencoder " in text
    for path in root.glob("figures/*.png"):
        assert digest in Image.open(path).text["Provenance"]
    assert digest in (root / "report.html").read_text()


def test_killed_in_every_stage_it_ends_with_the_same_bytes(study, snakemake, tmp_path):
    """kill -9 again and again, against the study that ran undisturbed."""
    (tmp_path / "resources").symlink_to(study / "resources")
    root, logs = tmp_path / "results/tiny", tmp_path / "logs/tiny"
    options = ["--cores", 2, "--configfile", TINY]  # as many as it had: sums depend on threads

    def run(target, *more):
        return snakemake(target, *options, *more, directory=tmp_path, timeout=840)

    def kill_when(condition, target):
        """Start a run, and kill it with all its jobs as soon as `condition()` is true."""
        with subprocess.Popen(
            [sys.executable, "-m", "snakemake", target, *map(str, options), "-d", tmp_path],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            wait_for(condition, process, 600)
            os.killpg(process.pid, signal.SIGKILL)

    # Some subjects of a job are there: Snakemake asks to make the job again, and to be unlocked.
    kill_when(lambda: list(root.glob("cohort/sub-*_T1w.nii.gz")), "make_cohort_1")
    done = run("make_cohort_1")
    assert done.returncode == 1 and "with the --rerun-incomplete flag" in done.stdout
    options.append("--rerun-incomplete")
    done = run("make_cohort_1")
    assert done.returncode == 1 and "can be removed with the --unlock argument" in done.stdout
    assert run("make_cohort_1", "--unlock").returncode == 0
    options.append("--nolock")  # instead of an --unlock after each of the following

    stages = {name: (logs / f"{name}.log").exists for name in STAGES}
    stages["train_refiner"] = before(Study(root).state("refiner")).exists
    for target, condition in stages.items():
        kill_when(condition, target)
    targets = ("table2", "figure4")
    done = snakemake(*targets, *options, directory=tmp_path, timeout=840)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "going on from step" in (logs / "train_refiner.log").read_text()
    assert "Nothing to be done" in snakemake(*targets, *options, directory=tmp_path).stdout

    files = [f"tables/table2.{suffix}" for suffix in ("csv", "md", "tex")]
    files += ["figures/figure4.png", "provenance.json"]
    files += [f"models/{name}.safetensors" for name in ("autoencoder", "ldm", "refiner")]
    for file in files:
        one, two = (folder / "results/tiny" / file for folder in (study, tmp_path))
        assert one.read_bytes() == two.read_bytes(), file


def test_a_second_run_does_nothing(study, snakemake):
    assert rerun(snakemake, study) == {}


def test_refinement_steps_rerun_only_what_depends_on_them(study, snakemake, tmp_path):
    again = rerun(snakemake, study, override(tmp_path, sampling={"refiner": {"steps": 2}}))
    assert {"refine_reconstructed_1", "refine_synthetic_1", "table1", "report"} <= set(again)
    untouched = {
        *("make_cohort_1", "preprocess_1", "reconstruct_1", "sample_1", "participants"),
        *("train_autoencoder", "train_ldm", "train_refiner", "fetch_weights"),
        *("draw_patches_original", "draw_patches_synthetic"),
        *("extract_noise_references", "extract_features_references"),
    }
    assert not untouched & set(again)


def test_refiner_training_reruns_neither_ldm_nor_autoencoder(study, snakemake, tmp_path):
    again = rerun(snakemake, study, override(tmp_path, refiner={"training": {"steps": 5}}))
    assert {"train_refiner", "refine_reconstructed_1", "report"} <= set(again)
    assert not {"train_ldm", "train_autoencoder", "reconstruct_1", "sample_1"} & set(again)


def test_threads_and_bootstrap_train_nothing(study, snakemake, tmp_path):
    path = override(tmp_path, refiner={"threads": 2}, evaluation={"bootstrap": 11})
    again = rerun(snakemake, study, path)
    assert {"score_noise", "score_distribution", "table1"} <= set(again)
    assert not any(name.startswith(("train", "refine", "extract")) for name in again)


def test_snakemake_report(study, snakemake):
    report = study / "snakemake-report.zip"
    done = snakemake("--report", report, "--configfile", TINY, "--cores", 1, directory=study)
    assert done.returncode == 0, done.stdout
    assert report.stat().st_size > 100_000


def test_a_damaged_scan_is_one_line(snakemake, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for subject in ("anna", "bo"):
            (tmp_path / kind / f"{subject}.nii.gz").write_bytes(b"no scan")
    folder = {kind: str(tmp_path / kind) for kind in ("images", "labels")}
    config = override(tmp_path, study="own", data={"source": "folder", "folder": folder})
    options = ("--cores", 1, "--configfile", TINY, config)
    done = snakemake("participants", *options, directory=tmp_path)
    assert done.returncode == 1
    log = (tmp_path / "logs/own/preprocess_1.log").read_text().splitlines()
    assert log[-1].startswith("preprocess_1: ") and "anna.nii.gz" in log[-1]
    assert "Traceback" not in "\n".join(log)
