"""The demo cohort's diseases and modalities: where they are, what they look like, their truth."""

import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from scipy import ndimage

from realdeal.data import cells, contrasts, demo, lesions, regions
from realdeal.data.demo import make_subject
from realdeal.data.preprocessing import write_participants
from realdeal.data.realism import plot_cells
from realdeal.data.splits import split
from realdeal.data.volumes import load_labels, load_volume
from realdeal.errors import InputError
from realdeal.files import read_json
from realdeal.study import Study

SETTINGS = {"voxel_size": 4.0, "white_matter_snr": [20, 28], "ageing": "full"}
SHAPE = [40, 50, 40]
MODALITIES = list(contrasts.CONTRASTS)
PATHOLOGIES = list(demo.AGES)

# A subject of the cohort before it had cells: covariates, voxels of each region, and projections
# of scan, rescan and truth on a wave. No digest: the last bits differ between processors.
BEFORE = {
    "covariates": {
        "age": 47.0,
        "sex": "M",
        "pathology": "healthy",
        "modality": "T1w",
        "ventricular_volume": 14848.0,
        "brain_volume": 1379648.0,
        "white_matter_snr": 27.94,
    },
    "regions": [58211, 6917, 9026, 232, 1879, 3735],
    "projections": [-9.099682, -13.659854, -7.459047],
}


def make(number, pathology="healthy", modality="T1w", **settings):
    return make_subject(number, 0, {**SETTINGS, **settings}, SHAPE, (pathology, modality))


@pytest.fixture(scope="module")
def scans():
    """The same brain in every cell."""
    return {(p, m): make(1, p, m) for p in PATHOLOGIES for m in MODALITIES}


@pytest.fixture(scope="module")
def cohort():
    """Covariates of 30 healthy subjects."""
    return [make(number).covariates for number in range(1, 31)]


def mean(subject, codes, kind="labels"):
    """Noise-free signal of some regions or lesions."""
    return subject.truth[np.isin(getattr(subject, kind), codes)].mean()


# Cells


def test_subjects_spread_evenly_over_the_cells():
    settings = {"pathologies": PATHOLOGIES, "modalities": MODALITIES}
    subjects = [f"sub-{number:03d}" for number in range(1, 51)]
    assigned = cells.assign(subjects, 0, settings)
    counts = Counter(assigned.values())
    assert set(counts) == set(cells.list_cells(settings)) and len(counts) == 20
    assert set(counts.values()) == {2, 3}
    # neither the size of the cohort nor the chunk matters; the seed does
    assert cells.assign(subjects[:20], 0, settings).items() <= assigned.items()
    assert cells.assign(subjects, 1, settings) != assigned
    first = [assigned[subject] for subject in subjects[:20]]
    assert first != [assigned[subject] for subject in subjects[20:40]]
    examples = cells.examples(assigned, settings)
    assert list(examples) == cells.list_cells(settings)
    assert all(assigned[subject] == cell for cell, subject in examples.items())
    assert sorted(examples.values()) == subjects[:20]
    with pytest.raises(InputError, match="data.demo.subjects: 19 subjects leave some of the 20"):
        cells.assign(subjects[:19], 0, settings)


def test_a_person_is_scanned_in_all_modalities(tmp_path):
    settings = {"pathologies": PATHOLOGIES, "modalities": MODALITIES, "all_modalities": True}
    subjects = [f"sub-{number:03d}" for number in range(1, 81)]
    assigned = cells.assign(subjects, 0, settings)
    people = cells.people(subjects, settings)
    assert list(people) == list(range(1, 17)) and people[2] == subjects[5:10]
    assert set(Counter(assigned.values()).values()) == {4}
    for scans in people.values():
        (pathology,) = {assigned[scan][0] for scan in scans}
        assert [assigned[scan] for scan in scans] == [(pathology, m) for m in MODALITIES]
    # together in training or in test, as many of each pathology
    train, test = split(subjects, 0.75, 0, assigned, people)
    assert sorted(train + test) == subjects and len(test) == 20
    assert all(set(scans) <= set(train) or set(scans) <= set(test) for scans in people.values())
    assert set(Counter(assigned[scan] for scan in test).values()) == {1}
    # one anatomy, the scan that the same person would have alone
    study = Study(tmp_path)
    demo.write_cohort(study, people[1], SETTINGS | settings, SHAPE, 0)
    for scan in people[1][:3]:
        pathology, modality = assigned[scan]
        alone = make(1, pathology, modality)
        np.testing.assert_array_equal(load_volume(study.cohort(modality, scan)).data, alone.scan)
        np.testing.assert_array_equal(load_labels(study.cohort("labels", scan)).data, alone.labels)
        assert read_json(study.covariates(scan)) == {"person": 1} | alone.covariates


