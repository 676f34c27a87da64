"""What ways of refining cost and give: the refinement study.

A way is a `sampling.refiner` of the config: traversal, sampler, steps, spacing. All ways refine the
same reconstructions with the same weights and seed and are measured against the same originals.
"""

import time

from realdeal.data.volumes import load_volume, save_volume
from realdeal.files import write_json
from realdeal.study import way_name

PAPER_GRID = (224, 288, 224), 64, 32  # shape, patch, stride


def evaluations(way, shape, patch_size, stride):
    """Network evaluations (patches times steps) for one volume, no background skipped."""
    from realdeal.refinement.joint import padded_shape, tiles
    from realdeal.refinement.traversal import published_traversal

    if way["traversal"] == "joint":
        return len(tiles(padded_shape(shape, patch_size), patch_size, 0)) * way["steps"]
    return published_traversal(shape, patch_size, stride).patches * way["steps"]


def patch_grid(way, shape, patch_size, stride):
    """Spacing and offsets (x, y, z) of the planes at which the patches of a refined volume meet."""
    from realdeal.refinement.joint import grid_offsets
    from realdeal.refinement.traversal import published_traversal

    if way["traversal"] == "joint":
        return patch_size, grid_offsets(patch_size, max(way["steps"] - 1, 0))
    padding = published_traversal(shape, patch_size, stride).padding
    return stride, tuple(-before % stride for before, _ in padding)


class Counted:
    """A network that counts the patches it is given."""

    def __init__(self, network):
        self.network, self.patches = network, 0

    def __call__(self, x, *conditions):
        self.patches += len(x)
        return self.network(x, *conditions)


def refine_way(study, subjects, way, seed):
    """Refine the reconstructions of `subjects` one way; volumes and cost.json in study.way()."""
    from realdeal.refinement.refiner import Refiner
    from realdeal.training.loop import generator_for

    refiner = Refiner.load(study.model("refiner"))
    refiner.network = Counted(refiner.network)
    folder = study.way(way_name(way))
    volumes = [load_volume(study.volume("reconstructed", s)) for s in subjects]
    generators = [generator_for(seed, "refine", "reconstructed", s) for s in subjects]
    # CPU time where there is no GPU: other jobs may run beside.
    clock = time.monotonic if refiner.device.type == "cuda" else time.process_time
    start = clock()
    refined = refiner.refine_all([v.data for v in volumes], generators, way, way_name(way))
    seconds = clock() - start
    for subject, volume, result in zip(subjects, volumes, refined, strict=True):
        save_volume(folder / f"{subject}.nii.gz", result, volume.affine)
    write_json(
        folder / "cost.json",
        {
            "way": way,
            "subjects": len(subjects),
            "evaluations": refiner.network.patches / len(subjects),
            "seconds": seconds / len(subjects),
            "evaluations_paper_grid": evaluations(way, *PAPER_GRID),
        },
    )
