"""Refinement of a study's coarse volumes."""

from realdeal.data.volumes import load_volume, save_volume
from realdeal.generators import generator_for
from realdeal.refinement.refiner import Refiner


def refine(study, variant, subjects, settings, seed):
    """Refine study.volume(variant, s) of all `subjects` to study.volume(variant + "-refined", s).

    `settings` is the config's `sampling.refiner` (traversal, sampler, steps, spacing, background,
    batch_size). The noise of a volume depends on the seed and its name alone.
    """
    volumes = [load_volume(study.volume(variant, s)) for s in subjects]
    generators = [generator_for(seed, "refine", variant, s) for s in subjects]
    refined = Refiner.load(study.model("refiner")).refine_all(
        [v.data for v in volumes], generators, settings, f"refining {variant}"
    )
    for subject, volume, result in zip(subjects, volumes, refined, strict=True):
        save_volume(study.volume(f"{variant}-refined", subject), result, volume.affine)
