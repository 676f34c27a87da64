"""The report: one HTML file with everything inside, to be opened offline."""

import base64
import io
import os
import platform
import re
import tempfile
from datetime import date
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined
from PIL import Image

import realdeal
from realdeal.errors import InputError
from realdeal.files import atomic_path, read_json
from realdeal.paper.figures import metric_overview, training_curves
from realdeal.paper.items import FIGURES, NETWORKS, TABLES, heading
from realdeal.paper.tables import (
    cell_texts,
    closure_texts,
    floor_text,
    grid,
    percent,
    published_closure,
    read_table,
)
from realdeal.provenance import stamp
from realdeal.systems import ITEMS, REALDEAL

SHOWN = 12  # subjects whose quality control the report pictures, outliers first
WIDTH = 1800  # pixels: wider pictures are reduced for the report, the PNG files are not

METRICS = {
    "lpips": "LPIPS",
    "hog_3x3": "HOG, 3×3 blocks",
    "hog_1x1": "HOG, 1×1 blocks",
    "noise_kl": "Noise KL",
    "sharpness": "Sharpness",
    "fid": "FID",
    "coverage": "Coverage",
    "density": "Density",
}

UNITS = {"age": " (years)", "ventricular_volume": " (mm³)", "brain_volume": " (mm³)"}

# What the paper leaves open, what it says, and the key of the configuration that decides.
CHOICES = (
    (
        "Intensity thresholds mapped to [-1, 1]",
        "“predefined”, not given",
        "preprocessing.intensity",
    ),
    ("HOG orientations", "not given", "evaluation.hog.orientations"),
    ("HOG pixels per cell", "not given", "evaluation.hog.pixels_per_cell"),
    ("Noise model of the denoiser", "“ANTs”, model not given", "evaluation.noise.model"),
    ("Noise histogram bins", "not given", "evaluation.noise.bins"),
    ("Noise histogram range", "not given", "evaluation.noise.range"),
    ("Noise histogram pseudocount", "not given", "evaluation.noise.pseudocount"),
    ("Features for FID, coverage, density", "not given", "evaluation.distribution.features"),
    ("Patch size (voxels)", "64", "evaluation.patch_size"),
    ("Patches per volume and dimension", "1,000", "evaluation.patches"),
    ("Noise schedule", "text: linear; supplement: scaled linear", "refiner.schedule.kind"),
    ("Refiner's parameterisation", "noise prediction", "refiner.network.parameterisation"),
    ("Refiner's traversal", "from the centre outwards", "sampling.refiner.traversal"),
    ("Refiner's sampler", "1,000 time steps, sampler not named", "sampling.refiner.sampler"),
    ("Refiner's sampling steps", "1,000", "sampling.refiner.steps"),
    ("LDM's sampler", "1,000 time steps, sampler not named", "sampling.ldm.sampler"),
    ("LDM's sampling steps", "1,000", "sampling.ldm.steps"),
)


