"""A tiny study whose networks can be trained, in this process or as a program.

python training_run.py NAME STUDY STEPS SECONDS_BETWEEN_CHECKPOINTS
"""

import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from snakemake.utils import update_config

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = [f"sub-{i}" for i in range(5)]


def settings(name, steps, checkpoint_seconds, **training):
    """The config section `name` of the tiny study."""
    config, tiny = (
        yaml.safe_load((ROOT / path).read_text()) for path in ("config.yaml", "tests/tiny.yaml")
    )
    update_config(config, tiny)
    section = {k: v for k, v in config[name].items() if k != "threads"}
    section["training"] |= {"steps": steps, "checkpoint_seconds": checkpoint_seconds} | training
    return section


def make_stores(study):
    """Stores of original and coarse volumes and latents of `SUBJECTS`."""
    from realdeal.data.volumes import save_volume, store

    for number, subject in enumerate(SUBJECTS):
        rng = np.random.default_rng(number)
        volume = rng.uniform(-0.9, 0.9, (16, 24, 16)).astype(np.float32)
        save_volume(study.volume("original", subject), volume, np.diag([5, 5, 5, 1]))
        store(study.store("original", subject), volume)
        store(study.store("coarse", subject), 0.8 * volume)
        path = study.store("latents", subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.normal(size=(4, 4, 8, 4)).astype(np.float32))


def train(name, root, steps, checkpoint_seconds, **training):
    """Train network `name` of the study at `root`; returns its weights."""
    from safetensors.torch import load_file

    from realdeal.study import Study
    from realdeal.training.autoencoder import train_autoencoder
    from realdeal.training.ldm import train_ldm
    from realdeal.training.refiner import train_refiner

    torch.set_num_threads(1)
    study = Study(root)
    if not study.store("latents", SUBJECTS[-1]).exists():
        make_stores(study)
    functions = {"autoencoder": train_autoencoder, "ldm": train_ldm, "refiner": train_refiner}
    functions[name](study, SUBJECTS, settings(name, steps, checkpoint_seconds, **training), 0)
    return load_file(study.model(name))


if __name__ == "__main__":
    from realdeal.errors import InputError

    try:
        train(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    except InputError as error:
        sys.exit(str(error))
