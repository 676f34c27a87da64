"""Tables and figures of the conditional MRI LDM (arXiv 2502.18620), which publishes no numbers."""

import numpy as np
import pandas as pd

from realdeal.paper.slices import slice_grid
from realdeal.paper.summaries import (
    asked_and_measured,
    diversity,
    interval,
    likeness,
    save_figure,
    share,
    write_item,
)

FEW = 8  # volumes; an FID of fewer is marked
CATEGORIES = ("pathology", "modality")
SETS = {"synthetic": "Full conditioning", "synthetic-refined": "  + RealDeal's refiner"}


def _cell(frame, part):
    return frame[[f"{part}.{key}" for key in CATEGORIES]].astype(str).agg(" x ".join, axis=1)


def _read(study, facts, name):
    """Cells asked for and read of a set, or of the held-out scans (`original`)."""
    frame = asked_and_measured(study, facts, name)
    frame["cell"], frame["read"] = _cell(frame, "asked"), _cell(frame, "measured")
    frame["hit"] = frame["cell"] == frame["read"]
    return frame


def _fids(study):
    """FID by (variant, cell), mean over the dimensions, and the volumes behind it."""
    scores = pd.read_csv(study.scores("cells"))
    grouped = scores.groupby(["variant", "region"])
    return grouped["value"].mean(), grouped["subject"].first().astype(int)


def _unseen(facts):
    return {" x ".join(cell) for cell in facts["unseen"]}


def cells_table(study, facts):
    """A line for each cell."""
    distances, counts = _fids(study)
    alike = diversity(study)
    read = {name: _read(study, facts, name) for name in ("synthetic", "synthetic-refined")}
    values, texts = [], []
    for cell in facts["cells"]:
        unseen = cell in _unseen(facts)
        n = int(counts.get(("synthetic", cell), 0))
        real = 2 * int(counts.get(("original", cell), 0))
        line = {"cell": cell, "unseen": unseen, "n": n, "n_real": real}
        mark = " †" if min(n, real) < FEW else ""
        text = {"Pathology x modality": cell + (" (unseen)" if unseen else ""), "n": f"{n}{mark}"}
        for variant, title in (
            ("synthetic", "FID ↓"),
            ("synthetic-refined", "FID, refined ↓"),
            ("original", "FID, half of the scans ↓"),
        ):
            value = distances.get((variant, cell), np.nan)
            line[f"fid_{variant}"] = value
            text[title] = "–" if np.isnan(value) else f"{value:.2f}"
        for variant, title in (("synthetic", "MS-SSIM"), ("original", "MS-SSIM, scans")):
            found = alike["mean"].get(("ms_ssim", variant, cell), np.nan)
            line[f"ms_ssim_{variant}"] = found
            text[title] = "–" if np.isnan(found) else f"{found:.3f}"
        for variant, title in (
            ("synthetic", "Read as asked"),
            ("synthetic-refined", "Read as asked, refined"),
        ):
            hits = read[variant].loc[read[variant]["cell"] == cell, "hit"]
            line[f"agreement_{variant}"] = hits.mean()
            text[title] = f"{hits.sum()} of {len(hits)}"
        values.append(line)
        texts.append(text)
    notes = [
        f"FID: {facts['features']} features of patches, mean of three orientations, against all "
        "real scans of the cell. The paper publishes no numbers.",
        f"† fewer than {FEW} volumes on one side: the FID of a few is too high.",
        "Unseen: no scan of the cell was shown to autoencoder, LDM or refiner.",
    ]
    write_item(study, "cells", pd.DataFrame(values), pd.DataFrame(texts), facts, notes)


def unseen_table(study, facts):
    """Seen against unseen cells: FID, and the share of samples that are read as asked."""
    distances, _ = _fids(study)
    likely = likeness(study)
    values, texts = [], []
    unseen = _unseen(facts)
    groups = {"seen": [c for c in facts["cells"] if c not in unseen], "unseen": sorted(unseen)}
    groups = {name: cells for name, cells in groups.items() if cells}
    for variant, title in (
        *((v, SETS[v].strip()) for v in SETS),
        ("original", "Real, held out"),
    ):
        frame = _read(study, facts, variant)
        for group, cells in groups.items():
            part = frame[frame["cell"].isin(cells)]
            found = [distances.get((variant, cell), np.nan) for cell in cells]
            line = {"row": title, "cells": group, "n": len(part), "fid": np.nanmean(found)}
            line["agreement"], line["low"], line["high"] = share(part["hit"].to_numpy())
            text = {"": title, "Cells": f"{group} ({len(cells)})", "n": len(part)}
            text["FID ↓"] = f"{line['fid']:.2f}"
            text["Read as asked"] = interval(line["agreement"], line["low"], line["high"])
            for key in CATEGORIES:
                same = part[f"asked.{key}"].astype(str) == part[f"measured.{key}"].astype(str)
                line[key] = same.mean()
                text[key.capitalize()] = f"{same.mean():.2f}"
            line["likeness"] = likely[variant] if group == "seen" else np.nan
            text["Likeness"] = "–" if np.isnan(line["likeness"]) else f"{line['likeness']:.3f}"
            values.append(line)
            texts.append(text)
    notes = [
        "Read by an observer that was fitted to real training scans of all cells, the unseen ones "
        "included; its share on held-out scans stands in the last rows. Of real scans the FID is "
        "between halves. Intervals: Wilson, 95 %.",
        "Likeness to the training scan of the cell that a volume is most like (cosine of "
        "deviations from their mean): 1 for copies, for new brains that of held-out scans.",
    ]
    write_item(study, "unseen", pd.DataFrame(values), pd.DataFrame(texts), facts, notes)


