"""Features of 2-D patches for FID, coverage and density.

The paper does not name its features. `inception` is the usual choice (pool3 of the FID network,
2048 numbers); `alexnet` needs no download beyond that of LPIPS. Values from the two must not be
compared with each other.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import torch

from realdeal.errors import InputError
from realdeal.metrics.perceptual import colour, load_lpips
from realdeal.metrics.weights import TIMEOUT, import_torchvision, socket_timeout

EXTRACTORS = ("alexnet", "inception")


def load_extractor(name, weights, device="cpu"):
    """A function (N, 3, H, W) in [-1, 1] to (N, features) on `device`.

    `alexnet`: global average of the last convolution's ReLU (256 numbers), patches not resized,
    normalised as LPIPS does. `inception`: pool3 of pytorch-fid's InceptionV3 (2048 numbers),
    patches resized to 299. InputError if the weights cannot be had.
    """
    if name == "alexnet":
        lpips = load_lpips(weights, device)
        return lambda images: lpips.net(lpips.scaling_layer(images)).relu5.mean((2, 3))
    if name == "inception":
        network = _load_inception().to(device).eval()
        return lambda images: network((images + 1) / 2)[0].flatten(1)
    raise InputError(f"evaluation.distribution.features: {name!r} is none of {EXTRACTORS}")


def _load_inception():
    import_torchvision()
    from pytorch_fid import inception

    address = inception.FID_WEIGHTS_URL
    try:
        with socket_timeout(TIMEOUT):
            torch.hub.load_state_dict_from_url(
                address, progress=False, check_hash=True, weights_only=True
            )
        # A file that was in the cache before has not been checked by the call above.
        cached = Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[1]
        prefix = re.search(r"-([0-9a-f]{8})\.", cached.name)[1]
        if not hashlib.sha256(cached.read_bytes()).hexdigest().startswith(prefix):
            raise RuntimeError(f"{cached} is damaged, delete it")
        return inception.InceptionV3([3], normalize_input=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the Inception weights cannot be had ({' '.join(str(error).split())[:150]}); "
            "set evaluation.distribution.features to alexnet"
        ) from error


@torch.inference_mode()
def patch_features(extractor, patches, device="cpu", batch=128):
    """Features (N, features) float32 of patches (N, H, W) in [-1, 1], H and W at least 32."""
    parts = [
        extractor(colour(patches[start : start + batch], device)).cpu().numpy()
        for start in range(0, len(patches), batch)
    ]
    return np.concatenate(parts).astype(np.float32)
