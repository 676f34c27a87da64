"""The metrics on anyone's volumes: a reference and candidates, files or folders of NIfTI.

The volumes are laid out as a study in a temporary folder and measured by the functions of
`realdeal.metrics.protocol`, so the numbers are those of the workflow to the last digit.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from realdeal.data.volumes import load_labels, load_volume, rescale, save_labels, save_volume
from realdeal.errors import InputError
from realdeal.metrics import protocol
from realdeal.metrics.noise import kl_divergence
from realdeal.progress import progress
from realdeal.study import Study

PAIRED = ("lpips", "hog", "noise", "psnr", "ssim", "ms_ssim", "4_g_r_ssim")
UNPAIRED = ("sharpness", "fid", "coverage", "density")
METRICS = (*PAIRED, *UNPAIRED)
DISTRIBUTION = ("fid", "coverage", "density")
HALVES = "other"  # the second half of the reference, under the names of the first
COLUMNS = ["metric", "region", "dim", "k", "candidate", "value", "ci_low", "ci_high", "n", "scale"]


def evaluate(
    reference,
    candidates,
    folder,
    *,
    metrics,
    settings,
    seed,
    weights,
    regions=None,
    intensity=None,
    grids=None,
):
    """Measure `candidates` against `reference`; a tidy data frame with the columns `COLUMNS`.

    reference: {name: path} of NIfTI volumes. candidates: {label: {name: path}}; those whose names
    are all in the reference are compared pair by pair, the others only by the metrics of whole
    sets. folder: an empty folder for working files. metrics: some of `METRICS`. settings: the
    configuration's `evaluation`. weights: the AlexNet file, or a function that gives it when it
    is needed. regions: {name: path} of label volumes
    (1 white matter, 2 grey matter, 3 ventricles, 4 cerebellum, 5 other brain); without them
    everything above -0.9 is brain, and `noise` cannot be measured. intensity: the two thresholds
    that become -1 and 1 (None: the volumes lie in [-1, 1]). grids: {label: (spacing, offsets)} of
    paired candidates that were made in patches, whose seams are to be measured, see
    `realdeal.metrics.seam.seam_score`.

    `value` has a 95 % interval from a bootstrap over the `n` volumes; `scale` is the same measure
    of one half of the reference against the other half: other scans of the same kind.
    InputError names the file that does not fit.
    """
    study = Study(folder)
    shapes = _lay_out(study, "original", reference, intensity, "reference")
    _lay_out_regions(study, reference, regions, shapes)
    paired = {}
    for label, files in candidates.items():
        paired[label] = set(files) <= set(reference)
        if not paired[label] and (shared := set(files) & set(reference)):
            alone = sorted(set(files) - shared)[0]
            raise InputError(
                f"{files[alone]}: no volume of this name in the reference, though others are "
                "there; remove it, or compare whole sets only (--unpaired)"
            )
        variant, names = _place(label, files, paired[label])
        found = _lay_out(study, variant, dict(zip(names, files.values(), strict=True)), intensity)
        for name in files if paired[label] else ():
            _check_pair(files[name], found[name], reference[name], shapes[name])
    if unmatched := [label for label in candidates if not paired[label]]:
        asked = [metric for metric in metrics if metric in PAIRED]
        if asked and len(unmatched) == len(candidates):
            raise InputError(
                f"{unmatched[0]}: its names are not those of the reference, which "
                f"{', '.join(asked)} need; name the files alike or leave these metrics out"
            )
    measure = _Measure(study, reference, candidates, paired, shapes, settings, seed, weights)
    protocol.draw_patches(study, list(reference), measure.alone(), settings, seed)
    tables = []
    for group in ("lpips", "hog", "noise", "sharpness"):
        if group in metrics:
            tables.append(getattr(measure, group)())
    if grids:
        tables.append(measure.seam(grids))
    if similarities := [m for m in ("psnr", "ssim", "ms_ssim", "4_g_r_ssim") if m in metrics]:
        tables.append(measure.similarity(similarities))
    if wanted := [metric for metric in DISTRIBUTION if metric in metrics]:
        table = measure.distribution()
        tables.append(table[table["metric"].isin(wanted)])
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _place(label, files, paired):
    """Variant and names of a candidate in the study; without partners unlike the reference's."""
    return (label, list(files)) if paired else ("synthetic", [f"{label}--{n}" for n in files])


def _write_part(source, target, chosen, by_subject):
    """Write the `chosen` subjects of an .npz file whose arrays `by_subject` have one row each."""
    with np.load(source) as arrays:
        parts = {k: v[chosen] if k in by_subject else v for k, v in arrays.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, **parts)


