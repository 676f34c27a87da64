"""Trained models on disk: weights as safetensors, beside a JSON that says what they are."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import realdeal
from realdeal.closure import code_commit
from realdeal.diffusion.conditioning import Conditioning
from realdeal.diffusion.local import LocalDenoiser
from realdeal.diffusion.schedules import make_schedule
from realdeal.errors import InputError
from realdeal.files import atomic_path, read_json, write_json
from realdeal.networks.autoencoder import Autoencoder
from realdeal.networks.unets import LatentUNet, PatchUNet


def build_autoencoder(network):
    return Autoencoder(
        network["channels"], network["latent_channels"], network["fold"], network["linear_path"]
    )


def build_latent_unet(network):
    conditioning = network.get("conditioning")
    conditioning = Conditioning(**conditioning) if conditioning else None
    guess = scheduler = None
    if settings := network.get("guess"):
        shape, width = network["latent_shape"], conditioning.width if conditioning else 0
        guess = LocalDenoiser(network["examples"], shape, width, **settings)
        scheduler = make_schedule(network["schedule"], network["prediction"])
    return LatentUNet(
        network["unet"],
        network["latent_channels"],
        network["coordinates"],
        conditioning,
        guess,
        scheduler,
    )


def build_refiner(network):
    schedule = make_schedule(network["schedule"], "epsilon")
    return PatchUNet(
        network["unet"],
        schedule.alphas_cumprod,
        network["parameterisation"],
        network["residual_std"],
    )


BUILDERS = {"autoencoder": build_autoencoder, "ldm": build_latent_unet, "refiner": build_refiner}


def save_model(path, kind, module, network, extra=None, description=None):
    """Write weights and description; `network` rebuilds the module, `extra` holds tensors.

    `extra` (name to tensor, e.g. latent statistics) is stored with the weights under `extra.`.
    """
    tensors = {
        name: value.detach().contiguous().cpu() for name, value in module.state_dict().items()
    }
    tensors |= {f"extra.{name}": value.contiguous() for name, value in (extra or {}).items()}
    path = Path(path)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    write_json(
        path.with_suffix(".json"),
        {
            "kind": kind,
            "network": network,
            "version": realdeal.__version__,
            "commit": code_commit(),
            **(description or {}),
        },
    )


def load_model(path, kind, device="cpu"):
    """Return (module in evaluation mode, description, extra tensors).

    InputError if the file is missing, not safetensors, of another kind, or does not fit.
    """
    path = Path(path)
    description = read_json(path.with_suffix(".json"))
    if not isinstance(description, dict) or "network" not in description:
        raise InputError(f"{path.with_suffix('.json')}: describes no network; train it again")
    if description.get("kind") != kind:
        raise InputError(f"{path}: holds a {description.get('kind')}, not the {kind} asked for")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a readable safetensors file ({error}); train it again"
        ) from error
    extra = {k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")}
    weights = {k: v for k, v in tensors.items() if not k.startswith("extra.")}
    try:
        module = BUILDERS[kind](description["network"])
        module.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: weights do not fit its .json; train it again") from error
    module = module.to(device, memory_format=torch.channels_last_3d)
    return module.eval().requires_grad_(False), description, extra
