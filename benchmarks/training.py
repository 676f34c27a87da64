"""What training costs: reading patches, a step, and memory at paper size; one JSON object a line.

    python benchmarks/training.py [patches] [step] [memory]

`patches` and `step` compare with the plain route: both volumes of a sample are loaded from .nii.gz
for every patch, float32, eager. `memory` counts, on torch's meta device, what a training step of
the paper's networks holds and computes; on a machine with a GPU it measures instead.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from snakemake.utils import update_config  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from realdeal.data.volumes import save_volume, store  # noqa: E402
from realdeal.diffusion.schedules import make_schedule  # noqa: E402
from realdeal.networks.autoencoder import BLOCK  # noqa: E402
from realdeal.networks.checkpoint import (  # noqa: E402
    build_autoencoder,
    build_latent_unet,
    build_refiner,
)
from realdeal.training.patches import PatchReader  # noqa: E402
from realdeal.training.refiner import masked_loss  # noqa: E402

MACHINE = f"{platform.machine()}, {os.cpu_count()} cores"
SHAPE = (224, 288, 224)
PAPERS = ("realdeal-paper", "brain-ldm-paper", "conditional-mri-paper")


def seconds_of(function, repeats, clock=time.perf_counter):
    """Median seconds, after a first call that is not counted."""
    function()
    found = []
    for _ in range(repeats):
        start = clock()
        function()
        found.append(clock() - start)
    return statistics.median(found)


def report(**content):
    print(json.dumps(content | {"machine": MACHINE}), flush=True)


def config(preset=None):
    """The demo's configuration, or a preset's."""
    found = yaml.safe_load((ROOT / "config.yaml").read_text())
    if preset:
        update_config(found, yaml.safe_load((ROOT / "presets" / preset).read_text()))
    return found


def write_pair(folder, shape):
    """A volume and a coarse one, as stores and as .nii.gz."""
    rng = np.random.default_rng(0)
    for name in ("original", "coarse"):
        volume = rng.uniform(-1, 1, shape).astype(np.float32)
        volume[: shape[0] // 4] = -1
        store(folder / f"{name}.npy", volume)
        save_volume(folder / f"{name}.nii.gz", volume, np.eye(4))


def plain_patch(folder, size, rng):
    """The same place of both volumes, each loaded whole."""
    volumes = [
        nib.load(folder / f"{name}.nii.gz").get_fdata(dtype=np.float32)
        for name in ("original", "coarse")
    ]
    corner = [int(rng.integers(n - size + 1)) for n in volumes[0].shape]
    window = tuple(slice(c, c + size) for c in corner)
    return [torch.from_numpy(v[window].copy())[None, None] for v in volumes]


def patches():
    """Reading a pair of 64^3 patches, from volumes of two sizes."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    for shape in ((112, 144, 112), SHAPE):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            write_pair(folder, shape)
            reader = PatchReader([folder / "original.npy"], [folder / "coarse.npy"], size=64)
            ours = seconds_of(lambda: reader.draw(generator, 1), 50)  # noqa: B023
            plain = seconds_of(lambda: plain_patch(folder, 64, rng), 3)  # noqa: B023
        report(
            name="patch_read",
            max_difference=None,
            note=" x ".join(map(str, shape)) + ", a pair of 64^3 patches",
            value=1000 * ours,
            baseline_value=1000 * plain,
            unit="ms",
            ratio=plain / ours,
            baseline=".nii.gz, whole volumes",
        )


def step():
    """A training step of the demo's refiner, with the reading of its batch."""
    torch.set_num_threads(1)
    settings = config()["refiner"]
    size, count = settings["patch_size"], settings["training"]["batch_size"]
    schedule = make_schedule(settings["schedule"], "epsilon")
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)

    def run(network, original, coarse):
        noise = torch.randn(original.shape, generator=generator)
        t = torch.randint(1000, (count,), generator=generator)
        noisy = schedule.add_noise(original, noise, t)
        loss = masked_loss(network(noisy, t, coarse, noise), noise, torch.ones_like(noise))
        loss.backward()
        network.zero_grad(set_to_none=True)

    description = settings["network"] | {"schedule": settings["schedule"], "residual_std": 0.1}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_pair(folder, SHAPE)
        reader = PatchReader([folder / "original.npy"], [folder / "coarse.npy"], size=size)
        fast = build_refiner(description).to(memory_format=torch.channels_last_3d)
        eager = build_refiner(description)

        def ours():
            batch = reader.draw(generator, count)
            run(fast, *(b.contiguous(memory_format=torch.channels_last_3d) for b in batch))

        def plain():
            pairs = [plain_patch(folder, size, rng) for _ in range(count)]
            run(eager, *(torch.cat(volumes) for volumes in zip(*pairs, strict=True)))

        value, baseline = (seconds_of(function, 3, time.process_time) for function in (ours, plain))
    report(
        name="train_step",
        max_difference=None,
        value=value,
        baseline_value=baseline,
        unit="s",
        ratio=baseline / value,
        baseline=".nii.gz, eager, contiguous",
        note=f"refiner of the demo on volumes of {SHAPE}, batch of {count} patches of {size}^3, "
        "one thread, CPU time",
    )


