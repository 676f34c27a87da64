"""Faults that no other test injects. docs/faults.md lists all of them, each with its test."""

import ast
import io
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import snakemake as _snakemake  # noqa: F401  (job() looks where it lies)
import torch
from test_training import Diverging
from training_run import settings

from realdeal.cli import volumes_in
from realdeal.data.volumes import open_store
from realdeal.errors import InputError
from realdeal.gpus import claim_devices
from realdeal.job import job
from realdeal.metrics.protocol import _read_arrays
from realdeal.networks.checkpoint import load_model
from realdeal.study import Study
from realdeal.training.loop import fit, load_state

ROOT = Path(__file__).resolve().parent.parent


def test_every_fault_of_the_docs_has_its_test():
    rows = re.findall(r"^\| (?!fault|---).*$", (ROOT / "docs/faults.md").read_text(), re.M)
    assert len(rows) >= 25
    for row in rows:
        named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", row)
        assert named, f"no test: {row}"
        for module, name in named:
            tree = ast.parse((ROOT / f"tests/{module}.py").read_text())
            defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in defined, f"{module}.py has no {name}"


# A full disk: a small one, in a mount namespace of its own, so that it takes no root


def on_a_small_disk(folder, size, script):
    """What `script` prints, run in a file system of `size` at `folder`; sys.argv[1] is there."""
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={size} none '{folder}'"
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*private, mount], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces: no disk was filled")
    done = subprocess.run(
        [*private, f'{mount} && exec "$0" -c "$1" \'{folder}\'', sys.executable, script],
        cwd=ROOT / "tests",
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk(tmp_path):
    script = """
        import json, sys
        from pathlib import Path
        import numpy as np, pandas as pd, torch
        from matplotlib.figure import Figure
        from realdeal.data.volumes import save_volume, store
        from realdeal.errors import InputError
        from realdeal.files import write_json, write_table
        from realdeal.metrics.protocol import _write_arrays
        from realdeal.networks.checkpoint import save_model
        from realdeal.paper.figures import _save
        from realdeal.training.loop import save_state

        folder = Path(sys.argv[1])

        def figure(path, size):
            canvas = Figure(figsize=(size / 10, size / 10))  # 200 dots per inch
            canvas.add_axes([0, 0, 1, 1]).imshow(noise(20 * size, 20 * size))
            _save(canvas, path)

        def noise(*shape):
            return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

        def weights(size):
            return torch.nn.Linear(4 * size, 2 * size)

        writers = {
            "volume.nii.gz": lambda path, n: save_volume(path, noise(n, n, n), np.eye(4)),
            "store.npy": lambda path, n: store(path, noise(n, n, n)),
            "features.npz": lambda path, n: _write_arrays(path, x=noise(n, n, n)),
            "table.csv": lambda path, n: write_table(path, pd.DataFrame(noise(n * n, n))),
            "about.json": lambda path, n: write_json(path, noise(n * n * n).tolist()),
            "state.ckpt": lambda path, n: save_state(path, weights(4 * n).state_dict()),
            "model.safetensors": lambda path, n: save_model(path, "ldm", weights(4 * n), {}),
            "figure.png": figure,
        }
        said = {}
        for name, write in writers.items():
            path = folder / name
            write(path, 4)
            before = path.read_bytes()
            try:
                write(path, 64)
            except InputError as error:
                said[name] = str(error)
            assert path.read_bytes() == before, name
            assert not [file for file in folder.iterdir() if file.name.startswith(".")]
        print(json.dumps(said))
    """
    said = json.loads(on_a_small_disk(tmp_path / "disk", "400k", textwrap.dedent(script)))
    assert len(said) == 8
    for name, line in said.items():
        expected = f"{tmp_path}/disk/{name}: the disk is full; free some space and run again"
        assert line == expected


def test_a_training_on_a_full_disk_keeps_its_checkpoint(tmp_path):
    script = """
        import sys
        from pathlib import Path
        import training_run
        from realdeal.errors import InputError
        from realdeal.study import Study
        from realdeal.training import loop

        folder = Path(sys.argv[1])
        save_state, filler = loop.save_state, folder / "filler"

        def save(path, state):
            if state["step"] == 4:
                with open(filler, "wb", buffering=0) as file:
                    try:
                        while True:
                            file.write(bytes(4096))
                    except OSError:
                        pass
            save_state(path, state)

        loop.save_state = save
        try:
            training_run.train("refiner", folder, 6, 0.0)
        except InputError as error:
            print(error)
        study = Study(folder)
        print("left", *sorted(path.name for path in study.state("refiner").parent.iterdir()))
        loop.save_state = save_state
        filler.unlink()
        training_run.train("refiner", folder, 6, 0.0)
        print("trained", study.model("refiner").exists())
    """
    said = on_a_small_disk(tmp_path / "disk", "64m", textwrap.dedent(script))
    assert re.search(r"refiner\.ckpt: the disk is full; free some space and run again", said)
    assert "left refiner.ckpt refiner.ckpt.before" in said
    assert "refiner: going on from step 3 of 6" in said and "trained True" in said


def run_job(log, body, monkeypatch):
    """What a script whose body is `body()` says on the terminal; it ends with exit code 1."""
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    about = SimpleNamespace(log=[str(log)], threads=1, rule="train_refiner", resources={})
    with pytest.raises(SystemExit) as ended, job(about):
        body()
    assert ended.value.code == 1
    return terminal.getvalue()


def test_a_full_disk_does_not_swallow_what_is_said(monkeypatch):
    def body():
        raise InputError("a.nii.gz: the disk is full; free some space and run again")

    said = run_job("/dev/full", body, monkeypatch)
    assert said == "train_refiner: a.nii.gz: the disk is full; free some space and run again\n"


def test_half_files_of_a_killed_run_are_no_volumes(tmp_path):
    for name in ("anna.nii.gz", ".bo.nii.gz.x1y2z3.nii.gz"):
        (tmp_path / name).touch()
    assert list(volumes_in(tmp_path)) == ["anna"]


# GPUs: the errors that torch raises, and a stand-in for nvidia-smi


LAUNCH = "CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later.\n"
MEMORY = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.AcceleratorError(LAUNCH), "the GPU failed (CUDA error: unspecified launch failure)"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU failed (cuDNN error"),
        (torch.OutOfMemoryError(MEMORY), "the GPU's memory is full (CUDA out of memory); lower"),
    ],
)
def test_a_failing_gpu_is_one_line(tmp_path, monkeypatch, error, message):
    def body():
        raise error

    said = run_job(tmp_path / "log", body, monkeypatch)
    assert said.startswith(f"train_refiner: {message}") and said.count("\n") == 1
    assert (tmp_path / "log").read_text() == said


