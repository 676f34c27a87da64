"""The same study with several seeds: how far the gap closes in each, cell by cell."""

from pathlib import Path

import pandas as pd

from realdeal.errors import InputError
from realdeal.files import atomic_path
from realdeal.paper.items import TABLES, heading
from realdeal.paper.tables import closure_texts, grid, percent, read_table
from realdeal.provenance import digest_line
from realdeal.study import Study


def compare_seeds(roots, target):
    """Gather the gap closures of studies (one root folder for each seed) into a Markdown table.

    A line for each cell of Tables 1 to 6: the closure of each study with its interval over
    subjects, their mean over the studies, the paper's. Returns the lines as a data frame.
    InputError if a study lacks a table or has other columns than the first.
    """
    studies = [Study(root) for root in roots]
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
    table = pd.DataFrame(lines)
    files = {f"{study.root.name}/{study.provenance.name}": study.provenance for study in studies}
    text = f"{_markdown(table)}\n{digest_line(files)}\n"
    with atomic_path(Path(target)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return table


def _markdown(table):
    rows = ["| " + " | ".join(table.columns) + " |", "|" + "--:|" * len(table.columns)]
    rows += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*rows, ""])