def _lay_out(study, variant, files, intensity, described="candidate"):
    """Copy volumes into the study; {name: (shape, affine)}."""
    found = {}
    for name, path in progress(files.items(), description=f"reading {described}", unit="volume"):
        volume = load_volume(path)
        data = volume.data if intensity is None else rescale(volume.data, *intensity)
        if intensity is None and (data.min() < -1.001 or data.max() > 1.001):
            raise InputError(
                f"{path}: values reach from {data.min():g} to {data.max():g}, not within [-1, 1]; "
                "give the thresholds to rescale by (--intensity LOW HIGH)"
            )
        save_volume(study.volume(variant, name), np.clip(data, -1, 1), volume.affine)
        found[name] = (data.shape, volume.affine)
    return found


def _lay_out_regions(study, reference, regions, shapes):
    for name, path in reference.items():
        if regions is None:
            volume = load_volume(study.volume("original", name))
            labels, affine = (volume.data > protocol.FOREGROUND) * 5, volume.affine
            if not labels.any():
                raise InputError(f"{path}: nothing lies above -0.9; is its background -1?")
        elif name not in regions:
            raise InputError(f"{path}: has no labels of its name; add them or drop the scan")
        else:
            labels, affine = load_labels(regions[name])
            _check_pair(regions[name], (labels.shape, affine), path, shapes[name])
        save_labels(study.regions(name), labels, affine)


def _check_pair(path, found, reference_path, reference):
    if found[0] != reference[0]:
        raise InputError(
            f"{path}: shape {found[0]}, but {reference_path} has {reference[0]}; resample it"
        )
    if not np.allclose(found[1], reference[1], atol=1e-3):
        raise InputError(f"{path}: other affine than {reference_path}; resample it to that grid")


