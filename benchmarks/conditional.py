"""Does the conditional MRI LDM obey better with more people, training or a larger network?

    python benchmarks/conditional.py results/conditional-mri-demo [people=48,steps=400 ...]
        [--each 10] [--models FOLDER]

Each argument is an LDM to train on the latents of a finished study, by what differs from the
study's own: `people` (so many of the training set), `steps`, `guess` (0: without the closed-form
denoiser), `marks` (share of the places that mark a subject out) and `channels` (of the first level
of the U-Net; the second has twice as many). Autoencoder and observer are the study's. Prints one
JSON object a line: the share of samples that are read as asked, in seen and unseen pairs, with
Wilson's interval, what the training took, and how much samples of seen pairs, and held-out scans,
are like the training scan that they are most like (realdeal.metrics.novelty). With `--models` the
LDMs are kept in a folder and those already there are not trained again; `--each 0` only trains, so
a machine with a GPU can do that part.
"""

import argparse
import copy
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402

from realdeal.data.volumes import load_volume  # noqa: E402
from realdeal.files import read_json  # noqa: E402
from realdeal.generators import generator_for  # noqa: E402
from realdeal.metrics.novelty import nearest  # noqa: E402
from realdeal.observation.observer import Observer  # noqa: E402
from realdeal.paper.summaries import share  # noqa: E402
from realdeal.progress import progress  # noqa: E402
from realdeal.sampling import Generator  # noqa: E402
from realdeal.study import Study  # noqa: E402
from realdeal.training.ldm import train_ldm  # noqa: E402

CATEGORIES = ("pathology", "modality")
SAMPLER = {"sampler": "ddim", "steps": 25, "spacing": "uniform", "guidance": 1}
BATCH = 20  # volumes at once
SEED = 0


def ldm(text):
    """What an argument asks for: people=48,steps=400 as a dict."""
    items = [item.split("=") for item in text.split(",")]
    asked = {key: float(value) if key == "marks" else int(value) for key, value in items}
    if unknown := set(asked) - {"people", "steps", "guess", "marks", "channels"}:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return asked


def changed(settings, asked):
    """The config's `ldm` section with what is `asked` for."""
    settings = copy.deepcopy(settings)
    network = settings["network"]
    if "steps" in asked:
        settings["training"]["steps"] = asked["steps"]
    if asked.get("guess") == 0:
        network["guess"] = None
    if "marks" in asked:
        network["guess"]["marks"] = asked["marks"]
    if "channels" in asked:
        width = asked["channels"]
        network["unet"]["channels"] = [width, 2 * width]
        network["unet"]["num_head_channels"] = [0, width]
    return settings


def beside(study, folder):
    """A study in `folder` with the same inputs and models, so that the study stays as it is."""
    other = Study(folder)
    (other.root / "models").mkdir(parents=True, exist_ok=True)
    models = [path.relative_to(study.root) for path in (study.root / "models").iterdir()]
    for part in ("participants.tsv", "stores", "volumes", *models):
        if not (other.root / part).is_symlink():
            (other.root / part).symlink_to(study.root.resolve() / part)
    return other


def name_of(asked):
    """A file name for an LDM by what differs from the study's own."""
    return "_".join(["ldm", *(f"{key}-{value:g}" for key, value in asked.items())]) + "-benchmark"


def read_samples(study, model, observer, affine, cells, each):
    """Whether each sample is read as asked, {cell: [bool, ...]}, and the samples of each cell."""
    generator = Generator(study, model)
    asked = [cell for cell in cells for _ in range(each)]
    hits, volumes = {cell: [] for cell in cells}, {cell: [] for cell in cells}
    for start in progress(range(0, len(asked), BATCH), description="sampling", unit="batch"):
        batch = asked[start : start + BATCH]
        noises = [generator_for(SEED, "benchmark", start + i) for i in range(len(batch))]
        told = [dict(zip(CATEGORIES, cell, strict=True)) for cell in batch]
        for cell, volume in zip(batch, generator.sample(noises, SAMPLER, told), strict=True):
            found = observer.read(volume, affine)
            hits[cell].append(tuple(found[key] for key in CATEGORIES) == cell)
            volumes[cell].append(volume)
    return hits, volumes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("ldms", nargs="*", type=ldm, default=[{}])
    parser.add_argument("--each", type=int, default=10, help="samples of each pair; 0: only train")
    parser.add_argument("--models", type=Path, help="folder that keeps the trained LDMs")
    arguments = parser.parse_args()
    study = Study(arguments.study)
    description = read_json(study.model("ldm").with_suffix(".json"))
    seen = {tuple(cell) for cell in description["trained"]["combinations"]}
    table = pd.read_csv(study.participants, sep="\t", dtype={"participant_id": str})
    cells = sorted(set(zip(*(table[key] for key in CATEGORIES), strict=True)))
    of_split = {
        split: {cell: [] for cell in cells}
        | part.groupby(list(CATEGORIES))["participant_id"].apply(list).to_dict()
        for split, part in table.groupby("split")
    }
    table = table[table["split"] == "train"]
    if arguments.each:
        observer = Observer.load(study.model("observer"))
        first = table["participant_id"].iloc[0]
        affine = load_volume(study.volume("original", first)).affine
    people = sorted(table["person"].unique())
    drawn = torch.randperm(len(people), generator=generator_for(SEED, "people"))
    for asked in arguments.ldms:
        settings = changed(description["config"], asked)
        chosen = [people[i] for i in drawn[: asked.get("people")]]
        names = table.loc[table["person"].isin(chosen), "participant_id"].tolist()
        name = name_of(asked)
        with tempfile.TemporaryDirectory() as folder:
            other = beside(study, arguments.models or Path(folder))
            if not other.model(name).exists():
                train_ldm(other, names, settings, SEED, name)
            trained = read_json(other.model(name).with_suffix(".json"))
            if arguments.each:
                hits, samples = read_samples(other, name, observer, affine, cells, arguments.each)
        line = {
            "people": len(chosen),
            "guess": settings["network"]["guess"],
            "channels": settings["network"]["unet"]["channels"],
            "steps": settings["training"]["steps"],
            "training seconds": round(trained["seconds"]),
            "trained on": trained["device"],
        }
        if not arguments.each:
            print(json.dumps(line), flush=True)
            continue
        for kind in ("seen", "unseen"):
            of_kind = [found for cell, found in hits.items() if (cell in seen) == (kind == "seen")]
            line[kind] = [round(float(value), 3) for value in share(np.concatenate(of_kind))]
        new, held_out = [], []
        for cell in seen:
            scans = {
                split: [load_volume(study.volume("original", name)).data for name in of[cell]]
                for split, of in of_split.items()
            }
            new.append(nearest(samples[cell], scans["train"]))
            held_out.append(nearest(scans["test"], scans["train"]))
        line["nearest"] = round(float(np.concatenate(new).mean()), 3)
        line["nearest of held-out"] = round(float(np.concatenate(held_out).mean()), 3)
        line["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
