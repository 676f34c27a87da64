"""No work of a training is lost: killed, stopped, damaged, diverged."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from training_run import SUBJECTS, make_stores, settings, train

from realdeal.errors import InputError
from realdeal.study import Study
from realdeal.training import launch
from realdeal.training.loop import before, fit, load_state, save_state

NAMES = ["autoencoder", "ldm", "refiner"]
STEPS = 40


def start(name, root, checkpoint_seconds):
    script = Path(__file__).parent / "training_run.py"
    arguments = (name, root, STEPS, checkpoint_seconds)
    return subprocess.Popen(
        [sys.executable, script, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The weights and the study of an undisturbed training, by name."""
    found = {}

    def get(name):
        if name not in found:
            root = tmp_path_factory.mktemp(name)
            found[name] = train(name, root, STEPS, 0.0), Study(root)
        return found[name]

    return get


def assert_same(name, study, weights, uninterrupted):
    expected, other = uninterrupted(name)
    assert sorted(weights) == sorted(expected)
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    tables = [pd.read_csv(s.history(name)).drop(columns="seconds") for s in (study, other)]
    pd.testing.assert_frame_equal(*tables)
    assert not any(study.state(name).parent.iterdir())  # what was kept to resume is gone


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_started_again_gives_the_same_bits(name, tmp_path, uninterrupted, capsys):
    study = Study(tmp_path)
    process = start(name, tmp_path, 0.0)  # a checkpoint after every step
    wait_for(before(study.state(name)).exists, process)
    process.kill()
    process.communicate()
    assert not study.model(name).exists()
    weights = train(name, tmp_path, STEPS, 0.0)
    assert f"{name}: going on from step" in capsys.readouterr().out
    assert_same(name, study, weights, uninterrupted)


@pytest.mark.parametrize("name", NAMES)
def test_two_devices_train_as_one(name, tmp_path):
    """Processes that share each batch, piece by piece, have the losses of one that has it all."""
    histories = []
    for devices, accumulation in ((1, 1), (1, 2), (2, 2)):
        study = Study(tmp_path / f"{devices}-{accumulation}")
        make_stores(study)
        shared = {"devices": devices, "accumulation": accumulation, "batch_size": 4}
        options = settings(name, 4, 900.0, validations=4, **shared)
        launch.train(name, study, SUBJECTS, options, 0)
        assert study.model(name).exists()
        histories.append(pd.read_csv(study.history(name)))
    one, *others = (table[["loss", "validation_loss"]].to_numpy() for table in histories)
    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_a_batch_that_two_devices_cannot_share(tmp_path, capsys):
    study = Study(tmp_path)
    make_stores(study)
    odd = settings("refiner", 4, 900.0, devices=2, batch_size=3)
    with pytest.raises(InputError, match="2 processes failed"):
        launch.train("refiner", study, SUBJECTS, odd, 0)
    assert "make batch_size a multiple" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_first(number, tmp_path, uninterrupted):
    study = Study(tmp_path)
    log = tmp_path / "steps"
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import realdeal.training.refiner as r, training_run\n"
        "loss = r.masked_loss\n"
        f"def counting(*a): open({str(log)!r}, 'a').write('.'); return loss(*a)\n"
        "r.masked_loss = counting\n"
        f"training_run.train('refiner', {str(tmp_path)!r}, {STEPS}, 900.0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: log.exists() and log.stat().st_size > 3, process)
    assert not study.state("refiner").exists()
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0 and "stopped after step" in error
    weights = train("refiner", tmp_path, STEPS, 900.0)
    # Another number of seconds between checkpoints changes nothing but the description.
    expected = uninterrupted("refiner")[0]
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_damaged_checkpoint_is_left_aside_for_the_one_before(tmp_path, capsys):
    path = tmp_path / "state.ckpt"
    for step in (1, 2):
        save_state(path, {"identity": "this", "step": step, "weights": torch.arange(9999)})
    assert load_state(path, "this")["step"] == 2
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert load_state(path, "this")["step"] == 1
    assert "left aside" in capsys.readouterr().out
    path.write_bytes(content[:100])
    assert load_state(path, "this")["step"] == 1
    path.unlink()  # killed between the two renames
    assert load_state(path, "this")["step"] == 1
    assert load_state(path, "that") is None


class Diverging(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.weight * x


def test_a_diverging_loss_stops_and_keeps_the_last_checkpoint(tmp_path):
    study = Study(tmp_path)
    training = settings("refiner", 10, 0.0)["training"]

    def draw(generator, validation):
        return {"x": torch.rand(2, generator=generator)}

    calls = []

    def show(module, batch):
        return {"nothing": torch.zeros(2, 2, 2)}

    def loss(module, batch):
        calls.append(1)
        return module(batch["x"]).mean() * (float("nan") if len(calls) > 4 else 1)

    training |= {"validations": 1}
    with pytest.raises(InputError, match="not finite at step 5.*learning_rate"):
        fit("refiner", Diverging(), draw, loss, show, training, study, 0, "run")
    state = load_state(study.state("refiner"), "run")
    assert state["step"] == 4 and torch.isfinite(state["network"]["weight"]).all()


def test_curves_and_a_picture_can_be_watched(tmp_path):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from realdeal.study import Study

    train("refiner", tmp_path, 6, 1000)
    study = Study(tmp_path)
    logged = EventAccumulator(str(study.events("refiner"))).Reload()
    history = pd.read_csv(study.history("refiner"))
    for key in ("loss", "validation_loss"):
        values = [(event.step, event.value) for event in logged.Scalars(key)]
        np.testing.assert_allclose(values, history[["step", key]], rtol=1e-5)
    assert logged.Tags()["images"] == ["coarse | noisy | refined | original"]
    width, height = Image.open(study.picture("refiner")).size
    assert width == 4 * height
