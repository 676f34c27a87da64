"""The bundle's networks and noise schedule, from its own configuration and weights.

A bundle's configuration is a program: MONAI's ConfigParser evaluates its expressions and calls
whatever Python object it names. Here it is read as plain JSON, and of it three classes of MONAI
are built from plain values, nothing else. Weights are read as tensors, never as objects.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
import yaml
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler
from torch import nn

from realdeal.bundle.files import AUTOENCODER, CONFIG, DIFFUSION, DIGESTS, METADATA
from realdeal.errors import InputError
from realdeal.files import read_json
from realdeal.provenance import file_digest

COVARIATES = 4
BUILT = {
    "autoencoder_def": (AutoencoderKL, "monai.networks.nets"),
    "diffusion_def": (DiffusionModelUNet, "monai.networks.nets"),
    "scheduler": (DDIMScheduler, "monai.networks.schedulers"),
}
ALGORITHMS = ("md5", "sha1", "sha256")


class Bundle(NamedTuple):
    """Both networks in evaluation mode, the schedule, and the shape of latents (C, x, y, z)."""

    autoencoder: nn.Module
    diffusion: nn.Module
    scheduler: DDIMScheduler
    latent_shape: tuple


def load_bundle(folder, device="cpu"):
    """The `Bundle` in `folder`, its networks on `device`.

    InputError if a file is missing or damaged, the configuration names anything but the three
    classes with plain values, or weights do not fill the networks exactly.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    autoencoder, diffusion, scheduler = (build(folder / CONFIG, config, name) for name in BUILT)
    channels = autoencoder.latent_channels
    levels = [len(config[name].get("channels", ())) for name in BUILT if name != "scheduler"]
    taken = [
        config["diffusion_def"].get(key)
        for key in ("in_channels", "out_channels", "cross_attention_dim")
    ]
    if taken != [channels + COVARIATES, channels, COVARIATES] or 0 in levels:
        raise InputError(
            f"{folder / CONFIG}: its U-Net does not take the autoencoder's latents and "
            f"{COVARIATES} covariates; give the bundle that docs/bundle.md names"
        )
    if scheduler.prediction_type not in ("epsilon", "v_prediction"):
        raise InputError(f"{folder / CONFIG}: scheduler.prediction_type must be epsilon")
    shape = latent_shape(folder / METADATA, channels, levels)
    for network, name in ((autoencoder, AUTOENCODER), (diffusion, DIFFUSION)):
        check_digest(folder, name)
        load_weights(network, folder / name)
        network.to(device).eval().requires_grad_(False)
    return Bundle(autoencoder, diffusion, scheduler, shape)


def build(path, config, name):
    """The object that section `name` of the configuration defines, if it is of its one class."""
    kind, package = BUILT[name]
    definition = config.get(name) if isinstance(config, dict) else None
    if not isinstance(definition, dict):
        raise InputError(f"{path}: has no section {name}; fetch the bundle again")
    target = definition.get("_target_")
    if target not in (f"{package}.{kind.__name__}", f"{kind.__module__}.{kind.__name__}"):
        raise InputError(
            f"{path}: {name} is a {target!r}; only {package}.{kind.__name__} is built from a bundle"
        )
    arguments = {key: value for key, value in definition.items() if not key.startswith("_")}
    for key, value in arguments.items():
        if not _is_plain(value):
            raise InputError(f"{path}: {name}.{key} is no plain value; expressions are not run")
    try:
        return kind(**arguments)
    except (TypeError, ValueError, KeyError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"{path}: {name} cannot be built ({line}); mend it") from error


def _is_plain(value):
    """Whether a JSON value is a number, truth value, null, word, or a list of these."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, dict) and not str(value).startswith(("$", "@", "%"))


def latent_shape(path, channels, levels):
    """(C, x, y, z) for the shape of volumes that the metadata tell.

    `levels` of the autoencoder and of the U-Net: each but the first halves the sides.
    """
    try:
        shape = read_json(path)["network_data_format"]["outputs"]["pred"]["spatial_shape"]
        x, y, z = (int(side) for side in shape)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: tells no network_data_format.outputs.pred.spatial_shape; fetch it again"
        ) from None
    factor, further = (2 ** (number - 1) for number in levels)
    if any(side % (factor * further) or side <= 0 for side in (x, y, z)):
        raise InputError(
            f"{path}: the sides of {shape} are no multiples of {factor * further}; fetch it again"
        )
    return (channels, x // factor, y // factor, z // factor)


def check_digest(folder, name):
    """InputError if the bundle's large_files.yml tells another digest of the file `name`."""
    digests = folder / DIGESTS
    if not digests.is_file():
        return
    try:
        entries = yaml.safe_load(digests.read_text())["large_files"]
        entry = next((entry for entry in entries if entry["path"] == name), {})
        algorithm, expected = entry.get("hash_type"), entry.get("hash_val")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{digests}: is not the list of large files; fetch it again") from error
    if not expected:
        return
    if algorithm not in ALGORITHMS:
        raise InputError(f"{digests}: {algorithm!r} is none of {', '.join(ALGORITHMS)}; mend it")
    found = file_digest(folder / name, algorithm)
    if found != str(expected).lower():
        raise InputError(
            f"{folder / name}: its {algorithm} is {found}, not {expected} as {DIGESTS} says; "
            "fetch it again"
        )


def load_weights(network, path):
    """Fill a network from a file of tensors, named as MONAI or as GenerativeModels names them.

    InputError unless each tensor of the file is used and each parameter of the network filled.
    """
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"{path}: is no readable file of plain tensors; fetch it again (nothing in it was run)"
        ) from error
    if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
        raise InputError(f"{path}: holds other things than tensors; give the published weights")
    number, wanted = len(tensors), network.state_dict().keys()
    try:
        if tensors.keys() == wanted:
            network.load_state_dict(tensors)
            return
        # MONAI's converter takes out of `tensors` what it uses, and leaves at random, unsaid,
        # what it does not find: as many tensors as parameters and none left is a full match.
        network.load_old_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"{path}: does not fit the network ({line})") from error
    if tensors or number != len(wanted):
        what = f"such as {next(iter(tensors))}" if tensors else f"{number} for {len(wanted)}"
        raise InputError(f"{path}: tensors and the network's parameters are not the same, {what}")
