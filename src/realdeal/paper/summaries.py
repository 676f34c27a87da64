"""What the tables and figures of the conditioned systems are made of."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from realdeal.data.participants import read_covariates
from realdeal.errors import InputError
from realdeal.files import atomic_path, read_json, write_table
from realdeal.provenance import short_digest, stamp_line

MEASURES = {
    "age": ("Age", "years", 1.0),
    "ventricular_volume": ("Ventricular volume", "ml", 1e-3),
    "brain_volume": ("Brain volume", "ml", 1e-3),
}


def label(name):
    """A covariate's name, unit and factor to that unit."""
    return MEASURES.get(name, (name.replace("_", " ").capitalize(), "", 1.0))


def fid(study):
    """{variant: (FID, low, high)}: mean over the dimensions, interval over subjects."""
    scores = pd.read_csv(study.scores("distribution"))
    scores = scores[scores["metric"] == "fid"].groupby(["variant", "draw"])["value"].mean()
    found = {}
    for variant, values in scores.groupby(level="variant"):
        values = values.droplevel("variant")
        interval = np.percentile(values[values.index > 0], [2.5, 97.5])
        found[variant] = (float(values[0]), *map(float, interval))
    return found


def diversity(study):
    """Rows of study.scores("diversity") in short: mean, sd and n by metric, variant, region."""
    scores = pd.read_csv(study.scores("diversity"))
    keys = ["metric", "variant", "region"]
    return scores.groupby(keys)["value"].agg(["mean", "std", "count"])


def likeness(study):
    """Rows of study.scores("novelty") in short: mean by variant."""
    return pd.read_csv(study.scores("novelty")).groupby("variant")["value"].mean()


def seconds(study):
    """{variant: mean seconds for a volume}."""
    times = pd.read_csv(study.scores("sampling_time")).groupby("variant")["seconds"]
    return {variant: float(values.mean()) for variant, values in times}


def asked_and_measured(study, facts, variant):
    """A row for each volume: name, asked.<covariate> and measured.<covariate>.

    variant: a set of synthetic volumes, synthetic-refined, or original: held-out scans, of which
    what is known stands for what is asked. InputError if a file is missing.
    """
    folder = variant if variant in ("original", "synthetic-refined") else "synthetic"
    if variant == "original":
        names = facts["test"]
        known = read_covariates(study, names)
    else:
        names = facts["sets"]["synthetic" if variant == "synthetic-refined" else variant]
        known = [read_json(study.asked(name)) for name in names]
    rows = []
    for name, asked in zip(names, known, strict=True):
        found = read_json(study.measured(folder, name))
        rows.append(
            {"name": name}
            | {f"asked.{key}": value for key, value in asked.items()}
            | {f"measured.{key}": value for key, value in found.items()}
        )
    return pd.DataFrame(rows)


def correlation(first, second, seed, draws=1000):
    """Pearson's r with its 95 % interval (bootstrap over volumes): (r, low, high)."""
    first, second = (np.asarray(v, dtype=float) for v in (first, second))
    if len(first) < 3:
        raise InputError(f"{len(first)} volumes: a correlation needs at least 3")
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        taken = rng.integers(len(first), size=(draws, len(first)))
        rs = [np.corrcoef(first[t], second[t])[0, 1] for t in taken]
        r = np.corrcoef(first, second)[0, 1]
    return (float(r), *(float(v) for v in np.nanpercentile(rs, [2.5, 97.5])))


def share(hits):
    """A share with its 95 % interval (Wilson): (share, low, high)."""
    n, p, z = len(hits), float(np.mean(hits)), 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    width = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return p, float(middle - width), float(middle + width)


def write_item(study, name, values, texts, facts, footnotes):
    """Write tables/<name>.csv (numbers) and .md, .tex (texts): two data frames.

    `facts` has the title and the stamp of what made it (realdeal.provenance).
    """
    csv, title = study.item(name, "csv"), facts["title"]
    write_table(csv, values)
    made = f"{stamp_line(facts['stamp'])}; {csv.name}: {short_digest(csv)}"
    header = [f"**{title}**", ""]
    columns = [str(column) for column in texts.columns]
    rows = [[str(cell) for cell in row] for row in texts.itertuples(index=False)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    notes = [""] + [f"{note}\n" for note in footnotes]
    with atomic_path(study.item(name, "md")) as temporary:
        temporary.write_text(
            "\n".join([*header, *lines, *notes, f"<!-- {made} -->", ""]), encoding="utf-8"
        )
    latex = texts.map(lambda cell: str(cell)).to_latex(index=False, escape=True, caption=title)
    latex += "".join(f"% {note}\n" for note in [*footnotes, made])
    with atomic_path(study.item(name, "tex")) as temporary:
        temporary.write_text(latex, encoding="utf-8")


def interval(value, low, high, digits=2):
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def save_figure(canvas, path, facts, dpi=170):
    """Write a figure as PNG with the stamp of what made it, and close it."""
    with atomic_path(path) as temporary:
        colour = canvas.get_facecolor()
        metadata = {"Software": None, **facts["stamp"]}
        canvas.savefig(temporary, dpi=dpi, facecolor=colour, metadata=metadata)
    plt.close(canvas)
