"""Random numbers that depend on names alone, whoever draws them.

Not in the training loop, whose imports take seconds that sampling and refinement need not wait for.
"""

import hashlib
import json

import torch


def generator_for(*key):
    """A CPU random generator that depends on `key` (numbers, strings) alone."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
