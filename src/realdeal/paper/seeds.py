"""The same study with several seeds: what each found, side by side."""

import re
from pathlib import Path

import pandas as pd

from realdeal.errors import InputError
from realdeal.files import atomic_path
from realdeal.paper.items import TABLES, heading
from realdeal.paper.tables import closure_texts, grid, percent, read_table
from realdeal.provenance import digest_line
from realdeal.study import Study


def compare_seeds(roots, target):
    """Gather what studies (one root folder for each seed) found into a Markdown table.

    Of RealDeal's a line for each cell of Tables 1 to 6: the closure of each study with its interval
    over subjects, their mean over the studies, the paper's. Of the other systems' a line for each
    number of their tables, with the mean and the standard deviation over the studies. Returns the
    lines as a data frame. InputError if a study lacks a table or has other lines than the first.
    """
    studies = [Study(root) for root in roots]
    found = [sorted(path.stem for path in (s.root / "tables").glob("*.csv")) for s in studies]
    tables = found[0]
    for study, others in zip(studies, found, strict=True):
        if others != tables:
            raise InputError(
                f"{study.root}: has other tables than {studies[0].root}; finish it, and compare "
                "studies that differ by their seed alone"
            )
    realdeal = "table1" in tables or not tables  # without any, its first is named as missing
    lines = _closures(studies) if realdeal else _numbers(studies, tables)
    table = pd.DataFrame(lines)
    files = {f"{study.root.name}/{study.provenance.name}": study.provenance for study in studies}
    text = f"{_markdown(table)}\n{digest_line(files)}\n"
    with atomic_path(Path(target)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return table


def _closures(studies):
    lines = []
    for number in TABLES:
        grids = [grid(read_table(study.table(number))) for study in studies]
        columns = grids[0][0]
        for study, (others, _, _) in zip(studies, grids, strict=True):
            if others != columns:
                raise InputError(
                    f"{study.table(number)}: other columns than {studies[0].table(number)}; "
                    "compare studies that differ by their seed alone"
                )
        for column in columns:
            texts = [closure_texts(cells, column) for _, _, cells in grids]
            shares = [cells["RealDeal", column]["closure"] for _, _, cells in grids]
            if None in shares:
                continue
            line = {
                "table": number,
                "metric": heading(column),
                "dim": "" if column.dim is None else column.dim,
            }
            for study, (closure, interval, _) in zip(studies, texts, strict=True):
                line[study.root.name] = f"{closure} {interval}".strip()
            line["mean"] = percent(sum(shares) / len(shares))
            line["paper"] = texts[0][2]
            lines.append(line)
    return lines


def _numbers(studies, tables):
    lines = []
    for name in tables:
        frames = [_long(study.item(name, "csv")) for study in studies]
        if any(list(frame.index) != list(frames[0].index) for frame in frames):
            raise InputError(
                f"{studies[0].item(name, 'csv')}: its lines are not those of the other studies; "
                "compare studies that differ by their seed alone"
            )
        values = pd.concat(frames, axis=1, keys=[study.root.name for study in studies]).dropna()
        values["mean"], values["sd"] = values.mean(axis=1), values.std(axis=1)
        for (row, number), found in values.iterrows():
            rounded = {key: f"{value:.4g}" for key, value in found.items()}
            lines.append({"table": name, "row": row, "number": number, **rounded})
    return lines


def _long(path):
    """Every number of a table by (row, column); not the intervals, counts and published ones."""
    table = pd.read_csv(path)
    texts = table.select_dtypes(exclude="number").columns
    numbers = [
        column
        for column in table.columns.difference(texts, sort=False)
        if not re.search(r"^n(_|$)|^published_|(^|_)(low|high|sd)$", column)
    ]
    rows = table[texts].astype(str).agg(", ".join, axis=1)
    return table.set_index(rows)[numbers].stack(future_stack=True)


def _markdown(table):
    rows = ["| " + " | ".join(table.columns) + " |", "|" + "--:|" * len(table.columns)]
    rows += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*rows, ""])
