"""Random patches from memory-mapped volumes."""

import numpy as np
import torch

from realdeal.data.splits import choose
from realdeal.data.volumes import LEVELS, open_store


def hold_out(subjects, count, seed):
    """Split the training subjects into (training, validation); the latter only draws curves.

    With `count` 0, or too few subjects to spare, the validation subjects are training subjects.
    """
    subjects = sorted(subjects)
    if count == 0 or len(subjects) <= 2 * count:
        return subjects, subjects
    held = set(choose(subjects, count, seed))
    return [s for s in subjects if s not in held], sorted(held)


class PatchReader:
    """Draws patches at random places of random subjects, the same place in parallel volumes.

    `*stores` are equally long lists of paths of int16 memory maps (value * LEVELS); `size` is the
    side of the cubic patch in voxels or None for whole volumes. Nothing is opened until it is
    read, and only the patch itself is read from disk.
    """

    def __init__(self, *stores, size):
        self.stores = [[open_store(path) for path in paths] for paths in zip(*stores, strict=True)]
        self.size = size

    def draw(self, generator, count, accept=None, tries=20):
        """Return one float32 tensor (count, 1, *size) in [-1, 1] for each list of stores.

        `accept(patch)` of the first store's patch may refuse it; after `tries` the last is taken.
        """
        batches = [[] for _ in self.stores[0]]
        for _ in range(count):
            subject = self.stores[int(torch.randint(len(self.stores), (), generator=generator))]
            shape = subject[0].shape
            size = shape if self.size is None else [min(self.size, n) for n in shape]
            for _ in range(tries):
                corner = [
                    int(torch.randint(n - s + 1, (), generator=generator))
                    for n, s in zip(shape, size, strict=True)
                ]
                window = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
                if accept is None or accept(subject[0][window]):
                    break
            for batch, store in zip(batches, subject, strict=True):
                batch.append(np.asarray(store[window], dtype=np.float32) / LEVELS)
        return [torch.from_numpy(np.stack(batch))[:, None] for batch in batches]
