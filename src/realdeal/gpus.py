"""The GPUs of this machine, each for one job at a time."""

import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path

from realdeal.errors import InputError

LOST = 15  # nvidia-smi's exit code for a GPU that has fallen off the bus (its manual page)

_held = []  # open lock files: a device is free again when the process has ended


def claim_devices(count, installed=None, folder=None):
    """Hold `count` GPUs until this process ends, and let torch see no others.

    Snakemake counts GPUs but assigns none, so that all jobs would compute on the first. Where
    CUDA_VISIBLE_DEVICES is set (Slurm, or the user, has assigned them) or no GPU is `installed`
    (None: asked of nvidia-smi), nothing is done. Otherwise waits until enough are free. Call it
    before CUDA is used. Returns the indices held; InputError if there are never enough.
    """
    if not count or "CUDA_VISIBLE_DEVICES" in os.environ:
        return []
    installed = _installed() if installed is None else installed
    if not installed:
        return []
    if count > installed:
        raise InputError(f"{count} GPUs are asked for, this machine has {installed}; ask for fewer")
    folder = Path(folder or tempfile.gettempdir())
    told = False
    while True:
        # All or none: two jobs that each hold one of two devices would wait for each other.
        claimed = {}
        for index in range(installed):
            lock = _lock(folder / f"realdeal-gpu{index}.lock")
            if lock is not None:
                claimed[index] = lock
            if len(claimed) == count:
                _held.extend(claimed.values())
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, claimed))
                return list(claimed)
        for lock in claimed.values():
            os.close(lock)
        if not told:
            print(f"waiting for {count} of {installed} GPUs to be free", flush=True)
            told = True
        time.sleep(0.2 + 0.3 * (os.getpid() % 7) / 7)  # not all at the same moment


def _installed():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    if listed.returncode == LOST:
        raise InputError(
            f"a GPU of this machine is lost (nvidia-smi ends with {LOST}); restart the machine, "
            "or name the other GPUs in CUDA_VISIBLE_DEVICES"
        )
    if listed.returncode:
        print(f"nvidia-smi fails ({listed.returncode}): going on without a GPU", flush=True)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _lock(path):
    """An open, locked file, or None if another process holds it."""
    try:
        lock = os.open(path, os.O_RDONLY)  # another user's file cannot be opened to write
    except FileNotFoundError:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