def test_one_cell_is_what_it_was():
    settings = {"pathologies": ["healthy"], "modalities": ["T1w"]}
    assert cells.cell(7, 3, settings) == ("healthy", "T1w")
    assert not cells.has_lesions(settings)


# The cohort that published tables were made of


def test_healthy_t1w_is_unchanged():
    made = make_subject(2, 1, {**SETTINGS, "ageing": "weak"}, SHAPE)
    assert made.covariates == BEFORE["covariates"]
    np.testing.assert_array_equal(np.bincount(made.labels.ravel()), BEFORE["regions"])
    for image, expected in zip(made[:3], BEFORE["projections"], strict=True):
        assert image.ravel().astype(float) @ np.cos(np.arange(image.size)) == pytest.approx(
            expected, abs=1e-3
        )


# Age and sex


def test_age_and_sex_show(cohort):
    age, male, ventricles, brain = np.array(
        [
            [c["age"], c["sex"] == "M", c["ventricular_volume"] / 1e3, c["brain_volume"] / 1e3]
            for c in cohort
        ]
    ).T
    assert np.corrcoef(age, ventricles)[0, 1] > 0.6
    assert np.corrcoef(age, brain)[0, 1] < -0.4
    # ml per year and ml between the sexes, at the same age
    design = np.stack([np.ones(len(age)), age, male], 1)
    (_, per_year, of_men), *_ = np.linalg.lstsq(design, brain, rcond=None)
    assert -6 < per_year < -1.5
    assert 60 < of_men < 220
    # a spread to learn from, faster growth late in life, nothing outlandish
    assert 5 < ventricles.min() < 12 and 30 < ventricles.max() < 75
    old, young = age > 60, age < 45
    assert ventricles[old].mean() > 1.8 * ventricles[young].mean()
    assert ventricles[old].std() > 2 * ventricles[young].std()
    assert 900 < brain.min() and brain.max() < 1600


def test_weak_ageing_is_weaker(cohort):
    number = 1 + int(np.argmax([c["age"] for c in cohort]))
    weak = make(number, ageing="weak").covariates
    full = cohort[number - 1]
    assert weak["age"] == full["age"]
    assert full["ventricular_volume"] > 1.2 * weak["ventricular_volume"]
    assert full["brain_volume"] < 0.93 * weak["brain_volume"]


# Contrast


def test_the_cells_are_one_brain(scans):
    for pathology in PATHOLOGIES:
        first = scans[pathology, "T1w"]
        for modality in MODALITIES:
            other = scans[pathology, modality]
            np.testing.assert_array_equal(other.labels, first.labels)
            np.testing.assert_array_equal(other.lesions, first.lesions)
            assert other.covariates == {**first.covariates, "modality": modality}


@pytest.mark.parametrize(
    ("modality", "order"),
    [
        ("T1w", (regions.VENTRICLES, regions.GREY_MATTER, regions.WHITE_MATTER)),
        ("T1ce", (regions.VENTRICLES, regions.GREY_MATTER, regions.WHITE_MATTER)),
        ("T2w", (regions.WHITE_MATTER, regions.GREY_MATTER, regions.VENTRICLES)),
        ("FLAIR", (regions.VENTRICLES, regions.WHITE_MATTER, regions.GREY_MATTER)),
        ("PD", (regions.WHITE_MATTER, regions.GREY_MATTER, regions.VENTRICLES)),
    ],
)
def test_order_of_the_tissues(scans, modality, order):
    for pathology in ("healthy", "dementia"):
        signals = [mean(scans[pathology, modality], code) for code in order]
        assert np.all(np.diff(signals) > 0.03), signals