def write_report(study, config, facts, path):
    """Write the report of a study as one self-contained HTML file.

    study: a `Study` with the tables and figures of its system, and what there is of
    `figures/{banner,cohort,realism}.png`, the participants table, quality control, training
    curves, descriptions of the models and Snakemake's `benchmarks` folder. config: the resolved
    configuration. facts: what else to say of the run: name to text, number, or list of names
    (which is counted); `networks` are the names of the trained ones (else RealDeal's three),
    `notes` is a list of sentences for the tables, `left_out` maps subjects that were listed but
    could not be used to what they lack. InputError if a table or figure is missing.
    """
    facts = dict(facts)
    networks = facts.pop("networks", NETWORKS)
    system = config["system"]
    items = ITEMS[system]
    tables = {}
    if system == REALDEAL:
        tables = {number: read_table(study.table(number)) for number in TABLES}
    folder = study.root / "figures"
    pictures = dict.fromkeys(("banner", "cohort", "realism", "training"))
    with tempfile.TemporaryDirectory() as temporary:
        overview = Path(temporary) / "overview.png"
        if tables:
            metric_overview(study, overview)
            pictures["overview"] = _embed(overview)
        if any(study.history(name).exists() for name in networks):
            curves = Path(temporary) / "training.png"
            training_curves(study, curves, networks)
            pictures["training"] = _embed(curves)
    for name in networks:
        pictures[name] = None
        if study.picture(name).exists():
            pictures[name] = _embed(study.picture(name))
    for name in ("banner", "cohort", "realism"):
        if (folder / f"{name}.png").exists():
            pictures[name] = _embed(folder / f"{name}.png")
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(files("realdeal.paper").joinpath("report.html.j2").read_text(encoding="utf-8"))
    html = template.render(
        percent=percent,
        study=config["study"],
        source=config["data"]["source"],
        features=config["evaluation"]["distribution"]["features"],
        config=config,
        date=date.today().isoformat(),
        headline=headline(tables),
        improved=improvement(tables),
        cohort=cohort(study.participants),
        quality=quality(study),
        pictures=pictures,
        system=system,
        networks=networks,
        item_tables=[(name, title, *_item(study, name)) for name, title in items["tables"].items()],
        item_figures=[
            (name, title, _embed(study.item(name))) for name, title in items["figures"].items()
        ],
        figures=[
            (n, figure.title, _embed(study.figure(n))) for n, figure in FIGURES.items() if tables
        ],
        tables=[_table(number, table) for number, table in tables.items()],
        choices=[
            (label, paper, _setting(config, key), key)
            for label, paper, key in CHOICES
            if _setting(config, key) is not None
        ],
        models=models(study, networks),
        durations=durations(study.root / "benchmarks"),
        notes=facts.pop("notes", []),
        left_out=facts.pop("left_out", {}),
        facts=run_facts(facts, config) | origin(study),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def headline(tables):
    """Mean gap closure over all cells of a metric: (name, ours, the paper's) per metric.

    The paper's mean is over the same cells; None where either has no closure.
    """
    ours, paper = {}, {}
    for column, cell, published in _closures(tables):
        ours.setdefault(column.metric, []).append(cell["closure"])
        if published is not None:
            paper.setdefault(column.metric, []).append(published)
    return [
        (name, *(sum(v[metric]) / len(v[metric]) if metric in v else None for v in (ours, paper)))
        for metric, name in METRICS.items()
        if metric in ours
    ]


def improvement(tables):
    """Cells that the refinement improves, those whose interval excludes zero, and all cells."""
    cells = [cell for _, cell, _ in _closures(tables)]
    better = sum(cell["closure"] > 0 for cell in cells)
    surely = sum((cell["closure_low"] or 0) > 0 for cell in cells)
    return better, surely, len(cells)


def cohort(path):
    """Summary of the participants table: subjects by split, and rows per covariate.

    Rows are (name, {split: text}); numbers as mean ± standard deviation (range), categories as
    counts. None if there is no table.
    """
    if not Path(path).exists():
        return None
    participants = pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False)
    groups = {"all": participants}
    for split in ("train", "test", "unseen"):
        if (participants["split"] == split).any():
            groups[split] = participants[participants["split"] == split]
    rows = []
    for name in participants.columns.drop(["participant_id", "split"]):
        if participants[name].isna().all():
            continue
        label = name.replace("_", " ") + UNITS.get(name, "")
        rows.append((label, {split: _summary(part[name]) for split, part in groups.items()}))
    return {"counts": {split: len(part) for split, part in groups.items()}, "rows": rows}


def quality(study):
    """Quality control: number of subjects, outliers as (subject, measures), pictures of the worst.

    None if the study has none.
    """
    path = study.quality("quality.csv")
    if not path.exists():
        return None
    table = pd.read_csv(path, dtype={"participant_id": str, "outlier": str}, keep_default_na=False)
    rows = list(zip(table["participant_id"], table["outlier"], strict=True))
    return {
        "count": len(rows),
        "outliers": [(name, far.replace("_", " ").split("|")) for name, far in rows if far],
        "pictures": [(name, _embed(study.quality(f"{name}.png"))) for name, _ in rows[:SHOWN]],
    }


