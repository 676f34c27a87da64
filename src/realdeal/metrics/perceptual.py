"""Perceptual distance of patches: LPIPS v0.1 with AlexNet (Zhang et al. 2018; paper, Table 1)."""

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from realdeal.errors import InputError
from realdeal.metrics.weights import import_lpips

SMALLEST = 32  # pixels a side: below this AlexNet's pooling leaves nothing


def load_lpips(weights, device="cpu"):
    """The authors' LPIPS network in evaluation mode.

    `weights` is the file of `realdeal.metrics.weights.alexnet_weights`; the linear heads come
    with the lpips package.
    """
    lpips = import_lpips()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # lpips uses torchvision's old keyword `pretrained`
        model = lpips.LPIPS(net="alex", pnet_rand=True, pretrained=False, verbose=False)
    heads = torch.load(
        Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth",
        map_location="cpu",
        weights_only=True,
    )
    trunk = load_file(weights)
    parameters = dict(model.named_parameters())
    state = dict(heads)
    for name in parameters:
        if name.startswith("net."):  # net.slice2.3.weight is features.3.weight
            state[name] = trunk["features." + ".".join(name.split(".")[2:])]
    absent = sorted(set(parameters) - set(state))
    unexpected = model.load_state_dict(state, strict=False).unexpected_keys
    if absent or unexpected:
        raise InputError(f"{weights}: does not fit the lpips package ({absent}, {unexpected})")
    return model.to(device).requires_grad_(False).eval()


def colour(patches, device="cpu"):
    """Greyscale patches (N, H, W) in [-1, 1] as float32 tensor (N, 3, H, W), grey replicated.

    InputError for NaN, another shape, or patches below 32 pixels.
    """
    patches = np.asarray(patches)
    if patches.ndim != 3 or min(patches.shape[1:]) < SMALLEST:
        raise InputError(
            f"patches of shape {patches.shape}: need (N, H, W) with sides of at least {SMALLEST}; "
            "raise evaluation.patch_size"
        )
    if not np.isfinite(patches).all():
        raise InputError("patches hold NaN or infinite values; make the volumes again")
    tensor = torch.from_numpy(np.ascontiguousarray(patches, dtype=np.float32)).to(device)
    return tensor[:, None].expand(-1, 3, -1, -1)


@torch.inference_mode()
def lpips_distance(model, first, second, batch=128):
    """LPIPS of each pair of patches: two (N, H, W) in [-1, 1] to (N,) float64, >= 0."""
    if np.shape(first) != np.shape(second):
        raise InputError(f"patches differ in shape: {np.shape(first)} and {np.shape(second)}")
    device = next(model.parameters()).device
    distances = np.empty(len(first))
    for start in range(0, len(first), batch):
        part = slice(start, start + batch)
        pair = colour(first[part], device), colour(second[part], device)
        distances[part] = model(*pair).flatten().cpu().numpy()
    return distances
