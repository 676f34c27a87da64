"""Tables and figures of Brain LDM (Pinaya et al. 2022, arXiv 2209.07162)."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from realdeal.data.volumes import load_volume
from realdeal.files import read_json
from realdeal.paper.slices import brain_slice, slice_grid
from realdeal.paper.summaries import (
    asked_and_measured,
    correlation,
    diversity,
    fid,
    interval,
    label,
    likeness,
    save_figure,
    seconds,
    share,
    write_item,
)
from realdeal.systems import way

ACCENT, WARM, GREY = "#0b5cad", "#b8480a", "#9aa4ae"
SHOWN = 6  # brains in a row


def published(path):
    """{(row, metric): number} of resources/published_brain_ldm.csv."""
    table = pd.read_csv(path)
    return {(row.row, row.metric): row.value for row in table.itertuples()}


def rows(facts):
    """(variant, our name, the paper's row) of the table: slowest way, ours, refined, real."""
    sampler = facts["settings"]
    slow = max(facts["ways"], key=lambda w: w["steps"])
    return [
        (way(slow), f"LDM, {slow['sampler'].upper()} {slow['steps']:,}", "LDM"),
        ("synthetic", f"LDM + {sampler['sampler'].upper()} {sampler['steps']}", "LDM + DDIM"),
        ("synthetic-refined", "  + RealDeal's refiner", None),
        ("original", "Real", "Real"),
    ]


def quality_table(study, facts):
    """FID, MS-SSIM, 4-G-R-SSIM and seconds; the paper's numbers in columns of their own."""
    paper = published(facts["published"])
    distances, alike, times = fid(study), diversity(study), seconds(study)
    likely = likeness(study)
    times["synthetic"] = times[way(facts["settings"])]
    values, texts = [], []
    listed = [*rows(facts), (None, "LSGAN", "LSGAN"), (None, "VAE-GAN", "VAE-GAN")]
    for variant, name, row in listed:
        line, text = {"row": name.strip()}, {"": name}
        value = distances.get(variant)
        line |= dict(zip(("fid", "fid_low", "fid_high"), value or [np.nan] * 3, strict=True))
        text[f"FID ({facts['features']}) ↓"] = interval(*value) if value else "–"
        for metric, title in (("ms_ssim", "MS-SSIM"), ("4_g_r_ssim", "4-G-R-SSIM")):
            found = None
            if variant:
                found = alike.loc[metric, variant, "all"]
            line[metric] = found["mean"] if variant else np.nan
            line[f"{metric}_sd"] = found["std"] if variant else np.nan
            text[title] = f"{found['mean']:.3f} ± {found['std']:.3f}" if variant else "–"
        line["likeness"] = likely.get(variant, np.nan)
        text["Likeness"] = f"{line['likeness']:.3f}" if variant else "–"
        line["seconds"] = times.get(variant, np.nan)
        text["Seconds"] = f"{line['seconds']:.2f}" if variant in times else "–"
        for metric, title in (
            ("fid_med3d", "FID (Med3D), paper"),
            ("ms_ssim", "MS-SSIM, paper"),
            ("4_g_r_ssim", "4-G-R-SSIM, paper"),
            ("seconds", "Seconds, paper"),
        ):
            value = paper.get((row, metric), np.nan)
            line[f"published_{metric}"] = value
            text[title] = "–" if np.isnan(value) else f"{value:g}"
        values.append(line)
        texts.append(text)
    slow = rows(facts)[0][0]
    ratio = times[slow] / times["synthetic"]
    notes = [
        f"Ours: {len(facts['sets']['synthetic'])} volumes in each row, "
        f"{len(facts['evaluated'])} held-out scans; intervals over subjects (95 %), ± standard "
        "deviation over pairs.",
        f"FID ours: {facts['features']} features of patches, mean of three orientations; the "
        "paper's: Med3D features of whole volumes. Never to be compared with each other.",
        f"Sampling is {ratio:.1f} times faster than {slow} (paper: 18.7 times); seconds of one "
        "volume at a time, decoding included, ours on the machine of this run.",
        "Likeness to the training scan that a volume is most like (cosine of deviations from the "
        "mean scan): 1 for copies, for new brains that of held-out scans.",
        "The row Real compares held-out scans with training scans.",
    ]
    values, texts = pd.DataFrame(values), pd.DataFrame(texts)
    write_item(study, "quality", values, texts, facts, notes)


def _frames(study, facts):
    """{label: asked and measured} of the sets of the table and of the held-out scans."""
    frames = {}
    for variant, name, _ in rows(facts):
        title = "Real, held out" if variant == "original" else name.strip()
        frames[title] = asked_and_measured(study, facts, variant)
    return frames


def obedience_table(study, facts):
    """Pearson's r of what was asked for and what is measured, beside that of held-out scans."""
    paper = published(facts["published"])
    frames = _frames(study, facts)
    values, texts = [], []
    for covariate in facts["covariates"]:
        key = covariate["name"]
        name, unit, factor = label(key)
        for row, frame in frames.items():
            asked, found = frame[f"asked.{key}"], frame[f"measured.{key}"]
            line = {"covariate": key, "row": row, "n": len(frame)}
            text = {"Covariate": name + (f" ({unit})" if unit else ""), "": row}
            if "levels" in covariate:
                hits = (asked.astype(str) == found.astype(str)).to_numpy()
                line["agreement"], line["low"], line["high"] = share(hits)
                text["Agreement"] = interval(line["agreement"], line["low"], line["high"])
                text |= {"Pearson r": "–", "Slope": "–", "Mean error": "–"}
            else:
                asked, found = asked.astype(float) * factor, found.astype(float) * factor
                line["r"], line["low"], line["high"] = correlation(asked, found, facts["seed"])
                line["slope"] = float(np.polyfit(asked, found, 1)[0])
                line["error"] = float((found - asked).mean())
                text |= {
                    "Agreement": "–",
                    "Pearson r": interval(line["r"], line["low"], line["high"], 3),
                    "Slope": f"{line['slope']:.2f}",
                    "Mean error": f"{line['error']:+.1f}",
                }
            line["published_r"] = paper.get((key, "pearson_r"), np.nan)
            shown = not np.isnan(line["published_r"]) and not row.startswith("Real")
            text["r, paper"] = f"{line['published_r']:g}" if shown else "–"
            values.append(line)
            texts.append(text)
    texts = pd.DataFrame(texts)
    order = ["Covariate", "", "Pearson r", "Slope", "Mean error", "Agreement", "r, paper"]
    notes = [
        "Measured by an observer that was fitted to real training scans alone "
        "(docs/conditioning.md); on held-out scans by the same observer. The paper has SynthSeg "
        "for ventricles and a brain-age network for age.",
        f"n: {', '.join(sorted({str(v['n']) for v in values}))} volumes in a row.",
    ]
    write_item(study, "obedience", pd.DataFrame(values), texts[order], facts, notes)


def obedience_figure(study, facts):
    """Scatter of asked and measured; categories as shares."""
    frames = _frames(study, facts)
    real = frames.pop("Real, held out")
    names = list(frames)
    shown = {names[1]: ACCENT, names[2]: WARM}
    covariates = facts["covariates"]
    canvas, axes = plt.subplots(
        1, len(covariates), figsize=(3.4 * len(covariates), 3.7), layout="constrained"
    )
    for axis, covariate in zip(np.atleast_1d(axes), covariates, strict=True):
        key = covariate["name"]
        name, unit, factor = label(key)
        if "levels" in covariate:
            _levels(axis, covariate, {**{n: frames[n] for n in shown}, "Held-out scans": real})
            continue
        scale = []
        for title, frame, colour in (
            ("Held-out scans", real, GREY),
            *((n, frames[n], c) for n, c in shown.items()),
        ):
            x, y = (frame[f"{p}.{key}"].astype(float) * factor for p in ("asked", "measured"))
            r = np.corrcoef(x, y)[0, 1]
            axis.scatter(x, y, s=14, color=colour, alpha=0.75, lw=0, label=f"{title}: r = {r:.2f}")
            slope, offset = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            axis.plot(ends, slope * ends + offset, color=colour, lw=1.2)
            scale += [x.min(), x.max(), y.min(), y.max()]
        axis.plot([min(scale), max(scale)], [min(scale), max(scale)], color="black", lw=0.6, ls=":")
        axis.set_title(f"{name} ({unit})" if unit else name, fontsize=10)
        axis.set_xlabel("asked for (scans: true)", fontsize=8)
        axis.set_ylabel("measured", fontsize=8)
        axis.margins(y=0.12)
        axis.legend(fontsize=6.5, frameon=False, loc="upper left")
    save_figure(canvas, study.item("obedience"), facts)


def _levels(axis, covariate, frames):
    key = covariate["name"]
    places = np.arange(len(covariate["levels"]))
    for i, (title, frame) in enumerate(frames.items()):
        colour = (ACCENT, WARM, GREY)[i]
        shares = []
        for level in covariate["levels"]:
            asked = frame[frame[f"asked.{key}"].astype(str) == str(level)]
            hits = asked[f"measured.{key}"].astype(str) == str(level)
            shares.append(hits.mean() if len(asked) else 0)
        axis.bar(places + 0.27 * (i - 1), shares, 0.25, color=colour, label=title)
    axis.axhline(1 / len(places), color="black", lw=0.6, ls=":")
    axis.set_xticks(places, [str(level) for level in covariate["levels"]])
    axis.set_ylim(0, 1.25)
    axis.set_title(f"{label(key)[0]}: share read as asked", fontsize=10)
    axis.legend(fontsize=6.5, frameon=False, loc="upper left")


def steps_figure(study, facts):
    """FID, MS-SSIM, obedience and time against the steps of DDIM; the slow way as a line."""
    distances, alike, times = fid(study), diversity(study), seconds(study)
    main = way(facts["settings"])
    ways = sorted([*facts["ways"], facts["settings"]], key=lambda w: w["steps"])
    ddim = [w for w in ways if w["sampler"] == "ddim"]
    others = [w for w in ways if w["sampler"] != "ddim"]

    def key(settings):
        return "synthetic" if way(settings) == main else way(settings)

    continuous = [c["name"] for c in facts["covariates"] if "range" in c]
    obeys = {}
    for settings in ways:
        frame = asked_and_measured(study, facts, key(settings))
        for name in continuous:
            pair = (frame[f"{p}.{name}"].astype(float) for p in ("asked", "measured"))
            obeys[key(settings), name] = np.corrcoef(*pair)[0, 1]
    panels = [
        ("FID ↓", [("", lambda k: distances[k][0])], distances["original"][0]),
        (
            "MS-SSIM of pairs",
            [("", lambda k: alike.loc["ms_ssim", k, "all"]["mean"])],
            alike.loc["ms_ssim", "original", "all"]["mean"],
        ),
        (
            "r of asked and measured ↑",
            [(label(n)[0], lambda k, n=n: obeys[k, n]) for n in continuous],
            None,
        ),
        (
            "Seconds for a volume",
            [("", lambda k: times[main if k == "synthetic" else k])],
            None,
        ),
    ]
    canvas, axes = plt.subplots(1, 4, figsize=(13, 3.3), layout="constrained")
    for axis, (title, curves, real) in zip(axes, panels, strict=True):
        for i, (name, value) in enumerate(curves):
            colour = (ACCENT, WARM, "#3a8f3a", "#7a4fb0")[i % 4]
            steps = [w["steps"] for w in ddim]
            axis.plot(
                steps, [value(key(w)) for w in ddim], "o-", color=colour, label=name or "DDIM"
            )
            for other in others:
                axis.axhline(value(key(other)), color=colour, lw=1, ls="--")
        if real is not None:
            axis.axhline(real, color=GREY, lw=1.5, label="real scans")
        for other in others:
            name = f"{other['sampler'].upper()} {other['steps']:,} (dashed)"
            axis.plot([], [], color="black", lw=1, ls="--", label=name)
        axis.set_xscale("log")
        axis.set_xticks([w["steps"] for w in ddim], [str(w["steps"]) for w in ddim])
        axis.minorticks_off()
        axis.set_xlabel("steps", fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.legend(fontsize=6.5, framealpha=1, edgecolor="none")
    axes[3].set_yscale("log")
    save_figure(canvas, study.item("steps"), facts)


def extrapolation_figure(study, facts):
    """A row for each covariate, from far below to far above what was trained on."""
    wanted = facts["extrapolation"]
    canvas, axes = plt.subplots(
        len(wanted),
        max(map(len, wanted.values())),
        figsize=(2.2 * max(map(len, wanted.values())), 2.9 * len(wanted)),
        squeeze=False,
        layout="constrained",
        facecolor="black",
    )
    canvas.get_layout_engine().set(h_pad=0.12)
    for axis in axes.flat:
        axis.axis("off")
    for line, (key, values) in zip(axes, wanted.items(), strict=True):
        name, unit, factor = label(key)
        for axis, value in zip(line, values, strict=False):
            sample = f"{key}_{value:g}-001"
            asked, found = (
                read_json(study.asked(sample)),
                read_json(study.measured("synthetic", sample)),
            )
            volume = load_volume(study.volume("synthetic", sample))
            brain_slice(axis, volume.data, volume.affine)
            beyond = key in asked["extrapolated"]
            axis.set_title(
                f"{name} {value:g}{' *' if beyond else ''}\n"
                f"asked {asked[key] * factor:.0f} {unit}, measured {found[key] * factor:.0f}",
                fontsize=7.5,
                color="#ffb000" if beyond else "white",
            )
    save_figure(canvas, study.item("extrapolation"), facts)


def samples_figure(study, facts):
    """A row of held-out scans, samples and refined samples."""
    names = facts["sets"]["synthetic"][:SHOWN]
    lines = []
    for title, variant, members in (
        ("Held-out scan", "original", facts["evaluated"][:SHOWN]),
        ("Sample", "synthetic", names),
        ("Refined", "synthetic-refined", names),
    ):
        texts = []
        for name in members:
            about = {} if variant == "original" else read_json(study.asked(name))
            parts = []
            for covariate in facts["covariates"]:
                key = covariate["name"]
                _, unit, factor = label(key)
                if key in about and "range" in covariate:
                    parts.append(f"{about[key] * factor:.0f} {unit}")
                elif key in about:
                    parts.append(str(about[key]))
            texts.append(", ".join(parts) if variant == "synthetic" else "")
        lines.append((title, [study.volume(variant, name) for name in members], texts))
    save_figure(slice_grid(lines), study.item("samples"), facts)


TABLES = {"quality": quality_table, "obedience": obedience_table}
FIGURES = {
    "samples": samples_figure,
    "obedience": obedience_figure,
    "steps": steps_figure,
    "extrapolation": extrapolation_figure,
}
