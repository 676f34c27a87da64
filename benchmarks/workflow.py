"""What the workflow itself costs at 1,113 subjects; prints one JSON object a line.

    python benchmarks/workflow.py [--full] [dag_1113] [startup] [disk] [data_1113]

`dag_1113`: seconds of `snakemake -n` for the paper's study, against one subject a job. `startup`:
seconds before a job does its work, against the work of its chunk of subjects. `disk`: bytes of
what a study keeps of each subject, at the paper's grid, against float32 arrays. `data_1113`, with
--full or by name: 1,113 tiny subjects really go through the data half of the paper's study.
CPU time, so that other work on the machine does not decide, unless the unit says otherwise.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import yaml  # noqa: E402

from realdeal.data.preprocessing import preprocess  # noqa: E402
from realdeal.study import Study  # noqa: E402

MACHINE = f"{platform.machine()}, {os.cpu_count()} cores"
PRESET = ROOT / "presets/realdeal-paper.yaml"
PAPER = yaml.safe_load(PRESET.read_text())
SUBJECTS = 1113
SCAN = (260, 311, 260)  # HCP's T1w grid, 0.7 mm
CODES = (2, 3, 4, 8, 16)  # of FreeSurfer: one for each region


def report(name, baseline, baseline_value, value, unit, note):
    content = {
        "name": name,
        "baseline": baseline,
        "baseline_value": round(baseline_value, 3),
        "value": round(value, 3),
        "unit": unit,
        "ratio": round(baseline_value / value, 2),
        "max_difference": None,  # nothing is computed that could differ
        "machine": MACHINE,
        "note": note,
    }
    print(json.dumps(content), flush=True)


def run(*command):
    """CPU seconds and output of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout[-4000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return seconds, done.stdout


def snakemake(folder, *arguments, **settings):
    """Run the paper's study with the scans below `folder`."""
    config = Path(folder) / "own.yaml"
    data = {"source": "folder", "folder": {k: f"{folder}/{k}" for k in ("images", "labels")}}
    data |= settings.pop("data", {})
    config.write_text(yaml.safe_dump({"data": data} | settings))
    options = ("--directory", folder, "--configfile", PRESET, config)
    return run("-m", "snakemake", *arguments, "--cores", 1, *options)


def names():
    return [str(100_000 + 7 * number) for number in range(SUBJECTS)]


def empty_scans(folder):
    """As many empty files as the paper has subjects: all that a dry run looks at."""
    for kind in ("images", "labels"):
        (Path(folder) / kind).mkdir()
        for name in names():
            (Path(folder) / kind / f"{name}.nii.gz").touch()


def write_scan(folder, name, shape, seed):
    """A round head of noisy tissue in five layers, with its FreeSurfer-style labels."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij", sparse=True)))
    layer = np.minimum((radius / 0.9 * len(CODES)).astype(int), len(CODES))
    labels = np.array([*CODES, 0], np.int16)[layer]
    means = np.array([900, 700, 200, 650, 800, 0], np.float32)
    scan = means[layer] + 25 * rng.standard_normal(shape, dtype=np.float32)
    scan = np.where(labels > 0, scan, 0).astype(np.float32)
    affine = np.diag([0.7, 0.7, 0.7, 1])
    files = {}
    for kind, array in (("images", scan), ("labels", labels)):
        files[kind] = Path(folder) / kind / f"{name}.nii.gz"
        files[kind].parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), files[kind])
    return {"image": files["images"], "labels": files["labels"]}


def dag_1113(full):
    with tempfile.TemporaryDirectory() as folder:
        empty_scans(folder)
        found = {}
        for size in (PAPER["data"]["subjects_per_job"], 1):
            chunks = {"subjects_per_job": size}
            seconds, output = snakemake(folder, "-n", "--quiet", "rules", data=chunks)
            found[size] = seconds, int(re.search(r"^total +(\d+)$", output, re.M)[1])
            if size > 1:  # the peak of all children so far: ask before the bigger one runs
                peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    (seconds, jobs), (single, single_jobs) = found.values()
    report(
        "dag_1113",
        "one subject a job",
        single,
        seconds,
        "s",
        f"snakemake -n of presets/realdeal-paper.yaml, scans in a folder: {jobs} jobs, peak "
        f"{peak:.0f} MiB; one subject a job: {single_jobs} jobs",
    )


def startup(full):
    size = PAPER["data"]["subjects_per_job"]
    with tempfile.TemporaryDirectory() as folder:
        empty_scans(folder)
        # A Slurm job is Snakemake, in which Snakemake runs as a step, in which the script runs.
        parse = 2 * snakemake(folder, "preprocess_1", "-n")[0]
    imports = {}
    for job, module in (("preprocess", "data.preprocessing"), ("reconstruct", "reconstruction")):
        imports[job] = min(run("-c", f"import realdeal.{module}")[0] for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        files = {"one": write_scan(folder, "one", SCAN, 0)}
        start = time.process_time()
        preprocess(Study(folder), ["one"], files, PAPER["preprocessing"], False)
        work = time.process_time() - start
    total = parse + imports["preprocess"]
    report(
        "startup",
        f"work of a preprocessing job of {size} subjects at the paper's grid",
        size * work,
        total,
        "s",
        f"under Slurm: Snakemake twice {parse:.1f} s, imports {imports['preprocess']:.1f} s "
        f"(with torch, as reconstruct: {imports['reconstruct']:.1f} s); {work:.1f} s a subject: "
        f"{100 * total / (total + size * work):.1f} % of the job is start-up",
    )


def disk(full):
    from realdeal.data import demo

    grid = PAPER["preprocessing"]["shape"]
    voxels = np.prod(grid)
    # The bits a voxel takes compressed hang on the noise, hardly on the grid; a demo brain of
    # the same field of view is measured, coarser because drawing one takes memory.
    size = 1.4 if full else 2.1
    shape = [round(n * 0.7 / size) for n in grid]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(folder)
        settings = yaml.safe_load((ROOT / "config.yaml").read_text())["data"]["demo"]
        settings |= {"subjects": 1, "voxel_size": size, "white_matter_snr": [24, 24]}
        demo.write_cohort(study, ["sub-001"], settings, shape, 0)
        files = {k: study.cohort(n, "sub-001") for k, n in (("image", "T1w"), ("labels", "labels"))}
        scaled = {"shape": shape, "intensity": [0.0, 1.2]}
        preprocess(study, ["sub-001"], {"sub-001": files}, scaled, True)
        packed = {
            name: path.stat().st_size / np.prod(shape) * voxels
            for name, path in (
                ("volume", study.volume("original", "sub-001")),
                ("regions", study.regions("sub-001")),
            )
        }
    codec = PAPER["autoencoder"]["network"]
    factor = 2 ** (len(codec["channels"]) - 1) * codec["fold"]
    parts = {
        "volume original, .nii.gz": packed["volume"],
        "regions, .nii.gz": packed["regions"],
        "store original, int16": 2 * voxels,
        "store coarse, int16": 2 * voxels,
        "store latents, float32": 4 * codec["latent_channels"] * voxels / factor**3,
    }
    report(
        "disk",
        "volume, store original and store coarse as float32, regions as int16",
        14 * voxels / 1e6,
        sum(parts.values()) / 1e6,
        "MB a subject",
        "; ".join(f"{name} {value / 1e6:.1f} MB" for name, value in parts.items())
        + f"; {SUBJECTS} subjects: {SUBJECTS * sum(parts.values()) / 1e9:.0f} GB; compression "
        f"measured on a demo brain with voxels of {size} mm",
    )


def data_1113(full):
    shape = (12, 14, 12)
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names()):
            write_scan(folder, name, shape, number)
        start = time.perf_counter()
        settings = {"preprocessing": {"shape": [16, 16, 16], "intensity": [0, 1500]}}
        settings["evaluation"] = {"patch_size": 16}
        targets = ("participants", "draw_patches_original")
        _, output = snakemake(folder, *targets, **settings)
        seconds = time.perf_counter() - start
        jobs = int(re.search(r"^total +(\d+)$", output, re.M)[1])
        study = Study(f"{folder}/results/{PAPER['study']}")
        rows = study.participants.read_text().splitlines()
        files = [path for path in study.root.rglob("*") if path.is_file()]
        stores = len(list(study.root.glob("stores/original/*.npy")))
        if len(rows) != SUBJECTS + 1 or stores != SUBJECTS:
            sys.exit(f"data_1113: {len(rows) - 1} participants and {stores} stores")
        size = sum(path.stat().st_size for path in files)
        again = snakemake(folder, *targets, "-n", **settings)[1]
    report(
        "data_1113",
        "the bar of one hour",
        3600,
        seconds,
        "s (wall clock)",
        f"{SUBJECTS} subjects of {shape} voxels really preprocessed, tabulated and their patches "
        f"drawn: {jobs} jobs, {len(files)} files, {size / 1e6:.0f} MB; "
        f"a second run: {'nothing' if 'Nothing to be done' in again else 'something'} to be done",
    )


BENCHMARKS = {f.__name__: f for f in (dag_1113, startup, disk, data_1113)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--full", action="store_true", help="all of them, disk on a finer grid")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}")
    default = [name for name in BENCHMARKS if arguments.full or name != "data_1113"]
    for name in arguments.names or default:
        BENCHMARKS[name](arguments.full)