class Saved:
    """Bytes of the tensors that a forward pass keeps for the backward pass."""

    def __init__(self):
        self.storages = {}

    def pack(self, tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            held = tensor.untyped_storage()
            self.storages[held._cdata] = held  # kept, so that its number is not used again
        return tensor

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda t: t)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)
        self.bytes = sum(held.nbytes() for held in self.storages.values())


def paper_networks():
    """(preset, network, builder, description, shapes of the inputs of a piece of a batch)."""
    for preset in PAPERS:
        paper = config(f"{preset}.yaml")
        shape = paper["preprocessing"]["shape"]

        def piece(name, paper=paper):
            training = paper[name]["training"]
            return training["batch_size"] // training["accumulation"]

        network = paper["autoencoder"]["network"]
        count = piece("autoencoder")
        yield preset, "autoencoder", build_autoencoder, network, [(count, 1, *shape)]
        network = paper["ldm"]["network"] | {"conditioning": paper["ldm"]["conditioning"]}
        count = piece("ldm")
        latents = (count, network["latent_channels"], *(n // BLOCK for n in shape))
        inputs = [latents, "t"]
        if network["conditioning"]:
            inputs.append((count, len(network["conditioning"]["covariates"])))
        yield preset, "ldm", build_latent_unet, network, inputs
        if preset == "realdeal-paper":  # the others take config.yaml's refiner
            network = paper["refiner"]["network"] | {
                "schedule": paper["refiner"]["schedule"],
                "residual_std": 0.1,
            }
            patch = (piece("refiner"), 1, *[paper["refiner"]["patch_size"]] * 3)
            yield preset, "refiner", build_refiner, network, [patch, "t", patch, patch]


def measured(network, inputs, autocast):
    """Peak GiB and samples a second of training steps on the GPU, laid out as training does."""
    layout = {"memory_format": torch.channels_last_3d}
    network = network.to(**layout)
    inputs = [x.contiguous(**layout) if x.ndim == 5 else x for x in inputs]
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def one():
        with autocast:
            output = network(*inputs)
        output.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        seconds = seconds_of(one, 5)
    except torch.cuda.OutOfMemoryError:
        return {"note": "does not fit"}
    return {
        "peak_GiB": torch.cuda.max_memory_allocated() / 2**30,
        "samples_per_second": len(inputs[0]) / seconds,
    }


def memory():
    """A training step of the paper presets' networks: parameters, FLOP and bytes.

    Of as many samples as the preset takes at once: its batch over its `accumulation`.
    """
    gpu = torch.cuda.is_available()
    device, card = ("cuda", torch.cuda.get_device_name()) if gpu else ("meta", None)
    for preset, name, build, description, shapes in paper_networks():
        for kind in (torch.float32, torch.bfloat16):
            with torch.device(device):
                network = build(description)
            samples = shapes[0][0]
            inputs = [
                torch.zeros(samples, dtype=torch.long, device=device)
                if shape == "t"
                else torch.zeros(shape, device=device)
                for shape in shapes
            ]
            weights = sum(p.numel() for p in network.parameters())
            found = {"name": "memory", "preset": preset, "network": name, "samples": samples}
            found |= {"precision": str(kind).removeprefix("torch."), "parameters": weights}
            # Weights, gradients and AdamW's two moments, each float32; averaged weights.
            states = 4 * weights * 5
            autocast = torch.autocast("cuda" if gpu else "cpu", kind, enabled=kind != torch.float32)
            if gpu:
                report(**found, **measured(network, inputs, autocast), device=card)
            else:
                # Autocast knows no meta device: all layers compute in the lower precision instead.
                network = network.to(kind)
                inputs = [x.to(kind) if x.is_floating_point() else x for x in inputs]
                with Saved() as saved, FlopCounterMode(display=False) as flops:
                    network(*inputs)
                each = saved.bytes / samples
                largest = {
                    f"{size} GB": max(0, int((0.9 * size * 1e9 - states) // each))
                    for size in (24, 40, 80)
                }
                report(
                    **found,
                    forward_TFLOP_per_sample=flops.get_total_flops() / samples / 1e12,
                    states_GB=states / 1e9,
                    activations_GB_per_sample=each / 1e9,
                    largest_batch=largest,
                    note="counted on the meta device, not measured; 10 % left free",
                )
            del network


BENCHMARKS = {f.__name__: f for f in (patches, step, memory)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default all")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}")
    for chosen in arguments.names or BENCHMARKS:
        BENCHMARKS[chosen]()
