"""Refinement of files: a study's coarse volumes, or anyone's."""

from realdeal.data.volumes import load_volume, save_volume
from realdeal.device import choose_device
from realdeal.diffusion.schedules import make_schedule
from realdeal.errors import InputError
from realdeal.networks.checkpoint import load_model
from realdeal.progress import progress
from realdeal.refinement.engine import refine_volumes
from realdeal.refinement.traversal import TRAVERSALS
from realdeal.sampling import ETA
from realdeal.training.loop import generator_for


def _refine(volumes, generators, model, settings, label):
    """Refine `Volume`s of one shape with the refiner at path `model`; a list of arrays."""
    device = choose_device()
    network, description, _ = load_model(model, "refiner", device)
    plan = TRAVERSALS[settings["traversal"]](
        volumes[0].data.shape, description["patch_size"], description["stride"]
    )
    bar = progress(total=plan.patches * len(volumes), description=label, unit="patch")
    refined = refine_volumes(
        network,
        [v.data for v in volumes],
        plan,
        make_schedule(description["network"]["schedule"], "epsilon"),
        generators=generators,
        steps=settings["steps"],
        eta=ETA[settings["sampler"]],
        spacing=settings["spacing"],
        batch_size=settings["batch_size"],
        background=settings["background"],
        device=device,
        report=bar.update,
    )
    bar.close()
    return refined


def refine(study, variant, subjects, settings, seed):
    """Refine study.volume(variant, s) of all `subjects` to study.volume(variant + "-refined", s).

    `settings` is the config's `sampling.refiner` (traversal, sampler, steps, spacing, background,
    batch_size). The noise of a volume depends on the seed and its name alone.
    """
    volumes = [load_volume(study.volume(variant, s)) for s in subjects]
    generators = [generator_for(seed, "refine", variant, s) for s in subjects]
    refined = _refine(volumes, generators, study.model("refiner"), settings, f"refining {variant}")
    for subject, volume, result in zip(subjects, volumes, refined, strict=True):
        save_volume(study.volume(f"{variant}-refined", subject), result, volume.affine)


def refine_file(path, target, model, name, steps=10, sampler="ddim", seed=0):
    """Refine one volume file of any shape with values in [-1, 1], background -1.

    InputError if the values lie outside [-1, 1].
    """
    volume = load_volume(path)
    low, high = float(volume.data.min()), float(volume.data.max())
    if low < -1.001 or high > 1.001:
        raise InputError(
            f"{path}: values reach from {low:g} to {high:g}; rescale to [-1, 1], background -1"
        )
    settings = {
        "traversal": "published",
        "sampler": sampler,
        "steps": steps,
        "spacing": "detail" if sampler == "ddim" else "uniform",
        "background": -0.9,
        "batch_size": 16,
    }
    (refined,) = _refine(
        [volume], [generator_for(seed, "refine", name)], model, settings, "refining"
    )
    save_volume(target, refined, volume.affine)