def ablation_table(study, facts):
    """The same LDM without pathology, without modality and without both."""
    distances, _ = _fids(study)
    unseen = _unseen(facts)
    seen = [cell for cell in facts["cells"] if cell not in unseen]
    values, texts = [], []
    for name in facts["sets"]:
        title = SETS.get(name, name.replace("-", " ").capitalize())
        frame = _read(study, facts, name)
        line = {"row": title, "n": len(frame)}
        text = {"": title}
        for group, cells in (("seen", seen), ("unseen", sorted(unseen))):
            found = [distances.get((name, cell), np.nan) for cell in cells]
            line[f"fid_{group}"] = np.nanmean(found) if found else np.nan
            text[f"FID, {group} cells ↓"] = f"{line[f'fid_{group}']:.2f}"
        better = [
            distances.get(("synthetic", cell), np.nan) < distances.get((name, cell), np.nan)
            for cell in seen
        ]
        line["full_better"] = sum(better) if name != "synthetic" else np.nan
        text["Seen cells where full conditioning is better"] = (
            "–" if name == "synthetic" else f"{sum(better)} of {len(seen)}"
        )
        line["agreement"], line["low"], line["high"] = share(frame["hit"].to_numpy())
        text["Read as asked"] = interval(line["agreement"], line["low"], line["high"])
        values.append(line)
        texts.append(text)
    notes = [
        "Each ablated LDM is trained as long as the full one; its samples start from the same "
        "noise and are compared with the cell that the full one was asked for."
    ]
    write_item(study, "ablation", pd.DataFrame(values), pd.DataFrame(texts), facts, notes)


def autoencoder_table(study, facts):
    """PSNR and SSIM of reconstructed held-out scans."""
    scores = pd.read_csv(study.scores("reconstruction"))
    values, texts = [], []
    for metric, title, digits in (("psnr", "PSNR (dB) ↑", 1), ("ssim", "SSIM ↑", 3)):
        found = scores.loc[scores["metric"] == metric, "value"]
        values.append({"metric": metric, "mean": found.mean(), "sd": found.std(), "n": len(found)})
        text = f"{found.mean():.{digits}f} ± {found.std():.{digits}f}"
        texts.append({"Metric": title, "Held-out scans": text})
    notes = [f"Mean ± standard deviation over {len(found)} scans, background included."]
    write_item(study, "autoencoder", pd.DataFrame(values), pd.DataFrame(texts), facts, notes)


def grid_figure(study, facts):
    """For each pathology three lines (scan, sample, refined), a column for each modality."""
    levels = {c["name"]: [str(v) for v in c["levels"]] for c in facts["covariates"]}
    unseen, asked = _unseen(facts), {}
    frame = _read(study, facts, "synthetic")
    for name, cell in zip(frame["name"], frame["cell"], strict=True):
        asked.setdefault(cell, name)
    lines, framed = [], set()
    for pathology in levels["pathology"]:
        cells = [f"{pathology} x {modality}" for modality in levels["modality"]]
        for title, variant in (
            (f"{pathology}\nscan", "original"),
            ("sample", "synthetic"),
            ("refined", "synthetic-refined"),
        ):
            members = facts["examples"] if variant == "original" else asked
            paths = [study.volume(variant, members[cell]) for cell in cells if cell in members]
            texts = levels["modality"] if variant == "original" else [""] * len(cells)
            if variant != "original":
                framed |= {(len(lines), i) for i, cell in enumerate(cells) if cell in unseen}
            lines.append((title, paths, texts))
    save_figure(slice_grid(lines, framed), study.item("grid"), facts, dpi=150)


TABLES = {
    "cells": cells_table,
    "unseen": unseen_table,
    "ablation": ablation_table,
    "autoencoder": autoencoder_table,
}
FIGURES = {"grid": grid_figure}
