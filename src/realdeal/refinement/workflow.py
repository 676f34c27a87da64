"""The refine step of the workflow: coarse volumes of a study to refined ones."""

from realdeal.data.volumes import load_volume, save_volume
from realdeal.device import choose_device
from realdeal.diffusion.schedules import make_schedule
from realdeal.networks.checkpoint import load_model
from realdeal.progress import progress
from realdeal.refinement.engine import refine_volumes
from realdeal.refinement.traversal import TRAVERSALS
from realdeal.sampling import ETA
from realdeal.training.loop import generator_for


def refine(study, variant, subjects, settings, seed):
    """Refine study.volume(variant, s) of all `subjects` to study.volume(variant + "-refined", s).

    `settings` is the config's `sampling.refiner` (traversal, sampler, steps, spacing, background,
    batch_size). The noise of a volume depends on the seed and its name alone.
    """
    device = choose_device()
    network, description, _ = load_model(study.model("refiner"), "refiner", device)
    scheduler = make_schedule(description["network"]["schedule"], "epsilon")
    volumes = [load_volume(study.volume(variant, s)) for s in subjects]
    plan = TRAVERSALS[settings["traversal"]](
        volumes[0].data.shape, description["patch_size"], description["stride"]
    )
    bar = progress(
        total=plan.patches * len(subjects), description=f"refining {variant}", unit="patch"
    )
    refined = refine_volumes(
        network,
        [v.data for v in volumes],
        plan,
        scheduler,
        generators=[generator_for(seed, "refine", variant, s) for s in subjects],
        steps=settings["steps"],
        eta=ETA[settings["sampler"]],
        spacing=settings["spacing"],
        batch_size=settings["batch_size"],
        background=settings["background"],
        device=device,
        report=bar.update,
    )
    bar.close()
    for subject, volume, result in zip(subjects, volumes, refined, strict=True):
        save_volume(study.volume(f"{variant}-refined", subject), result, volume.affine)