def test_other_errors_keep_their_traceback(tmp_path, monkeypatch):
    said = run_job(tmp_path / "log", lambda: {}["missing"], monkeypatch)
    assert "Traceback" in said and "KeyError: 'missing'" in said


def test_a_gpu_that_fails_in_training_leaves_a_checkpoint(tmp_path):
    study, calls = Study(tmp_path), []
    training = settings("refiner", 10, 0.0)["training"] | {"validations": 1}

    def draw(generator, validation):
        return {"x": torch.rand(2, generator=generator)}

    def loss(module, batch):
        calls.append(1)
        if len(calls) == 5:
            raise torch.AcceleratorError(LAUNCH)
        return module(batch["x"]).mean()

    def show(module, batch):
        return {"nothing": torch.zeros(2, 2, 2)}

    with pytest.raises(torch.AcceleratorError):
        fit("refiner", Diverging(), draw, loss, show, training, study, 0, "run")
    assert load_state(study.state("refiner"), "run")["step"] == 4
    fit("refiner", Diverging(), draw, loss, show, training, study, 0, "run")
    assert len(calls) >= 5 + 6  # the four steps before are not repeated
    assert len(calls) < 5 + 10 + 4


@pytest.mark.parametrize("code", [15, 9])
def test_a_lost_gpu_is_named_and_a_missing_driver_is_said(tmp_path, monkeypatch, capsys, code):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if code == 15:
        with pytest.raises(InputError, match="a GPU of this machine is lost.*restart the machine"):
            claim_devices(1, folder=tmp_path)
    else:
        assert claim_devices(1, folder=tmp_path) == []
        assert "nvidia-smi fails (9): going on without a GPU" in capsys.readouterr().out