class _Measure:
    """The metrics on a study that has been laid out; each gives a table with `COLUMNS`."""

    def __init__(self, study, reference, candidates, paired, shapes, settings, seed, weights):
        self.study, self.settings, self.seed = study, settings, seed
        self.weights = weights
        self.reference, self.candidates, self.paired = list(reference), candidates, paired
        shuffled = np.random.default_rng(seed).permutation(sorted(reference))
        middle = len(shuffled) // 2
        self.first, self.second = list(shuffled[:middle]), list(shuffled[middle : 2 * middle])
        # The second half stands beside the first as one more candidate, where the grids agree.
        self.halves = [
            (a, b)
            for a, b in zip(self.first, self.second, strict=True)
            if shapes[a][0] == shapes[b][0]
        ]
        for a, b in self.halves:
            link = study.volume(HALVES, a)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(study.volume("original", b).resolve())

    def alone(self):
        """Names of the volumes without a partner in the reference."""
        return [
            name
            for label, files in self.candidates.items()
            if not self.paired[label]
            for name in _place(label, files, False)[1]
        ]

    def _matched(self):
        """Paired candidates and their subjects, the second half among them."""
        found = [(c, list(files)) for c, files in self.candidates.items() if self.paired[c]]
        if self.halves:
            found.append((HALVES, [a for a, _ in self.halves]))
        return found

    def _each(self, score):
        """Score tables of all paired candidates; those of the same subjects go together."""
        together = {}
        for candidate, subjects in self._matched():
            together.setdefault(tuple(subjects), []).append(candidate)
        return pd.concat([score(found, list(s)) for s, found in together.items()])

    def _weights(self):
        return self.weights() if callable(self.weights) else self.weights

    def lpips(self):
        weights = self._weights()
        return self._summary(
            self._each(lambda v, s: protocol.score_lpips(self.study, v, s, self.settings, weights))
        )

    def hog(self):
        return self._summary(
            self._each(lambda v, s: protocol.score_hog(self.study, v, s, self.settings))
        )

    def noise(self):
        study, settings = self.study, self.settings
        # The reference is denoised once; each candidate is compared with its part of it.
        protocol.extract_noise(study, "original", self.reference, settings)
        whole = study.noise("original").rename(study.noise("whole"))
        tables = []
        for candidate, subjects in self._matched():
            if candidate == HALVES:
                continue
            protocol.extract_noise(study, candidate, subjects, settings)
            chosen = [self.reference.index(subject) for subject in subjects]
            by_subject = ("counts", "sigma", "subjects")
            _write_part(whole, study.noise("original"), chosen, by_subject)
            tables.append(protocol.score_noise(study, [candidate], subjects, settings, self.seed))
        table = self._summary(pd.concat(tables))
        if self.second:
            with np.load(whole) as arrays:
                half = np.isin(arrays["subjects"], self.first)
                counts = arrays["counts"]
                regions = [str(region) for region in arrays["regions"]]
            for i, region in enumerate(regions):
                table.loc[table["region"] == region, "scale"] = kl_divergence(
                    counts[half, i].sum(0),
                    counts[~half, i].sum(0),
                    settings["noise"]["pseudocount"],
                )
        return table

    def sharpness(self):
        tables = [protocol.score_sharpness(self.study, ["original"], self.reference, self.settings)]
        for label, files in self.candidates.items():
            variant, names = _place(label, files, self.paired[label])
            table = protocol.score_sharpness(self.study, [variant], names, self.settings)
            tables.append(table.assign(variant=label))
        return self._summary(pd.concat(tables), scale="original")

    def seam(self, grids):
        tables = []
        for candidate, subjects in self._matched():
            if candidate in grids:
                variants = ["original", candidate]
                table = protocol.score_seam(self.study, variants, subjects, *grids[candidate])
                tables.append(self._summary(table, scale="original"))
        return pd.concat(tables)

    def similarity(self, metrics):
        from realdeal.metrics import diversity  # torch: seconds

        functions = {
            "psnr": diversity.psnr,
            "ssim": diversity.ssim,
            "ms_ssim": diversity.ms_ssim,
            "4_g_r_ssim": diversity.four_g_r_ssim,
        }
        rows = []
        for candidate, subjects in self._matched():
            for subject in progress(subjects, description="similarity", unit="volume"):
                first = load_volume(self.study.volume("original", subject)).data
                second = load_volume(self.study.volume(candidate, subject)).data
                rows += [
                    {"metric": m, "variant": candidate, "subject": subject, "value": value}
                    for m in metrics
                    for value in [functions[m](first, second)]
                ]
        return self._summary(pd.DataFrame(rows).reindex(columns=protocol.COLUMNS))

    def distribution(self):
        study, settings = self.study, self.settings
        weights = self._weights()
        protocol.extract_features(study, "original", self.reference, settings, weights)
        for label, files in self.candidates.items():
            variant, names = _place(label, files, self.paired[label])
            protocol.extract_features(study, variant, names, settings, weights, name=label)
        table = protocol.score_distribution(
            study, list(self.candidates), settings, self.seed, others=False
        )
        if self.second:
            halves = Study(self.study.root / "halves")
            half = np.isin(self.reference, self.first)
            by_subject = ("dim0", "dim1", "dim2", "subjects")
            for name, chosen in (("original", half), ("original-others", ~half)):
                _write_part(study.features("original"), halves.features(name), chosen, by_subject)
            # Half as many patches may be too few for the larger neighbourhoods.
            options = settings["distribution"]
            fewest = min(half.sum(), (~half).sum()) * settings["patches"]
            options = options | {"neighbours": [k for k in options["neighbours"] if k < fewest]}
            once = settings | {"bootstrap": 0, "distribution": options}
            scale = protocol.score_distribution(halves, [], once, self.seed)
            table = pd.concat([table, scale.assign(variant=HALVES)])
        return self._summary(table)

    def _summary(self, scores, scale=HALVES):
        """One row for each metric, region, dimension, k and candidate."""
        from realdeal.paper.tables import resample

        keys = ["metric", "region", "dim", "k"]
        rows = []
        for key, cell in scores.groupby(keys, dropna=False, sort=False):
            values = dict(zip(keys, key, strict=True))
            beside = np.nan
            if (other := cell[cell["variant"] == scale]).size:
                drawn = other["draw"].notna().any()
                beside = (other[other["draw"] == 0] if drawn else other)["value"].mean()
            for candidate, found in cell.groupby("variant", sort=False):
                if candidate == scale:
                    continue
                estimate, draws, n = resample(
                    found, [candidate], self.settings["bootstrap"], self.seed
                )
                low, high = (np.nan, np.nan)
                if len(draws) > 1:
                    low, high = np.percentile(draws[candidate], [2.5, 97.5])
                rows.append(
                    values
                    | {
                        "candidate": candidate,
                        "value": estimate[candidate],
                        "ci_low": low,
                        "ci_high": high,
                        "n": len(self.candidates[candidate]) if n is None else n,
                        "scale": beside,
                    }
                )
        return pd.DataFrame(rows, columns=COLUMNS)


def readable(table):
    """The table for people: a line for each measure, a column for each candidate."""
    lines = []
    for key, cell in table.groupby(["metric", "region", "dim", "k"], dropna=False, sort=False):
        metric, region, dim, k = key
        name = " ".join(
            [metric]
            + ([str(region)] if pd.notna(region) else [])
            + ([f"dim{int(dim)}"] if pd.notna(dim) else [])
            + ([f"k={int(k)}"] if pd.notna(k) else [])
        )
        line = {"measure": name}
        for row in cell.itertuples():
            interval = f" [{row.ci_low:.4g}, {row.ci_high:.4g}]" if np.isfinite(row.ci_low) else ""
            line[f"{Path(row.candidate).name} (n={row.n})"] = f"{row.value:.4g}{interval}"
        scale = cell["scale"].iloc[0]
        line["reference itself"] = f"{scale:.4g}" if np.isfinite(scale) else "-"
        lines.append(line)
    return pd.DataFrame(lines).fillna("-").to_string(index=False, justify="left")
