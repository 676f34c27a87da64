"""Tables 1-6 of the paper, with intervals and gap closure."""

import numpy as np
import pandas as pd

from realdeal.errors import InputError
from realdeal.files import atomic_path, write_table
from realdeal.paper.items import DISTANCES, ROWS, SCORE_FILES, TABLES, Column, heading
from realdeal.paper.published import gap_closure
from realdeal.provenance import short_digest, stamp_line

COLUMNS = [
    *("table", "row", "metric", "region", "dim", "k", "value", "ci_low", "ci_high", "n"),
    *("published", "closure", "closure_low", "closure_high", "floor_closure"),
]
SCORE_COLUMNS = ["metric", "region", "dim", "k", "variant", "subject", "draw", "value"]
INTEGERS = {"table": "Int64", "dim": "Int64", "k": "Int64", "n": "Int64"}

# Formats of our values and of the paper's.
FORMATS = {
    "lpips": (".4f", ".3f"),
    "hog_3x3": (".3f", ".3f"),
    "hog_1x1": (".3f", ".3f"),
    "noise_kl": (".4f", "g"),
    "sharpness": (".4f", ".4f"),
    "seam": (".3f", ".3f"),
    "fid": (".2f", ".2f"),
    "coverage": (".3f", ".3f"),
    "density": (".3f", ".3f"),
}


def make_table(number, study, published, settings, seed, notes=(), subjects=None, stamp=None):
    """Write `study.table(number, "csv" | "md" | "tex")` and return the tidy table.

    published: a `Published`. settings: the configuration's `evaluation`. seed: of the bootstrap.
    notes: sentences for the footnote, e.g. that the data is a demo cohort. subjects: how many
    subjects stand behind the pooled scores, whose files do not tell it (None: left empty). stamp:
    what made it ({name: text}); the md and tex files carry it beside the digest of the csv.

    Columns are `COLUMNS`: a value with its 95 % percentile interval from a bootstrap over the n
    subjects, the paper's number, and on the RealDeal rows the gap closure (see `gap_closure`)
    with the interval of the same draws, every draw taking the same subjects for all variants.
    `floor_closure`, where a rescan exists, is the share of the way from the baseline to the
    distance between two scans of the same brain. InputError if a score file lacks a number.
    """
    layout = TABLES[number]
    scores = {name: read_scores(study.scores(name)) for name in layout.scores}
    rows = []
    for column in layout.columns:
        name = SCORE_FILES[column.metric]
        try:
            rows += _cells(layout, column, scores[name], settings["bootstrap"], seed, subjects)
        except LookupError as error:
            raise InputError(f"{study.scores(name)}: {error.args[0]}; make it again") from error
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table["table"] = number
    table["published"] = [
        published.value(number, row, column)
        for row, column in zip(table["row"], _columns(table), strict=True)
    ]
    table = table.astype(INTEGERS)
    footnotes = [*_footnotes(table, settings), *notes]
    write_table(study.table(number, "csv"), table)
    csv = study.table(number, "csv")
    for suffix, render, comment in (("md", markdown, "\n"), ("tex", latex, "% ")):
        text = render(table, layout.title, footnotes)
        if stamp:
            text += f"{comment}{stamp_line(stamp)}; {csv.name}: {short_digest(csv)}\n"
        with atomic_path(study.table(number, suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return table


def read_scores(path):
    """Read a tidy score file; InputError if it is missing or has other columns."""
    try:
        scores = pd.read_csv(path, dtype={"dim": "Int64", "k": "Int64", "draw": "Int64"})
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); make it again") from error
    if list(scores.columns) != SCORE_COLUMNS:
        raise InputError(f"{path}: must have the columns {','.join(SCORE_COLUMNS)}; make it again")
    return scores


def read_table(path):
    """Read a table's csv as `make_table` returned it."""
    try:
        return pd.read_csv(path, dtype=INTEGERS)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); make it again") from error


def resample(scores, variants, draws, seed):
    """Estimates and paired bootstrap draws of one column.

    scores: rows of one metric, region, dim and k. Returns the estimates (a Series by variant),
    the draws (draw x variant) and the number of subjects: counted for per-subject scores, None
    for pooled scores, which bring their draws with them. Subjects without a value in one of the
    variants (a region may be empty) are left out of all of them.
    """
    pooled = scores["subject"].isna().all()
    samples = scores.pivot(
        index="draw" if pooled else "subject", columns="variant", values="value"
    )[variants]
    if pooled:
        return samples.loc[0], samples.drop(index=0).dropna(), None
    samples = samples.dropna().sort_index()
    n = len(samples)
    chosen = np.random.default_rng(seed).integers(max(n, 1), size=(draws if n > 1 else 0, n))
    resampled = samples.to_numpy()[chosen].mean(axis=1)
    return samples.mean(), pd.DataFrame(resampled, columns=variants), n