def test_preprocessing_resolves_every_modality(scans):
    for (_, modality), subject in scans.items():
        brain = subject.scan[subject.labels > 0]
        assert np.mean(brain > 1.2) < 0.01, modality
        assert np.subtract(*np.percentile(brain, [95, 5])) > 0.25, modality


def test_contrast_agent_shows_in_every_brain(scans):
    plain, enhanced = (scans["healthy", modality].truth for modality in ("T1w", "T1ce"))
    brighter = enhanced - plain > 0.2
    assert 0.005 < brighter[plain > 0].mean() < 0.1


# Lesions


def test_lesions_are_where_they_should_be(scans):
    kinds = {p: set(np.unique(scans[p, "T1w"].lesions)) - {0} for p in PATHOLOGIES}
    assert kinds["healthy"] == kinds["dementia"] == set()
    assert kinds["sclerosis"] == {lesions.PLAQUE}
    assert kinds["glioblastoma"] == {lesions.NECROSIS, lesions.OEDEMA, lesions.ENHANCING}
    for pathology in ("sclerosis", "glioblastoma"):
        made = scans[pathology, "T1w"]
        # in the brain, not in ventricles or cerebellum, and no healthy tissue by the labels
        assert (made.labels[made.lesions > 0] == regions.OTHER).all()
        for code, name in lesions.NAMES.items():
            volume = made.covariates.get(f"{name}_volume", 0)
            assert volume == np.sum(made.lesions == code) * 4.0**3


def test_plaques_are_many_small_and_beside_the_ventricles():
    for number in (1, 2):
        made, same = make(number, "sclerosis"), make(number, "sclerosis", "FLAIR")
        assert 1500 < made.covariates["plaque_volume"] < 15000
        plaques = made.lesions > 0
        _, count = ndimage.label(plaques, np.ones((3, 3, 3)))
        assert count >= 4
        distance = ndimage.distance_transform_edt(made.labels != regions.VENTRICLES, 4.0)
        assert np.mean(distance[plaques] < 14) > 0.4
        # the tissue that they replace is white: in a healthy brain of the same shape
        around = ndimage.binary_dilation(plaques, iterations=1) & ~plaques
        assert np.mean(made.labels[around] == regions.WHITE_MATTER) > 0.4
        assert mean(same, lesions.PLAQUE, "lesions") > 1.4 * mean(same, regions.WHITE_MATTER)


def test_a_glioblastoma_is_one_mass_with_core_rim_and_oedema():
    for number in (1, 2, 3):
        made = make(number, "glioblastoma")
        mass = np.isin(made.lesions, (lesions.NECROSIS, lesions.ENHANCING))
        components, _ = ndimage.label(mass, np.ones((3, 3, 3)))
        assert np.bincount(components.ravel())[1:].max() > 0.95 * mass.sum()
        across = 2 * (mass.sum() * 4.0**3 * 3 / (4 * np.pi)) ** (1 / 3)
        assert 20 < across < 45  # mm
        x = nib.affines.apply_affine(made.affine, np.argwhere(made.lesions > 0))[:, 0]
        assert max(np.mean(x > 0), np.mean(x < 0)) > 0.97  # in one hemisphere
        # from inside out
        depth = ndimage.distance_transform_edt(ndimage.binary_fill_holes(mass))
        core, rim = (depth[made.lesions == c] for c in (lesions.NECROSIS, lesions.ENHANCING))
        assert np.median(core) > np.median(rim)
        oedema = made.lesions == lesions.OEDEMA
        assert ndimage.distance_transform_edt(~mass, 4.0)[oedema].max() < 30
        assert oedema.sum() > 0.2 * mass.sum()


def test_the_mass_pushes():
    rng = np.random.default_rng(0)
    tumour = lesions.draw(rng, "glioblastoma", demo.template())
    nodes = np.stack(np.meshgrid(*demo.LATTICE, indexing="ij"))
    velocity = lesions.push(tumour, nodes)
    away = nodes - tumour.centre[:, None, None, None]
    assert ((velocity * away).sum(0) <= 0).all()
    assert 2 < np.sqrt((velocity**2).sum(0)).max() < 8  # mm
    displacement = demo._diffeomorphism(rng, 2.0, tumour)
    gradient = np.stack([np.stack(np.gradient(part, 4.0)) for part in displacement])
    assert np.linalg.det(np.eye(3) + np.moveaxis(gradient, (0, 1), (-2, -1))).min() > 0.02


