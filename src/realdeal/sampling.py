"""Synthetic volumes from the latent diffusion model."""

import time

import pandas as pd
import torch

from realdeal.data.participants import read_covariates
from realdeal.data.volumes import load_volume, save_volume
from realdeal.device import choose_device
from realdeal.diffusion.conditioning import encode, extrapolated
from realdeal.diffusion.schedules import ETA, denoise, make_schedule
from realdeal.errors import InputError
from realdeal.files import write_json, write_table
from realdeal.generators import generator_for
from realdeal.networks.checkpoint import load_model
from realdeal.progress import progress

SPREAD = 0.05  # of a continuous covariate's range: how far a request strays from its subject


class Generator:
    """An LDM with its autoencoder; `covariates` is what it must be told (empty: nothing)."""

    def __init__(self, study, model="ldm"):
        self.device = choose_device()
        self.network, description, extra = load_model(study.model(model), "ldm", self.device)
        self.autoencoder, _, _ = load_model(study.model("autoencoder"), "autoencoder", self.device)
        config = description["config"]
        self.schedule = make_schedule(config["schedule"], config["prediction"])
        self.shape = description["latent_shape"]
        conditioning = description["network"].get("conditioning") or {}
        self.covariates = conditioning.get("covariates", [])
        self.dropout = conditioning.get("dropout", 0)
        self.trained = description.get("trained")
        self.statistics = {
            name: extra[f"latent_{name}"].to(self.device) for name in ("mean", "std", "low", "high")
        }

    @torch.no_grad()
    def sample(self, generators, settings, asked=()):
        """Volumes (N, X, Y, Z) in [-1, 1], one for each CPU generator.

        `settings` is the config's `sampling.ldm` (sampler, steps, spacing, guidance); `asked` has
        a dict of covariates for each volume. With guidance w the prediction is that without
        covariates plus w times the difference that they make (Ho and Salimans 2022).
        """
        guidance = settings["guidance"]
        told = guided = None
        if self.covariates:
            told = encode(asked, self.covariates).to(self.device)
            guided = guidance != 1
            if guided and not self.dropout:
                raise InputError(
                    f"sampling.ldm.guidance: {guidance:g} needs an LDM that was also trained "
                    "without covariates; set ldm.conditioning.dropout, or guidance to 1"
                )

        def noise():
            drawn = [torch.randn(self.shape, generator=generator) for generator in generators]
            return torch.stack(drawn).to(self.device)

        def predict(z, t):
            times = torch.full((len(z),), t, device=self.device)
            if not guided:
                return self.network(z, times, told)
            both = torch.arange(2 * len(z), device=self.device) < len(z)
            with_, without = self.network(
                z.repeat(2, 1, 1, 1, 1), times.repeat(2), told.repeat(2, 1), both
            ).chunk(2)
            return without + guidance * (with_ - without)

        latents = denoise(
            predict,
            noise(),
            self.schedule,
            settings["steps"],
            eta=ETA[settings["sampler"]],
            spacing=settings["spacing"],
            noise=noise,
        )
        mean, std, low, high = self.statistics.values()
        # Outside the latents that it has seen the decoder was never trained.
        latents = (latents * std + mean).clamp(low, high)
        return [self.autoencoder.decode(z[None])[0, 0].float().cpu().numpy() for z in latents]


def sample(study, names, settings, seed, like, model="ldm", asked=None, asked_of=()):
    """Sample one synthetic volume for each name and write it as study.volume("synthetic", name).

    `settings` is the config's `sampling.ldm`, `batch_size` volumes at once. Each volume's noise
    depends on the seed and its number alone, so it does not matter which job makes it, and sets
    that are sampled in several ways start from the same noise. `like` is a
    volume whose affine the synthetic ones take. A conditioned LDM is asked for the covariates
    asked[name], or else for such as `draw_covariates` draws near those of the training subjects
    `asked_of`. They are written beside the volume as <name>.json, with the names of those that
    are `extrapolated`.
    """
    generator = Generator(study, model)
    affine = load_volume(like).affine
    requests = {name: asked[name] for name in names if asked and name in asked}
    if generator.covariates and (drawn := [name for name in names if name not in requests]):
        known = read_covariates(study, sorted(asked_of))
        for name in drawn:
            requests[name] = draw_covariates(known, generator.covariates, seed, name)
    size = settings["batch_size"]
    batches = [names[i : i + size] for i in range(0, len(names), size)]
    for batch in progress(batches, description="sampling", unit=f"batch of {size}"):
        told = [requests.get(name, {}) | {"participant_id": name} for name in batch]
        noises = [generator_for(seed, "synthetic", twin(name)) for name in batch]
        for name, volume in zip(batch, generator.sample(noises, settings, told), strict=True):
            if name in requests:
                about = dict(requests[name])
                if generator.covariates:
                    about["extrapolated"] = extrapolated(about, generator.trained)
                write_json(study.asked(name), about)
            save_volume(study.volume("synthetic", name), volume, affine)


def twin(name):
    """The volume of the same number in the set `synthetic`."""
    return f"synthetic-{name.rsplit('-', 1)[-1]}"


def draw_covariates(rows, covariates, seed, name):
    """Covariates for the synthetic volume `name`: near those of one of the `rows`.

    So they go together as in the cohort, but are nobody's: continuous ones stray by a normal
    deviate of `SPREAD` of the cohort's range, and stay within it. The draw depends on the order
    of the rows, a dict for each subject.
    """
    draws = generator_for(seed, "covariates", twin(name))
    row = rows[int(torch.randint(len(rows), (), generator=draws))]
    asked = {}
    for covariate in covariates:
        key = covariate["name"]
        asked[key] = row[key]
        if "levels" not in covariate and row[key] is not None:
            values = [float(r[key]) for r in rows if r[key] is not None]
            low, high = min(values), max(values)
            stray = SPREAD * (high - low) * float(torch.randn((), generator=draws))
            asked[key] = round(min(max(float(row[key]) + stray, low), high), 3)
    return asked


def measure_time(study, ways, volumes, seed, asked_of):
    """Seconds that each way of sampling takes for one volume: study.scores("sampling_time").

    `ways` maps names to settings as in `sample`. The ways take turns, `volumes` times, one
    volume at a time, decoding included.
    """
    generator = Generator(study)
    known = read_covariates(study, sorted(asked_of)) if generator.covariates else []
    rows = []
    for i in progress(range(volumes), description="timing", unit="round"):
        asked = []
        if generator.covariates:
            asked = [draw_covariates(known, generator.covariates, seed, f"time-{i}")]
        for way, settings in ways.items():
            noises = [generator_for(seed, "time", way, i)]
            began = time.perf_counter()
            generator.sample(noises, settings, asked)
            rows.append({"variant": way, "volume": i, "seconds": time.perf_counter() - began})
    write_table(study.scores("sampling_time"), pd.DataFrame(rows))