def _cells(layout, column, scores, draws, seed, subjects):
    """The rows of the tidy table that belong to one column."""
    chosen = scores["metric"] == column.metric
    for key in ("region", "dim", "k"):
        if getattr(column, key) is not None:
            chosen &= (scores[key] == getattr(column, key)).fillna(False)
    scores = scores[chosen]
    present = set(scores["variant"])
    reference = "rescan" if column.metric in DISTANCES else "original"
    variants = [layout.baseline, layout.refined, *({reference} & present)]
    label = " ".join(
        f"{key}={value}" for key, value in column._asdict().items() if value is not None
    )
    required = {layout.baseline, layout.refined} | ({reference} - {"rescan"})
    if missing := required - present:
        raise LookupError(f"has no {label} of {' and '.join(sorted(missing))}")
    if scores.duplicated(["variant", "subject", "draw"]).any():
        raise LookupError(f"has {label} twice")
    try:
        estimate, resampled, n = resample(
            scores[scores["variant"].isin(variants)], variants, draws, seed
        )
    except KeyError as error:
        raise LookupError(f"has no draw 0 of {label}") from error
    if estimate.isna().any():
        raise LookupError(f"has no subject with {label} in every variant")

    def interval(values):
        values = np.asarray(values, dtype=float)
        values = values[np.isfinite(values)]
        return np.percentile(values, [2.5, 97.5]) if values.size else (np.nan, np.nan)

    cells = []
    for variant in variants:
        low, high = interval(resampled[variant])
        cells.append(
            {
                "row": ROWS[variant],
                **column._asdict(),
                "value": estimate[variant],
                "ci_low": low,
                "ci_high": high,
                "n": subjects if n is None else n,
            }
        )
    if column.metric != "seam":  # coarse volumes have no seams: there is no gap to close
        closures = [
            gap_closure(
                source[layout.baseline],
                source[layout.refined],
                0 if column.metric in DISTANCES else source["original"],
            )
            for source in (estimate, resampled)
        ]
        cells[1]["closure"] = float(closures[0])
        cells[1]["closure_low"], cells[1]["closure_high"] = interval(closures[1])
    if "rescan" in variants and estimate[layout.baseline] != estimate["rescan"]:
        baseline = estimate[layout.baseline]
        cells[1]["floor_closure"] = (baseline - estimate[layout.refined]) / (
            baseline - estimate["rescan"]
        )
    return cells


def _columns(table):
    """The Column of every row of a tidy table."""
    keys = table[list(Column._fields)]
    keys = keys.astype(object).where(keys.notna(), None)
    return [Column(*key) for key in keys.itertuples(index=False, name=None)]


def grid(table):
    """The wide form of a tidy table.

    Returns the columns (`Column`), the names of the rows in the paper's order, and the cells: a
    dict from (row, column) to the tidy row as a dict with None for what is empty.
    """
    plain = table.astype(object).where(table.notna(), None)
    columns = _columns(table)
    cells = {
        (cell["row"], column): cell
        for cell, column in zip(plain.to_dict("records"), columns, strict=True)
    }
    rows = [row for row in dict.fromkeys(ROWS.values()) if any(key[0] == row for key in cells)]
    return list(dict.fromkeys(columns)), rows, cells


def published_closure(cells, column):
    """The paper's closure of one column of a `grid`; None if it does not print the column."""
    values = {row: cell["published"] for (row, key), cell in cells.items() if key == column}
    baseline = values.get("Recon.", values.get("Synthetic"))
    ideal = 0 if column.metric in DISTANCES else values.get("Orig.")
    if None in (baseline, ideal, values["RealDeal"]):
        return None
    return float(gap_closure(baseline, values["RealDeal"], ideal))


def cell_texts(cell):
    """Value, interval and paper's number of a cell as text; empty where there is none."""
    if cell is None:
        return "", "", ""
    ours, paper = FORMATS[cell["metric"]]
    interval = ""
    if cell["ci_low"] is not None:
        interval = f"[{cell['ci_low']:{ours}}, {cell['ci_high']:{ours}}]"
    published = "" if cell["published"] is None else f"{cell['published']:{paper}}"
    return f"{cell['value']:{ours}}", interval, published


def percent(share):
    """A share as whole per cent, without a minus before zero."""
    return f"{round(100 * share)}%"


def closure_texts(cells, column):
    """Closure, interval and paper's closure of a column in per cent as text."""
    cell = cells["RealDeal", column]
    paper = published_closure(cells, column)
    published = "" if paper is None else percent(paper)
    if cell["closure"] is None:
        return "", "", published
    interval = ""
    if cell["closure_low"] is not None:
        interval = f"[{percent(cell['closure_low'])}, {percent(cell['closure_high'])}]"
    return percent(cell["closure"]), interval, published


