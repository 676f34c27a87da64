"""Examples of combinations of levels that no training scan has: scans of the same people, moved.

Nobody with a glioblastoma has a FLAIR scan, say; but they have others, and other people have FLAIR
and these. Of a person's scans at another level of one category that of the kindred level is taken,
in which people differ from each other most alike, and moved by what those who have both show.
"""

from itertools import product

import torch

RIDGE = 0.02  # of the mean variance: belief that a voxel says nothing of its twin
FEWEST = 8  # people with both scans that a level needs to be kindred


def pairs(people, levels, category, here, there):
    """Rows (2, P) of scans of the same person that differ in `category` alone, `here` and `there`.

    people: a name for each scan; levels (N, K) integers.
    """
    rest = [k for k in range(levels.shape[1]) if k != category]
    keys = [(person, *row) for person, row in zip(people, levels[:, rest].tolist(), strict=True)]
    level = levels[:, category].tolist()
    found = {key: i for i, key in enumerate(keys) if level[i] == there}
    both = [(i, found[key]) for i, key in enumerate(keys) if level[i] == here and key in found]
    return torch.tensor(both, dtype=torch.long).view(-1, 2).T


def borrow(latents, people, levels, counts):
    """Latents (M, C, x, y, z) and levels (M, K) of examples for the combinations that lack any.

    latents (N, C, x, y, z) of the scans of `people` (a name each; None, where not known), levels
    (N, K) their categories' levels, of which there are `counts`. None are made for a combination
    without people who have a kindred scan.
    """
    seen = {tuple(row) for row in levels.tolist()}
    made, of = [latents[:0]], [levels[:0]]
    for combination in product(*(range(n) for n in counts)):
        if combination in seen:
            continue
        best = None
        for category, here in enumerate(combination):
            for there in range(counts[category]):
                kin = tuple(
                    there if k == category else level for k, level in enumerate(combination)
                )
                if kin not in seen:
                    continue
                target, source = pairs(people, levels, category, here, there)
                if len(target) < FEWEST:
                    continue
                likeness = torch.cosine_similarity(
                    centred(latents[target]).flatten(1), centred(latents[source]).flatten(1)
                ).mean()
                if best is None or likeness > best[0]:
                    best = likeness, target, source, kin
        if best is None:
            continue
        _, target, source, kin = best
        twins = (levels == torch.tensor(kin)).all(1)
        made.append(moved(latents[twins], latents[source], latents[target]))
        of.append(torch.tensor(combination).expand(len(made[-1]), -1))
    return torch.cat(made), torch.cat(of)


def centred(latents):
    return latents - latents.mean(0)


def moved(latents, source, target):
    """Latents as they would be in `target`, by a line for each voxel that leads there from
    `source`, latents (P, ...) of scans of the same people."""
    x, y = centred(source), centred(target)
    power = (x**2).sum(0)
    slope = (x * y).sum(0) / (power + RIDGE * power.mean())
    return target.mean(0) + slope * (latents - source.mean(0))
