"""The refinement study: speed and quality of ways of refining, as table and figure."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from realdeal.data.volumes import load_volume
from realdeal.errors import InputError
from realdeal.files import atomic_path, read_json, write_table
from realdeal.provenance import digest_line, short_digest, stamp_line
from realdeal.study import Study, way_name

METRICS = {  # of `realdeal.metrics.evaluate`: heading, and whether less (-1) or more is better
    ("lpips", None): ("LPIPS", -1),
    ("hog_3x3", "brain"): ("HOG 3x3", -1),
    ("hog_1x1", "brain"): ("HOG 1x1", -1),
    ("noise_kl", "white-matter"): ("Noise KL, white matter", -1),
    ("noise_kl", "ventricles"): ("Noise KL, ventricles", -1),
    ("sharpness", None): ("Sharpness", 1),
    ("fid", None): ("FID", -1),
    ("seam", None): ("Seam score", -1),
}


def compare_ways(study, subjects, ways, settings, seed, weights, patch_size, stride, stamp=None):
    """Measure all `ways`, the first being the one that others are judged by.

    `settings` is the config's `evaluation`, `patch_size` and `stride` are the refiner's, `stamp`
    says what made it ({name: text}). Writes scores.csv, study.md and study.png in study.way();
    returns the table: for each way and measure the value, its interval, and whether it is within
    the first way's interval or better (`holds`).
    """
    from realdeal.metrics.evaluate import evaluate
    from realdeal.refinement.grid import patch_grid

    names = ["reconstructed", *map(way_name, ways)]
    files = {
        name: {
            s: study.volume(name, s) if name == names[0] else study.way(name) / f"{s}.nii.gz"
            for s in subjects
        }
        for name in names
    }
    shape = load_volume(study.volume("original", subjects[0])).data.shape
    grids = {way_name(way): patch_grid(way, shape, patch_size, stride) for way in ways}
    grids[names[0]] = grids[names[1]]
    with tempfile.TemporaryDirectory(prefix="realdeal-") as folder:
        measured = evaluate(
            {s: study.volume("original", s) for s in subjects},
            files,
            folder,
            metrics=["lpips", "hog", "noise", "sharpness", "fid"],
            settings=settings,
            seed=seed,
            weights=weights,
            regions={s: study.regions(s) for s in subjects},
            grids=grids,
        )
    table = pd.concat([_rows(measured, key, names) for key in METRICS], ignore_index=True)
    costs = {way_name(way): read_json(study.way(way_name(way)) / "cost.json") for way in ways}
    for column in ("evaluations", "seconds", "evaluations_paper_grid"):
        table[column] = [costs.get(name, {}).get(column, np.nan) for name in table["way"]]
    scores = study.way() / "scores.csv"
    write_table(scores, table)
    text = markdown(table)
    if stamp:
        text += f"\n{stamp_line(stamp)}; {scores.name}: {short_digest(scores)}\n"
    with atomic_path(study.way() / "study.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    draw(table, study.way() / "study.png", stamp)
    return table


def _rows(measured, key, names):
    """One measure of all ways; dimensions are averaged, intervals too."""
    metric, region = key
    chosen = measured[measured["metric"] == metric]
    if region is not None:
        chosen = chosen[chosen["region"] == region]
    columns = ["value", "ci_low", "ci_high", "scale"]
    found = chosen.groupby("candidate")[columns].mean().reindex(names)
    heading, direction = METRICS[key]
    best = found.iloc[1]  # the first way
    if direction < 0:
        holds = found["value"] <= best["ci_high"]
    else:
        holds = found["value"] >= best["ci_low"]
    return found.assign(measure=heading, holds=holds).rename_axis("way").reset_index()


def markdown(table):
    """The table for people: a line for each way, values that do not hold in italics."""
    headings = list(dict.fromkeys(table["measure"]))
    first = table["evaluations"].dropna().iloc[0]
    slowest = table["seconds"].dropna().iloc[0]
    lines = [
        "| way | evaluations | fewer | at 224 x 288 x 224 | seconds | faster | "
        + " | ".join(headings)
        + " |",
        "|:--|" + "--:|" * (5 + len(headings)),
    ]
    for way, rows in table.groupby("way", sort=False):
        row = rows.iloc[0]
        cost = ["-"] * 5
        if np.isfinite(row["evaluations"]):
            cost = [
                f"{row['evaluations']:,.0f}",
                f"{first / row['evaluations']:,.0f}x" if row["evaluations"] else "-",
                f"{row['evaluations_paper_grid']:,.0f}",
                f"{row['seconds']:.1f}",
                f"{slowest / row['seconds']:,.0f}x",
            ]
        cells = []
        for heading in headings:
            cell = rows[rows["measure"] == heading].iloc[0]
            text = f"{cell['value']:.3g} [{cell['ci_low']:.3g}, {cell['ci_high']:.3g}]"
            cells.append(text if cell["holds"] else f"*{text}*")
        lines.append("| " + " | ".join([way, *cost, *cells]) + " |")
    scale = [f"{table[table['measure'] == heading]['scale'].iloc[0]:.3g}" for heading in headings]
    lines.append("| " + " | ".join(["reference itself", *["-"] * 5, *scale]) + " |")
    return "\n".join([*lines, ""])


def over_seeds(roots, target):
    """Gather the refinement studies of several seeds (one root folder each) as Markdown.

    A line for each way, a cell for each measure: its mean over the seeds, and in how many of them
    it is within the first way's interval or better. InputError if a study has not been made.
    """
    tables, files = [], {}
    for root in roots:
        path = Study(root).way() / "scores.csv"
        if not path.exists():
            raise InputError(f"{path}: is not there; run snakemake refinement_study first")
        tables.append(pd.read_csv(path))
        files[f"{Path(root).name}/{path.relative_to(root)}"] = path
    table = pd.concat(tables)
    headings = list(dict.fromkeys(table["measure"]))
    lines = [
        "| way | seeds | at 224 x 288 x 224 | " + " | ".join(headings) + " |",
        "|:--|" + "--:|" * (2 + len(headings)),
    ]
    for way, rows in table.groupby("way", sort=False):
        cells = []
        for heading in headings:
            found = rows[rows["measure"] == heading]
            cells.append(f"{found['value'].mean():.3g} ({found['holds'].sum()}/{len(found)})")
        count = rows["evaluations_paper_grid"].iloc[0]
        count = f"{count:,.0f}" if np.isfinite(count) else "-"
        lines.append("| " + " | ".join([way, f"{len(found)}", count, *cells]) + " |")
    scale = [f"{table[table['measure'] == heading]['scale'].mean():.3g}" for heading in headings]
    lines.append("| " + " | ".join(["reference itself", f"{len(roots)}", "-", *scale]) + " |")
    text = "\n".join([*lines, "", digest_line(files), ""])
    with atomic_path(Path(target)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def draw(table, path, stamp=None):
    """Each measure over the network evaluations, a line for each traversal and sampler."""
    import matplotlib.pyplot as plt

    headings = list(dict.fromkeys(table["measure"]))
    figure, axes = plt.subplots(2, -(-len(headings) // 2), figsize=(13, 6), layout="constrained")
    ways = table[table["evaluations"] > 0]
    kinds = ways["way"].str.rsplit("-", n=1).str[0]
    for axis, heading in zip(axes.flat, headings, strict=False):
        cells = ways[ways["measure"] == heading]
        first = cells.iloc[0]
        axis.axhspan(first["ci_low"], first["ci_high"], color="0.9", label="first way's interval")
        for kind, rows in cells.groupby(kinds, sort=False):
            rows = rows.sort_values("evaluations")
            spread = [rows["value"] - rows["ci_low"], rows["ci_high"] - rows["value"]]
            axis.errorbar(
                rows["evaluations"],
                rows["value"],
                np.maximum(spread, 0),
                marker="o",
                ms=4,
                lw=1.2,
                capsize=2,
                label=kind,
            )
        unrefined = table[(table["way"] == "reconstructed") & (table["measure"] == heading)]
        axis.axhline(unrefined["value"].iloc[0], color="0.5", ls=":", label="not refined")
        axis.set(title=heading, xscale="log")
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("network evaluations per volume")
    axes.flat[0].legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata=stamp)
    plt.close(figure)