def floor_text(cells, column):
    """Closure towards the distance between two scans of one brain, in per cent."""
    floor = cells["RealDeal", column]["floor_closure"]
    return "" if floor is None else percent(floor)


def _lines(table):
    """Rows of a wide table: a name and for each column (ours, interval, paper)."""
    columns, rows, cells = grid(table)
    for row in rows:
        yield row, [cell_texts(cells.get((row, column))) for column in columns]
    if table["closure"].notna().any():
        yield "Gap closure", [closure_texts(cells, column) for column in columns]
    if table["floor_closure"].notna().any():
        yield "To rescan floor", [(floor_text(cells, column), "", "") for column in columns]


def markdown(table, title, footnotes):
    """The wide table in Markdown, each cell `ours [95 % interval] (paper x)`."""
    columns, _, _ = grid(table)
    heads = [
        heading(column) + ("" if column.dim is None else f" dim{column.dim}") for column in columns
    ]
    lines = [
        f"**Table {table['table'].iloc[0]}.** {title}.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|:--" + "|--:" * len(columns) + "|",
    ]
    for name, texts in _lines(table):
        joined = (
            " ".join(
                part for part in (ours, interval, published and f"(paper {published})") if part
            )
            for ours, interval, published in texts
        )
        lines.append(f"| **{name}** | " + " | ".join(joined) + " |")
    return "\n".join([*lines, "", " ".join(footnotes), ""])


def latex(table, title, footnotes):
    """The wide table in LaTeX; needs the packages booktabs and graphicx."""
    columns, _, _ = grid(table)
    groups = {}
    for column in columns:
        groups.setdefault(heading(column), []).append(column)
    spans, rules, start = [], [], 2
    for label, members in groups.items():
        spans.append(rf"\multicolumn{{{len(members)}}}{{c}}{{{_escape(label)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + len(members) - 1}}}")
        start += len(members)
    body = [" & " + " & ".join(spans) + r" \\", " ".join(rules)]
    if any(column.dim is not None for column in columns):
        dims = ("" if column.dim is None else f"dim{column.dim}" for column in columns)
        body.append(" & " + " & ".join(dims) + r" \\")
    body.append(r"\midrule")
    for name, texts in _lines(table):
        if name == "Gap closure":
            body.append(r"\midrule")
        stacks = []
        for ours, interval, published in texts:
            small = [
                rf"{{\tiny {part}}}"
                for part in (interval, published and f"paper {published}")
                if part
            ]
            stacks.append(r"\shortstack{" + r"\\".join([ours, *small]) + "}" if ours else "")
        body.append(f"{name} & " + " & ".join(_escape(stack) for stack in stacks) + r" \\")
    number = table["table"].iloc[0]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(title)}. {_escape(' '.join(footnotes))}}}",
            rf"\label{{tab:realdeal-{number}}}",
            # Wide tables are shrunk to the page, narrow ones keep their size.
            r"\resizebox{\textwidth}{!}{%" if len(columns) > 4 else "{%",
            rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _escape(text):
    for plain, escaped in (
        ("%", r"\%"),
        ("_", r"\_"),
        ("#", r"\#"),
        ("↓", r"$\downarrow$"),
        ("↑", r"$\uparrow$"),
        ("×", r"$\times$"),
        ("|", r"\textbar{}"),
    ):
        text = text.replace(plain, escaped)
    return text


def _footnotes(table, settings):
    """What a reader must know to compare the numbers."""
    metrics = set(table["metric"])
    counts = sorted(set(table["n"].dropna().astype(int)))
    sentences = []
    if counts:
        sentences.append(f"n = {' and '.join(map(str, counts))} subjects.")
    sentences.append("Brackets: 95 % percentile interval of a bootstrap over subjects.")
    if metrics & {"lpips", "fid", "coverage", "density"}:
        side = settings["patch_size"]
        sentences.append(
            f"{settings['patches']} patches of {side} x {side} voxels per volume and dimension."
        )
    if metrics & {"fid", "coverage", "density"}:
        sentences.append(
            f"Feature extractor: {settings['distribution']['features']}; the paper does not name "
            "its own, so FID, coverage and density compare with it by gap closure only."
        )
    if "sharpness" in metrics:
        sentences.append(
            f"{settings['patches']} patches of {settings['patch_size']} voxels a side per volume, "
            f"after Gaussian smoothing with sigma {settings['sharpness']['sigma']} voxels."
        )
    if metrics & {"hog_3x3", "hog_1x1"}:
        sentences.append(
            "The paper gives no HOG parameters: its number stands beside both block sizes."
        )
    if "noise_kl" in metrics:
        sentences.append(f"Noise model of the denoiser: {settings['noise']['model']}.")
    sentences.append(
        "Gap closure: 1 - |RealDeal - ideal| / |baseline - ideal|, ideal = "
        + ("0." if metrics & set(DISTANCES) else "the value of the originals.")
    )
    return sentences
