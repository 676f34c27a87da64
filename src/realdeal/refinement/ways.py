"""What ways of refining cost and give: the refinement study.

A way is a `sampling.refiner` of the config: traversal, sampler, steps, spacing. All ways refine the
same reconstructions with the same weights and seed and are measured against the same originals.
"""

import time

from realdeal.data.volumes import load_volume, save_volume
from realdeal.files import write_json
from realdeal.refinement.grid import PAPER_GRID, evaluations
from realdeal.study import way_name


class Counted:
    """A network that counts the patches it is given."""

    def __init__(self, network):
        self.network, self.patches = network, 0

    def __call__(self, x, *conditions):
        self.patches += len(x)
        return self.network(x, *conditions)


def refine_way(study, subjects, way, seed):
    """Refine the reconstructions of `subjects` one way; volumes and cost.json in study.way()."""
    from realdeal.generators import generator_for
    from realdeal.refinement.refiner import Refiner

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