def durations(folder):
    """Seconds and peak memory per rule from Snakemake's benchmark files, longest first.

    Files `refine.tsv`, `refine_2.tsv` and `refine/anything.tsv` belong to the rule refine; its
    jobs are summed, and of memory (MiB) the largest is kept.
    """
    rules = {}
    for path in sorted(Path(folder).rglob("*.tsv")):
        try:
            benchmark = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
            seconds, memory = benchmark["s"].sum(), benchmark["max_rss"].max()
        except (ValueError, KeyError) as error:
            raise InputError(f"{path}: is no benchmark of Snakemake; remove it") from error
        rule = re.sub(r"_\d+$", "", path.relative_to(folder).with_suffix("").parts[0])
        jobs, total, peak = rules.get(rule, (0, 0.0, 0.0))
        rules[rule] = (jobs + 1, total + seconds, max(peak, 0 if pd.isna(memory) else memory))
    return sorted(((rule, *values) for rule, values in rules.items()), key=lambda row: -row[2])


def models(study, networks):
    """What the descriptions of the `networks` say: (name, description) for each there is."""
    paths = {name: study.model(name).with_suffix(".json") for name in networks}
    return [(name, read_json(path)) for name, path in paths.items() if path.exists()]


def run_facts(facts, config):
    """The lines of the section on the run: the caller's facts, the seed and the machine."""
    counted = {name: len(v) if isinstance(v, list | tuple) else v for name, v in facts.items()}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {
        **counted,
        "seed": config["seed"],
        "report made with": f"RealDeal {realdeal.__version__}, Python {platform.python_version()}",
        "report made on": machine,
    }


def origin(study):
    """What made the study, in the words of its tables and figures; nothing if none is recorded."""
    if not study.provenance.exists():
        return {}
    said = stamp(study, networks=())  # these have a table of their own
    return {name: said[name] for name in ("Provenance", "Config", "Data", "Commit", "Versions")}


def _closures(tables):
    for table in tables.values():
        columns, _, cells = grid(table)
        for column in columns:
            if cells["RealDeal", column]["closure"] is not None:
                yield column, cells["RealDeal", column], published_closure(cells, column)


def _summary(values):
    values = values.dropna()
    if values.empty:
        return "–"
    if not pd.api.types.is_numeric_dtype(values):
        return ", ".join(f"{name} {count}" for name, count in values.value_counts().items())
    digits = 0 if values.abs().max() >= 1000 else 1
    low, high = values.min(), values.max()
    spread = "" if len(values) < 2 else f" ± {values.std():,.{digits}f}"
    return f"{values.mean():,.{digits}f}{spread} ({low:,.{digits}f} – {high:,.{digits}f})"


def _setting(config, key):
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            return None
        config = config[part]
    return config


def _table(number, table):
    """A table turned on its side for the screen: a line per metric and dimension."""
    columns, rows, cells = grid(table)
    groups = {}
    for column in columns:
        cell = cells["RealDeal", column]
        line = {
            "dim": column.dim,
            "values": [cell_texts(cells.get((row, column))) for row in rows],
            "closure": closure_texts(cells, column),
            "share": cell["closure"],
            "floor": floor_text(cells, column),
        }
        groups.setdefault(heading(column), []).append(line)
    return {
        "number": number,
        "title": TABLES[number].title,
        "rows": rows,
        "groups": groups,
        "floor": bool(table["floor_closure"].notna().any()),
        "n": sorted(set(table["n"].dropna().astype(int))),
    }


def _item(study, name):
    """Header, rows and footnotes of a table of another system, from its Markdown."""
    path = study.item(name, "md")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it again") from None
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    notes = [line for line in lines[1:] if line and line[0] not in "|<"]
    return rows[0], rows[2:], notes


def _embed(path):
    """A picture as data URI, reduced and compressed for the screen."""
    try:
        picture = Image.open(path).convert("RGB")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a picture; make it again") from error
    picture.thumbnail((WIDTH, 4 * WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=88, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
