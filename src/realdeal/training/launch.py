"""One training on one device here, or on several as processes of torchrun.

python -m torch.distributed.run --nproc-per-node 2 -m realdeal.training.launch ARGUMENTS.json
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from realdeal.errors import InputError, one_line
from realdeal.study import Study
from realdeal.training.autoencoder import train_autoencoder
from realdeal.training.ldm import train_ldm
from realdeal.training.loop import stop_signals
from realdeal.training.refiner import train_refiner


def train(name, study, subjects, settings, seed):
    """Train autoencoder, refiner or an LDM on `settings["training"]["devices"]` devices.

    The arguments are those of `realdeal.training.autoencoder.train_autoencoder`.
    """
    devices = settings["training"]["devices"]
    if devices == 1:
        trainings = {"autoencoder": train_autoencoder, "refiner": train_refiner}
        # Any other name is an LDM: the study's, or one with less conditioning.
        training = trainings.get(name, partial(train_ldm, name=name))
        training(study, subjects, settings, seed)
        return
    arguments = [name, str(study.root), list(subjects), settings, seed]
    with tempfile.TemporaryDirectory(prefix="realdeal-") as folder:
        path = Path(folder) / "arguments.json"
        path.write_text(json.dumps(arguments))
        program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        program += ["--nproc-per-node", str(devices), "-m", "realdeal.training.launch", str(path)]
        # The processes find this library where this one did: no environment need have it installed.
        library = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        process = subprocess.Popen(
            program,
            env=os.environ | library,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with stop_signals(process.send_signal):
            for line in process.stdout:
                print(line, end="", flush=True)
            process.wait()
    if process.returncode:
        raise InputError(f"{name}: one of its {devices} processes failed, see above")


def main():
    name, root, subjects, settings, seed = json.loads(Path(sys.argv[1]).read_text())
    settings["training"] |= {"devices": 1}
    try:
        train(name, Study(root), subjects, settings, seed)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        sys.exit(f"{name}: {line}")


if __name__ == "__main__":
    main()