def test_the_lock_of_a_killed_job_is_free(tmp_path, monkeypatch):
    script = (
        "import sys, time; from realdeal.gpus import claim_devices;"
        "print(claim_devices(1, installed=1, folder=sys.argv[1]), flush=True); time.sleep(60)"
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "[0]\n"
        process.kill()
    assert (tmp_path / "realdeal-gpu0.lock").exists()
    assert claim_devices(1, installed=1, folder=tmp_path) == [0]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


# Files that would run code when they are read


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_the_payload_works(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_malicious_checkpoint_is_left_aside(tmp_path, capsys, whole):
    path, ran = tmp_path / "refiner.ckpt", tmp_path / "ran"
    state = {"identity": "run", "step": 3, "network": Payload(ran)}
    if whole:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    assert load_state(path, "run") is None
    assert "cannot be loaded" in capsys.readouterr().out
    assert not ran.exists()


def test_a_malicious_model_is_refused(tmp_path):
    path, ran = tmp_path / "refiner.safetensors", tmp_path / "ran"
    path.with_suffix(".json").write_text('{"kind": "refiner", "network": {}}')
    for write in (pickle.dump, torch.save):
        with open(path, "wb") as file:
            write({"weight": Payload(ran)}, file)
        with pytest.raises(InputError, match="refiner.safetensors: not a readable safetensors"):
            load_model(path, "refiner")
    path.with_suffix(".json").write_text('["no", "description"]')
    with pytest.raises(InputError, match="refiner.json: describes no network"):
        load_model(path, "refiner")
    assert not ran.exists()


def test_malicious_arrays_are_refused(tmp_path):
    path, ran = tmp_path / "sub-1.npy", tmp_path / "ran"
    content = np.array([Payload(ran)], dtype=object)
    np.save(path, content, allow_pickle=True)
    np.savez(tmp_path / "sub-1.npz", x=content)
    for read, file in ((open_store, path), (_read_arrays, tmp_path / "sub-1.npz")):
        with pytest.raises(InputError, match="cannot be read"):
            read(file)
    path.write_bytes(pickle.dumps(Payload(ran)))
    with pytest.raises(InputError, match="cannot be read"):
        open_store(path)
    assert not ran.exists()


# A subject that leaves or joins


def planned(done):
    """{rule: jobs} of a dry run."""
    assert done.returncode == 0, done.stdout
    if "Nothing to be done" in done.stdout:
        return {}
    table = re.search(r"^job +count\n-+ +-+\n((?:.+\n)+?)total ", done.stdout, re.M)[1]
    return {name: int(count) for name, count in map(str.split, table.splitlines())}


def test_a_changed_subject_list_reruns_what_depends_on_it(snakemake, tmp_path):
    # Nothing is computed: the files are empty, and Snakemake is told that they are up to date.
    names = [f"anna{number:02d}" for number in range(23)]
    folder = {kind: str(tmp_path / kind) for kind in ("images", "labels")}
    scans = [Path(folder[kind], f"{name}.nii.gz") for kind in folder for name in names]
    data = {"source": "folder", "folder": folder, "subjects_per_job": 4}
    config = tmp_path / "own.yaml"
    config.write_text(json.dumps({"study": "own", "data": data, "evaluation": {"subjects": 2}}))

    def run(*options):
        targets = ("participants", "train_refiner", "train_ldm")
        options = ("--cores", 1, "--configfile", config, *options)
        return snakemake(*targets, *options, directory=tmp_path)

    def touch(paths):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    touch(scans)
    done = run("-n")
    assert planned(done)["preprocess_1"] == 1
    listed = re.findall(r"^    (?:output|benchmark): (.*)$", done.stdout, re.M)
    touch(tmp_path / path for line in listed for path in line.split(", "))
    assert run("--touch", "--forceall").returncode == 0

    last = [path for path in scans if path.stem.startswith(names[-1])]
    joining = [path.with_name("zoe.nii.gz") for path in last]
    for leaves, joins in ((last, []), ([], joining)):
        for path in leaves:
            path.unlink()
        touch(joins)
        again = set(planned(run("-n")))
        assert {"train_autoencoder", "train_ldm", "train_refiner", "participants"} <= again
        # of six jobs with four subjects each, the last
        assert {name for name in again if name.startswith("preprocess")} == {"preprocess_6"}
        for path in joins:
            path.unlink()
        touch(leaves)
