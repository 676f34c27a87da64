"""What refining a volume costs against the published procedure; prints one JSON object a line.

    python benchmarks/refinement.py [--full]

The published procedure is `traversal: published, sampler: ddpm, steps: 1000`, one pass after
another, float32, eager. Its time is its measured time per evaluation (of two steps over the whole
volume) times its count. Ours is the default of config.yaml. Weights are random, for the time does
not depend on them; what quality each gives is measured by `snakemake refinement_study`. One
thread and CPU time, so that other work on the machine does not decide. --full takes the paper's
grid and networks, in wall-clock time; it needs a GPU.
"""

import argparse
import copy
import json
import os
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402
from snakemake.utils import update_config  # noqa: E402

from realdeal.data.demo import make_subject  # noqa: E402
from realdeal.networks.checkpoint import build_refiner  # noqa: E402
from realdeal.refinement.refiner import Refiner  # noqa: E402
from realdeal.refinement.texture import CONTRASTS, FREQUENCIES, INTENSITIES  # noqa: E402
from realdeal.refinement.ways import Counted  # noqa: E402
from realdeal.training.loop import generator_for  # noqa: E402

PUBLISHED = {"traversal": "published", "sampler": "ddpm", "spacing": "uniform", "steps": 1000}
STEPS = 2  # of the published thousand are run


def coarse_brain(settings):
    """A smooth demo brain in [-1, 1] on the grid of `settings`."""
    demo, shape = settings["data"]["demo"], settings["preprocessing"]["shape"]
    scan = make_subject(1, 0, demo, shape).scan
    return np.clip(gaussian_filter(scan, 1.5) / 0.6 - 1, -1, 1).astype(np.float32)


def flat_texture():
    amplitude = np.full((len(INTENSITIES), len(CONTRASTS)), 0.1).tolist()
    return {
        "timesteps": [0, 999],
        "amplitudes": [amplitude] * 3,
        "spectra": [[1.0] * len(FREQUENCIES)] * 3,
    }


def cost(refiner, volume, way, clock):
    """Seconds and network evaluations of one way."""
    network = refiner.network
    refiner.network = Counted(network)
    start = clock()
    refiner.refine_all([volume], [generator_for(0, "benchmark")], way)
    if refiner.device.type == "cuda":
        torch.cuda.synchronize()
    seconds, evaluations = clock() - start, refiner.network.patches
    refiner.network = network
    return seconds, evaluations


def report(name, unit, baseline, value, machine, note):
    line = {
        "name": name,
        "baseline": "published traversal, 1,000 DDPM steps",
        "baseline_value": baseline,
        "value": value,
        "unit": unit,
        "ratio": baseline / value,
        "max_difference": None,
        "machine": machine,
        "note": note,
    }
    print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the paper's grid and networks")
    full = parser.parse_args().full
    if full and not torch.cuda.is_available():
        sys.exit("benchmarks/refinement.py: --full needs a GPU (hours for one volume on a CPU)")
    torch.set_num_threads(1)
    settings = yaml.safe_load((ROOT / "config.yaml").read_text())
    ours = settings["sampling"]["refiner"]
    if full:
        preset = yaml.safe_load((ROOT / "presets/realdeal-paper.yaml").read_text())
        update_config(settings, copy.deepcopy(preset))
        settings["data"]["demo"]["voxel_size"] = 0.7
    options = settings["refiner"]
    network = options["network"] | {"schedule": options["schedule"], "residual_std": 0.16}
    device = torch.device("cuda" if full else "cpu")
    torch.manual_seed(0)
    description = {
        "patch_size": options["patch_size"],
        "stride": options["stride"],
        "network": network,
        "texture": flat_texture(),
    }
    refiner = Refiner(build_refiner(network).eval().to(device), description, device)
    volume = coarse_brain(settings)
    clock = time.perf_counter if full else time.process_time
    machine = (
        torch.cuda.get_device_name()
        if full
        else f"{platform.machine()}, {os.cpu_count()} cores, 1 thread"
    )
    published = ours | PUBLISHED
    cost(refiner, volume, ours, clock)  # not counted: first calls are slow
    few, evaluations = cost(refiner, volume, published | {"steps": STEPS}, clock)
    seconds, mine = cost(refiner, volume, ours, clock)
    steps = published["steps"]
    shape = " x ".join(map(str, volume.shape))
    note = f"{shape}, {ours['traversal']} {ours['sampler']} {ours['steps']}, background skipped"
    report("evaluations", "patches", evaluations * steps / STEPS, mine, machine, note)
    note += f"; baseline {few / evaluations:.3g} s per evaluation x its count"
    report("seconds", "s", few * steps / STEPS, seconds, machine, note)


if __name__ == "__main__":
    main()
