"""Tables, figures and report, on scores and volumes made here."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import jinja2
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from realdeal.data.volumes import save_volume
from realdeal.errors import InputError
from realdeal.files import write_json, write_table
from realdeal.paper import figures, report, tables
from realdeal.paper.items import FIGURES, TABLES, Column, figure_subjects, figure_volumes
from realdeal.paper.published import Published, gap_closure
from realdeal.study import Study

ROOT = Path(__file__).parent.parent
SUBJECTS = [f"sub-{number}" for number in range(4)]
SYNTHETIC = [f"synthetic-{number:03d}" for number in range(1, 8)]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SETTINGS = CONFIG["evaluation"] | {"bootstrap": 200}


@pytest.fixture(scope="module")
def published():
    return Published(ROOT / "resources" / "published.csv")


def per_subject(metric, values, dim=None, region=None):
    """Score rows of a variant-to-list dict."""
    return [
        (metric, region, dim, None, variant, f"sub-{number}", None, value)
        for variant, numbers in values.items()
        for number, value in enumerate(numbers)
    ]


def pooled(metric, values, dim=None, region=None, k=None):
    return [
        (metric, region, dim, k, variant, None, draw, value)
        for variant, numbers in values.items()
        for draw, value in enumerate(numbers)
    ]


def write_scores(study, name, rows):
    write_table(study.scores(name), pd.DataFrame(rows, columns=tables.SCORE_COLUMNS))


def write_all_scores(study):
    """Plausible scores of four subjects for every table."""
    rng = np.random.default_rng(0)
    subjects = rng.normal(1, 0.05, 4)
    draws = np.r_[1, rng.normal(1, 0.05, 50)]

    def paired(baseline, refined, rescan, scale=subjects):
        levels = {"reconstructed": baseline, "reconstructed-refined": refined, "rescan": rescan}
        return {variant: level * scale for variant, level in levels.items()}

    def sampled(baseline, refined, original):
        levels = {"synthetic": baseline, "synthetic-refined": refined, "original": original}
        return {variant: level * draws for variant, level in levels.items()}

    lpips, hog, distribution = [], [], []
    for dim in range(3):
        lpips += per_subject("lpips", paired(0.05, 0.0123, 0.006), dim)
        for metric in ("hog_3x3", "hog_1x1"):
            for region in ("brain", "cerebellum"):
                hog += per_subject(metric, paired(2.6, 2.4, 2.1), dim, region)
        distribution += pooled("fid", sampled(90, 40, 3), dim)
        for k in (5, 10, 20):
            distribution += pooled("coverage", sampled(0.2, 0.7, 0.9), dim, k=k)
            distribution += pooled("density", sampled(0.2, 0.5, 0.9), dim, k=k)
    write_scores(study, "lpips", lpips)
    write_scores(study, "hog", hog)
    write_scores(study, "distribution", distribution)
    noise = pooled("noise_kl", paired(1.0, 0.1, 0.01, draws), region="white-matter")
    noise += pooled("noise_kl", paired(0.3, 0.06, 0.02, draws), region="ventricles")
    write_scores(study, "noise", noise)
    sharpness = {"original": 0.06 * subjects, **paired(0.03, 0.05, 0.06)}
    write_scores(study, "sharpness", per_subject("sharpness", sharpness))
    seam = {"original": np.ones(4), **paired(1.0, 1.02, 1.0)}
    write_scores(study, "seam", per_subject("seam", seam))


@pytest.fixture(scope="module")
def study(tmp_path_factory, published):
    """A study with scores, tables, histories, volumes and figures."""
    study = Study(tmp_path_factory.mktemp("results") / "demo")
    write_all_scores(study)
    for number in TABLES:
        tables.make_table(number, study, published, SETTINGS, 0, ["Note on the cohort."], 4)
    for name in ("autoencoder", "ldm", "refiner"):
        history = {"step": [10, 20], "seconds": [1.0, 2.0], "loss": [0.5, 0.2]}
        write_table(study.history(name), pd.DataFrame(history | {"validation_loss": [None, 0.3]}))
        description = {"steps": 20, "seconds": 2.0, "device": "cpu", "commit": "abc"}
        write_json(study.model(name).with_suffix(".json"), description)
    people = {"participant_id": SUBJECTS, "split": ["train", "train", "test", "test"]}
    people |= {"age": [30.0, 40.0, 50.0, None], "sex": ["F", "M", "F", "F"]}
    write_table(study.participants, pd.DataFrame(people))

    grid = np.indices((32, 40, 32))
    centre = np.array([15.5, 19.5, 15.5]).reshape(3, 1, 1, 1)
    ball = (((grid - centre) / (0.8 * centre)) ** 2).sum(axis=0) < 1
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    for subjects, variants in (
        (SUBJECTS, FIGURES[3].variants),
        (SYNTHETIC, FIGURES[4].variants),
    ):
        for seed, subject in enumerate(subjects):
            noise = np.random.default_rng(seed).normal(size=ball.shape)
            for blur, variant in enumerate(variants):
                image = np.clip(ndimage.gaussian_filter(noise, blur), -0.8, 0.8)
                image = np.where(ball, image, -1).astype(np.float32)
                save_volume(study.volume(variant, subject), image, affine)
    for number, drawn in ((3, 3), (4, 4), (5, 5), (6, 5), (7, 5), (8, 8), (9, 8), (10, 8)):
        if number == drawn:
            figures.figure(number, study, SUBJECTS, SYNTHETIC)
        else:
            shutil.copy(study.figure(drawn), study.figure(number))
    return study


def cell(table, row, **where):
    chosen = table[table["row"] == row]
    for key, value in where.items():
        chosen = chosen[chosen[key] == value]
    assert len(chosen) == 1
    return chosen.iloc[0]


# Published numbers, read from the paper by hand.


def test_published_numbers(published):
    assert published.value(1, "Recon.", Column("lpips", dim=1)) == 0.073
    assert published.value(1, "RealDeal", Column("hog_1x1", "cerebellum", 2)) == 2.715
    assert published.value(1, "RealDeal", Column("hog_3x3", "cerebellum", 2)) == 2.715
    assert published.value(2, "Orig.", Column("sharpness")) == 0.0139
    assert published.value(3, "RealDeal", Column("fid", dim=2)) == 19.17
    assert published.value(3, "Orig.", Column("density", dim=1, k=10)) == 0.912
    assert published.value(4, "Recon.", Column("noise_kl", "ventricles")) == 0.3941
    assert published.value(5, "Synthetic", Column("density", dim=2, k=5)) == 0.143
    assert published.value(6, "RealDeal", Column("coverage", dim=0, k=20)) == 0.882
    assert np.isnan(published.value(2, "Orig.", Column("seam")))
    assert len(published.numbers) == 88


@pytest.mark.parametrize(
    ("table", "column", "expected"),
    [
        (1, Column("lpips", dim=0), 63),
        (1, Column("noise_kl", "white-matter"), 81),
        (2, Column("sharpness"), 63),
        (3, Column("fid", dim=0), 66),
        (3, Column("coverage", dim=0, k=10), 68),
        (3, Column("density", dim=0, k=10), 43),
    ],
)
def test_published_closure(published, table, column, expected):
    assert round(100 * published.closure(table, column)) == expected


def test_published_numbers_must_be_unique(tmp_path):
    lines = (ROOT / "resources" / "published.csv").read_text().splitlines()
    path = tmp_path / "published.csv"
    path.write_text("\n".join([*lines, lines[-1]]))
    with pytest.raises(InputError, match="twice"):
        Published(path)
    with pytest.raises(InputError, match="cannot be read"):
        Published(tmp_path / "absent.csv")


# Gap closure and the bootstrap.


def test_gap_closure_by_hand():
    assert gap_closure(0.4, 0.1, 0) == pytest.approx(0.75)
    assert gap_closure(0.2, 0.7, 1.0) == pytest.approx(1 - 0.3 / 0.8)
    assert gap_closure(1.0, 1.2, 0) == pytest.approx(-0.2)  # worse than the baseline
    assert gap_closure(0.2, 1.1, 1.0) == pytest.approx(1 - 0.1 / 0.8)  # beyond the ideal
    assert np.isnan(gap_closure(1.0, 0.9, 1.0))
    np.testing.assert_allclose(gap_closure([4, 2], [1, 1], 0), [0.75, 0.5])


def test_table_by_hand(tmp_path, published):
    study = Study(tmp_path)
    values = {"reconstructed": [0.3, 0.5], "reconstructed-refined": [0.1, 0.2]}
    values["original"] = [0.02, 0.06]
    write_scores(study, "sharpness", per_subject("sharpness", values))
    write_scores(study, "seam", per_subject("seam", values))
    table = tables.make_table(2, study, published, SETTINGS, 0)
    refined = cell(table, "RealDeal", metric="sharpness")
    assert refined["value"] == pytest.approx(0.15)
    assert refined["closure"] == pytest.approx(1 - 0.11 / 0.36)
    assert refined["n"] == 2 and refined["published"] == 0.0111
    assert refined["ci_low"] == 0.1 and refined["ci_high"] == 0.2  # two subjects: both twice
    ends = sorted([1 - 0.08 / 0.28, 1 - 0.14 / 0.44])  # closures of either subject alone
    assert [refined["closure_low"], refined["closure_high"]] == pytest.approx(ends)
    assert np.isnan(cell(table, "RealDeal", metric="seam")["closure"])
    assert np.isnan(cell(table, "Recon.", metric="sharpness")["closure"])


def test_floor_closure(study):
    table = tables.read_table(study.table(1))
    lpips = cell(table, "RealDeal", metric="lpips", dim=0)
    assert lpips["floor_closure"] == pytest.approx((0.05 - 0.0123) / (0.05 - 0.006))
    noise = cell(table, "RealDeal", metric="noise_kl")
    assert noise["floor_closure"] == pytest.approx(0.9 / 0.99)
    assert tables.read_table(study.table(3))["floor_closure"].isna().all()


def test_bootstrap_is_paired():
    """A refinement that is a fixed share of the baseline closes the same gap in every draw."""
    baseline = np.random.default_rng(1).uniform(1, 5, 20)
    rows = per_subject("lpips", {"reconstructed": baseline, "rescan": 0.1 * baseline}, 0)
    rows += per_subject("lpips", {"reconstructed-refined": 0.25 * baseline}, 0)
    scores = pd.DataFrame(rows, columns=tables.SCORE_COLUMNS)
    variants = ["reconstructed", "reconstructed-refined", "rescan"]
    estimate, draws, n = tables.resample(scores, variants, 300, seed=3)
    assert n == 20 and draws.shape == (300, 3)
    assert draws["reconstructed"].std() == pytest.approx(baseline.std() / np.sqrt(20), rel=0.2)
    assert estimate["reconstructed"] == pytest.approx(baseline.mean())
    np.testing.assert_allclose(gap_closure(*(draws[v] for v in variants[:2]), 0), 0.75)
    pd.testing.assert_frame_equal(draws, tables.resample(scores, variants, 300, seed=3)[1])
    assert not draws.equals(tables.resample(scores, variants, 300, seed=4)[1])


def test_subject_without_value_is_left_out_everywhere():
    values = {"reconstructed": [1.0, 2.0, 9.0], "reconstructed-refined": [1.0, 1.0, np.nan]}
    scores = pd.DataFrame(per_subject("lpips", values, 0), columns=tables.SCORE_COLUMNS)
    estimate, _, n = tables.resample(scores, list(values), 10, seed=0)
    assert n == 2 and estimate["reconstructed"] == 1.5


def test_pooled_draws_are_taken_as_they_come(study):
    table = tables.read_table(study.table(3))
    refined = cell(table, "RealDeal", metric="fid", dim=1)
    assert refined["value"] == 40 and refined["n"] == 4
    assert refined["closure"] == pytest.approx(1 - 37 / 87)
    assert refined["closure_low"] == pytest.approx(refined["closure_high"])  # common factor
    scores = tables.read_scores(study.scores("distribution"))
    chosen = (scores["metric"] == "fid") & (scores["dim"] == 1) & (scores["draw"] > 0)
    draws = scores[chosen & (scores["variant"] == "synthetic-refined")]["value"]
    assert refined["ci_low"] == pytest.approx(np.percentile(draws, 2.5))


# Files.


def test_columns_are_exact(study):
    header = study.table(1).read_text().splitlines()[0]
    assert header == (
        "table,row,metric,region,dim,k,value,ci_low,ci_high,n,published,closure,"
        "closure_low,closure_high,floor_closure"
    )
    rows = {number: set(tables.read_table(study.table(number))["row"]) for number in TABLES}
    for number, layout in TABLES.items():
        baseline = "Recon." if layout.baseline == "reconstructed" else "Synthetic"
        assert rows[number] == {baseline, "RealDeal", "Orig."}
        assert len(tables.read_table(study.table(number))) == 3 * len(layout.columns)
    assert set(tables.read_table(study.table(5))["k"]) == {5}


@pytest.mark.parametrize("number", TABLES)
@pytest.mark.parametrize("suffix", ["md", "tex"])
def test_text_holds_all_numbers(study, number, suffix):
    text = study.table(number, suffix).read_text()
    columns, rows, cells = tables.grid(tables.read_table(study.table(number)))
    for column in columns:
        for row in rows:
            for part in tables.cell_texts(cells[row, column]):
                assert part in text
        for part in tables.closure_texts(cells, column):
            assert (part.replace("%", r"\%") if suffix == "tex" else part) in text
    assert "Note on the cohort." in text
    if number == 3:
        assert "alexnet" in text
    if suffix == "md":
        widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
        assert widths == {len(columns) + 2}


def test_text_by_hand(study):
    text = study.table(2, "md").read_text()
    assert re.search(r"\*\*RealDeal\*\* \| 0\.0\d+ \[0\.0\d+, 0\.0\d+\] \(paper 0\.0111\)", text)
    assert "67% [67%, 67%] (paper 63%)" in text
    assert "(paper 0.775)" in study.table(1, "md").read_text()
    assert tables.percent(-0.001) == "0%"


def test_bad_scores_are_refused(tmp_path, published):
    study = Study(tmp_path)
    with pytest.raises(InputError, match="noise.csv: cannot be read"):
        tables.make_table(4, study, published, SETTINGS, 0)
    values = {"reconstructed": [1.0, 1.1]}
    write_scores(study, "noise", pooled("noise_kl", values, region="ventricles"))
    with pytest.raises(InputError, match="noise.csv: has no .*reconstructed-refined"):
        tables.make_table(4, study, published, SETTINGS, 0)
    values["reconstructed-refined"] = [0.5, 0.6]
    rows = pooled("noise_kl", values, region="ventricles")
    write_scores(study, "noise", rows + rows[:1])
    with pytest.raises(InputError, match="twice"):
        tables.make_table(4, study, published, SETTINGS, 0)
    write_scores(study, "noise", [row for row in rows if row[6] != 0])
    with pytest.raises(InputError, match="draw 0"):
        tables.make_table(4, study, published, SETTINGS, 0)
    study.scores("noise").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns"):
        tables.make_table(4, study, published, SETTINGS, 0)
    assert not study.table(4).exists()


# Pictures.


def test_figure_subjects():
    assert [figure_subjects(n, SUBJECTS, SYNTHETIC) for n in (3, 5, 7)] == [
        [SUBJECTS[0]],
        [SUBJECTS[1]],
        [SUBJECTS[3]],
    ]
    assert figure_subjects(10, SUBJECTS, SYNTHETIC) == SYNTHETIC[5:7]
    assert figure_subjects(10, SUBJECTS, SYNTHETIC[:2]) == [SYNTHETIC[1], SYNTHETIC[0]]
    assert figure_subjects(9, SUBJECTS, SYNTHETIC[:1]) == SYNTHETIC[:1]
    paths = figure_volumes(8, Study("results/x"), SUBJECTS, SYNTHETIC)
    assert len(paths) == 4
    assert str(paths[1]) == "results/x/volumes/synthetic-refined/synthetic-002.nii.gz"


@pytest.mark.parametrize(("number", "panels"), [(3, 3), (4, 3), (5, 5), (8, 3)])
def test_figures_are_large_and_dark(study, number, panels):
    picture = Image.open(study.figure(number))
    assert picture.width >= 300 * panels and picture.height >= 600
    pixels = np.asarray(picture.convert("L"))
    assert pixels[:5].max() < 10 and pixels[-5:, :200].max() < 10 and pixels.max() > 200


def test_orientation():
    """A bright spot at right, anterior, superior appears where the radiologist expects it."""
    volume = np.full((20, 30, 25), -0.5, np.float32)
    volume[15:, 22:, 18:] = 1
    slicer = figures.Slicer(volume, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert slicer.cut(volume, "axial")[0].shape == (30, 20)
    assert slicer.cut(volume, "axial")[1] == (0, 40, 60, 0)
    for view, plane in figures.VIEWS.items():
        # Spread the spot along the axis that is cut, so that the slice meets it.
        spread = volume.max(axis=plane.axis, keepdims=True)
        image, _ = slicer.cut(np.broadcast_to(spread, volume.shape), view)
        # Right (or anterior) at the left of the picture, anterior (or superior) at the top.
        assert image[0, 0] == 1 and image[-1, 0] == image[0, -1] == -0.5


def test_slices_follow_the_voxel_size():
    volume = np.full((40, 40, 40), -1, np.float32)
    volume[10:30, 5:35, 10:20] = 0
    slicer = figures.Slicer(volume, np.diag([1.0, 1.0, 3.0, 1.0]))
    margin = 2 * figures.MARGIN
    assert slicer.size("coronal") == (20 + margin, 30 + margin)
    left, right, bottom, top = slicer.limits("coronal")
    assert (right - left, bottom - top) == slicer.size("coronal")


def test_mismatched_volumes_are_refused(study, tmp_path):
    other = Study(tmp_path)
    for variant in FIGURES[4].variants:
        path = other.volume(variant, "synthetic-001")
        path.parent.mkdir(parents=True)
        shutil.copy(study.volume(variant, "synthetic-001"), path)
    ramp = np.linspace(-1, 1, 32**3, dtype=np.float32).reshape(32, 32, 32)
    save_volume(other.volume("synthetic-refined", "synthetic-001"), ramp, np.eye(4))
    with pytest.raises(InputError, match="synthetic-refined.*shape"):
        figures.figure(4, other, [], ["synthetic-001"])


def test_further_pictures(study, tmp_path):
    figures.banner(study, SUBJECTS[0], SYNTHETIC[0], tmp_path / "banner.png")
    banner = Image.open(tmp_path / "banner.png")
    assert banner.width > 2 * banner.height
    figures.metric_overview(study, tmp_path / "overview.png")
    figures.training_curves(study, tmp_path / "training.png")
    with pytest.raises(InputError, match="train the networks"):
        figures.training_curves(Study(tmp_path), tmp_path / "absent.png")


# Report.


class Assets(HTMLParser):
    """Collects whatever a page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_self_contained(study):
    shutil.copy(study.figure(3), study.root / "figures" / "cohort.png")
    folder = study.root / "benchmarks"
    folder.mkdir()
    for name, seconds in (("refine_1", 2.0), ("refine_2", 3.0), ("train_ldm", 9.0)):
        (folder / f"{name}.tsv").write_text(f"s\tmax_rss\n{seconds}\t100\n")
    facts = {"evaluated": SUBJECTS, "machine": "a <test> machine", "notes": ["A note."]}
    facts["left_out"] = {"100610": "aparc+aseg.nii.gz", "999999": "everything: no such subject"}
    report.write_report(study, CONFIG, facts, study.report)
    text = study.report.read_text()
    page = Assets(text)
    assert not page.open
    assert all(asset.startswith(("data:image/webp;base64,", "#")) for asset in page.found)
    assert "url(" not in text and "@import" not in text and "<script" not in text
    assert {asset for asset in page.found if asset.startswith("#")} <= {
        f"#{name}" for name in re.findall(r'id="(\w+)"', text)
    }
    assert len(re.findall("<img ", text)) == 8 + 3  # figures, overview, training, cohort
    assert "a &lt;test&gt; machine" in text and "A note." in text
    assert "2 listed subjects left out" in text and "100610 (aparc+aseg.nii.gz), 999999" in text
    assert "not comparable in absolute value" in text and "These are not patients" in text
    columns, _, cells = tables.grid(tables.read_table(study.table(1)))
    assert all(tables.cell_texts(cells["RealDeal", column])[1] in text for column in columns)
    assert report.durations(folder) == [("train_ldm", 1, 9.0, 100.0), ("refine", 2, 5.0, 100.0)]