def test_masks_match_intensities(scans):
    def signal(modality, kind):
        pathology = "sclerosis" if kind == lesions.PLAQUE else "glioblastoma"
        subject = scans[pathology, modality]
        return mean(subject, kind, "lesions"), mean(subject, regions.WHITE_MATTER)

    for kind in (lesions.PLAQUE, lesions.OEDEMA):
        for modality in ("FLAIR", "T2w", "PD"):
            lesion, white = signal(modality, kind)
            assert lesion > white + 0.12, (kind, modality)
        for modality in ("T1w", "T1ce"):
            lesion, white = signal(modality, kind)
            assert lesion < white - 0.1, (kind, modality)
    # the core: fluid in T1w and T2w, not in FLAIR
    assert signal("T1w", lesions.NECROSIS)[0] < 0.45
    assert signal("T2w", lesions.NECROSIS)[0] > 0.75
    assert signal("FLAIR", lesions.NECROSIS)[0] < signal("FLAIR", lesions.OEDEMA)[0] - 0.2
    # contrast agent: in the rim, and nowhere else among the lesions
    for kind in lesions.NAMES:
        gain = signal("T1ce", kind)[0] - signal("T1w", kind)[0]
        assert (gain > 0.25) == (kind == lesions.ENHANCING), (kind, gain)


def test_dementia_has_large_ventricles_and_little_brain(monkeypatch):
    monkeypatch.setitem(demo.AGES, "healthy", demo.AGES["dementia"])
    for number in (1, 2, 3):
        healthy, dementia = (make(number, p).covariates for p in ("healthy", "dementia"))
        assert healthy["age"] == dementia["age"]
        assert dementia["ventricular_volume"] > 1.3 * healthy["ventricular_volume"]
        assert dementia["brain_volume"] < 0.95 * healthy["brain_volume"]


def test_dementia_has_wide_sulci(scans):
    # Fluid at the surface is bright in T2w and nothing else is.
    fluid = {}
    for pathology in ("healthy", "dementia"):
        made = scans[pathology, "T2w"]
        fluid[pathology] = np.mean(made.truth[made.labels == regions.OTHER] > 0.8)
    assert fluid["dementia"] > 1.2 * fluid["healthy"]


def test_every_pathology_is_deterministic(scans):
    again = make(1, "sclerosis", "T1ce")
    for old, new in zip(scans["sclerosis", "T1ce"][:-1], again[:-1], strict=True):
        np.testing.assert_array_equal(old, new)


# Files


def test_written_cohort(tmp_path):
    study = Study(tmp_path)
    settings = SETTINGS | {"pathologies": ["healthy", "sclerosis"], "modalities": ["FLAIR"]}
    subjects = ["sub-001", "sub-002"]
    demo.write_cohort(study, subjects, settings, SHAPE, 0)
    assigned = cells.assign(subjects, 0, settings)
    for subject, (pathology, modality) in assigned.items():
        assert not study.cohort("T1w", subject).exists()
        scan = load_volume(study.cohort(modality, subject))
        mask = np.asarray(nib.load(study.cohort("lesions", subject)).dataobj)
        assert mask.shape == scan.data.shape and mask.any() == (pathology == "sclerosis")
        study.regions(subject).parent.mkdir(exist_ok=True)
        shutil.copy(study.cohort("labels", subject), study.regions(subject))
        about = read_json(study.covariates(subject))
        assert ("plaque_volume" in about) == (pathology == "sclerosis")
    write_participants(study, subjects, subjects[:1], subjects[1:])
    text = study.participants.read_text()
    assert "\tsclerosis\tFLAIR\t" in text and "\thealthy\tFLAIR\t" in text

    picture = tmp_path / "cohort.png"
    plot_cells(picture, study, [[*cell, subject] for subject, cell in assigned.items()])
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_schema_lists_what_there_is():
    path = Path(__file__).parent.parent / "workflow/schemas/config.schema.yaml"
    schema = yaml.safe_load(path.read_text())["properties"]["data"]["properties"]["demo"]
    assert schema["properties"]["modalities"]["items"]["enum"] == MODALITIES
    assert schema["properties"]["pathologies"]["items"]["enum"] == PATHOLOGIES
