"""What sampling a volume costs at the papers' size; prints one JSON object a line.

    python benchmarks/sampling.py [PRESET ...]

Each way of sampling makes one volume of a preset's grid with its LDM and autoencoder, decoding
included; the time does not depend on the weights, which are random. Brain LDM's paper gives
142.3 s for 1,000 DDPM steps and 7.6 s for 50 DDIM steps. Needs a GPU for the paper presets.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch  # noqa: E402
from training import PAPERS, config  # noqa: E402

from realdeal.generators import generator_for  # noqa: E402
from realdeal.networks.autoencoder import BLOCK  # noqa: E402
from realdeal.networks.checkpoint import (  # noqa: E402
    build_autoencoder,
    build_latent_unet,
    save_model,
)
from realdeal.sampling import Generator  # noqa: E402
from realdeal.study import Study  # noqa: E402

WAYS = ({"sampler": "ddpm", "steps": 1000}, {"sampler": "ddim", "steps": 50})  # baseline, value


def random_models(study, settings):
    """Write an autoencoder and an LDM with random weights, as `settings` (a config) has them."""
    network = settings["autoencoder"]["network"]
    save_model(study.model("autoencoder"), "autoencoder", build_autoencoder(network), network)
    ldm = settings["ldm"]
    network = ldm["network"] | {"conditioning": ldm["conditioning"], "guess": None}
    shape = [network["latent_channels"], *(n // BLOCK for n in settings["preprocessing"]["shape"])]
    extra = {
        f"latent_{name}": torch.full((shape[0], 1, 1, 1), value)
        for name, value in {"mean": 0.5, "std": 0.2, "low": 0.0, "high": 1.0}.items()
    }
    about = {"config": ldm, "latent_shape": shape}
    save_model(study.model("ldm"), "ldm", build_latent_unet(network), network, extra, about)


def any_request(covariates):
    """The first level of each category, the lower end of each range."""
    return {c["name"]: c["levels"][0] if "levels" in c else c["range"][0] for c in covariates}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=PAPERS)
    gpu = torch.cuda.is_available()
    machine = (
        torch.cuda.get_device_name()
        if gpu
        else f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    for preset in parser.parse_args().presets:
        settings = config(f"{preset}.yaml")
        with tempfile.TemporaryDirectory() as folder:
            study = Study(Path(folder))
            torch.manual_seed(0)
            random_models(study, settings)
            generator = Generator(study)
        asked = [any_request(generator.covariates)]

        def seconds(way, precision, generator=generator, asked=asked):
            """Of one volume, with its sampler and precision."""
            noises = [generator_for(0, "benchmark")]
            settings = {"spacing": "uniform", "guidance": 1} | way
            low = precision == "bfloat16"
            began = time.perf_counter()
            with torch.autocast("cuda", torch.bfloat16) if low else nullcontext():
                generator.sample(noises, settings, asked)
            return time.perf_counter() - began

        for precision in ("float32", "bfloat16") if gpu else ("float32",):
            seconds({"sampler": "ddim", "steps": 2}, precision)  # not counted: first calls are slow
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            baseline, value = (seconds(way, precision) for way in WAYS)
            line = {
                "name": "sample",
                "note": f"{preset}, {' x '.join(map(str, settings['preprocessing']['shape']))}",
                "precision": precision,
                "value": value,
                "baseline_value": baseline,
                "unit": "s",
                "ratio": baseline / value,
                "baseline": "1,000 DDPM steps; value: 50 DDIM steps",
                "machine": machine,
            }
            if gpu:
                line["peak_GiB"] = torch.cuda.max_memory_allocated() / 2**30
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