def test_report_has_the_quality_control(study):
    names = [f"sub-{number:02d}" for number in range(14)]
    study.quality("x").parent.mkdir()
    rows = [f"{name},{'brain_volume|sharpness' * (name == 'sub-00')}" for name in names]
    study.quality("quality.csv").write_text("\n".join(["participant_id,outlier", *rows]) + "\n")
    for name in names:
        shutil.copy(study.figure(3), study.quality(f"{name}.png"))
    config = {**CONFIG, "preprocessing": {"intensity": {"percentiles": [0.1, 99.9]}}}
    report.write_report(study, config, {}, study.report)
    text = study.report.read_text()
    shutil.rmtree(study.quality("x").parent)
    assert "1 of 14 subjects are outliers" in text and "brain volume, sharpness" in text
    assert "12 of 14 are shown" in text and text.count('alt="sub-') == 12
    assert "percentiles 0.1 – 99.9" in text


def test_headline_is_the_mean_over_cells(study):
    lines = {
        name: values
        for name, *values in report.headline(
            {number: tables.read_table(study.table(number)) for number in TABLES}
        )
    }
    assert lines["LPIPS"][0] == pytest.approx(1 - 0.0123 / 0.05)
    assert lines["Noise KL"][0] == pytest.approx((0.9 + 0.8) / 2)
    expected = np.mean([1 - 0.029 / 0.078, 1 - 0.027 / 0.073, 1 - 0.030 / 0.079])
    assert lines["LPIPS"][1] == pytest.approx(expected)


def test_cohort_summary(study):
    summary = report.cohort(study.participants)
    assert summary["counts"] == {"all": 4, "train": 2, "test": 2}
    rows = dict(summary["rows"])
    assert rows["age (years)"]["all"] == "40.0 ± 10.0 (30.0 – 50.0)"
    assert rows["sex"]["test"] == "F 2"
    assert report.cohort(study.root / "absent.tsv") is None


@pytest.mark.parametrize("name", ["workflow", "table", "figure"])
def test_captions_render(name):
    for output in ("tables/table3.csv", "figures/figure3.png", "figures/figure9.png"):
        snakemake = SimpleNamespace(config=CONFIG, output=[f"results/demo/{output}"])
        source = (ROOT / "workflow" / "report" / f"{name}.rst").read_text()
        text = jinja2.Template(source, undefined=jinja2.StrictUndefined).render(snakemake=snakemake)
        assert "demo" in text and "{" not in text
