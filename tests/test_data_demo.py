import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from realdeal.data import demo, regions
from realdeal.data.realism import plot_realism
from realdeal.errors import InputError

SETTINGS = {"voxel_size": 2.5, "white_matter_snr": [20, 28], "ageing": "weak"}
SHAPE = [64, 80, 64]


@pytest.fixture(scope="module")
def subjects():
    return [demo.make_subject(number, 0, SETTINGS, SHAPE) for number in (1, 2)]


def test_deterministic(subjects):
    again = demo.make_subject(2, 0, SETTINGS, SHAPE)
    for old, new in zip(subjects[1][:-1], again[:-1], strict=True):
        np.testing.assert_array_equal(old, new)
    assert again.covariates == subjects[1].covariates


def test_subjects_and_seeds_differ(subjects):
    other = demo.make_subject(1, 1, SETTINGS, SHAPE)
    for one, two in ((subjects[0], subjects[1]), (subjects[0], other)):
        brain = (one.labels > 0) & (two.labels > 0)
        # Different anatomy, not only different noise: far more than the 3 % of the noise.
        assert np.abs(one.truth - two.truth)[brain].mean() > 0.07
        assert 0.6 < np.mean(one.labels[brain] == two.labels[brain]) < 0.95


def test_geometry_and_background(subjects):
    for subject in subjects:
        assert nib.aff2axcodes(subject.affine) == ("R", "A", "S")
        np.testing.assert_allclose(nib.affines.voxel_sizes(subject.affine), 2.5)
        brain = subject.labels > 0
        for image in (subject.scan, subject.truth, subject.rescan):
            assert image.shape == tuple(SHAPE) and image.dtype == np.float32
            assert (image[~brain] == 0).all() and (image[brain] > 0).all()
            assert image.max() < 1.3
        for axis in range(3):
            assert not np.take(brain, [0, -1], axis).any()


def test_tissue_contrast(subjects):
    for subject in subjects:
        mean = {code: subject.truth[subject.labels == code].mean() for code in range(1, 6)}
        assert mean[regions.WHITE_MATTER] == pytest.approx(demo.WHITE, rel=0.12)
        assert mean[regions.GREY_MATTER] == pytest.approx(demo.GREY, rel=0.12)
        assert mean[regions.VENTRICLES] < 0.35


def test_noise_is_as_asked(subjects):
    for subject in subjects:
        white = subject.labels == regions.WHITE_MATTER
        for scan in (subject.scan, subject.rescan):
            noise = (scan - subject.truth)[white]
            assert abs(noise.mean()) < 0.1 * noise.std()
            snr = subject.truth[white].mean() / noise.std()
            assert snr == pytest.approx(subject.covariates["white_matter_snr"], rel=0.1)
        assert 20 <= subject.covariates["white_matter_snr"] <= 28
        pair = [(scan - subject.truth)[white] for scan in (subject.scan, subject.rescan)]
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.05


def test_noise_correlates_with_its_neighbours_only(subjects):
    noise = subjects[0].scan - subjects[0].truth
    white = subjects[0].labels == regions.WHITE_MATTER

    def correlation(distance):
        both = white & np.roll(white, distance, 0)
        return np.corrcoef(noise[both], np.roll(noise, distance, 0)[both])[0, 1]

    assert 0.05 < correlation(1) < 0.35
    assert abs(correlation(3)) < 0.05


def test_noise_is_rician_where_signal_is_low():
    truth = np.zeros((40, 40, 40), np.float32)
    truth += 1e-6
    image = demo._acquire(np.random.default_rng(0), truth, 0.05)
    # Rayleigh: mean and spread of the magnitude of pure noise
    assert image.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.05)
    assert image.std() == pytest.approx(0.05 * np.sqrt(2 - np.pi / 2), rel=0.05)


def test_anatomy_is_plausible(subjects):
    for subject in subjects:
        labels, affine = subject.labels, subject.affine
        millilitres = np.bincount(labels.ravel(), minlength=6) * 2.5**3 / 1000
        assert 300 < millilitres[regions.WHITE_MATTER] < 650
        assert 400 < millilitres[regions.GREY_MATTER] < 800
        assert 5 < millilitres[regions.VENTRICLES] < 60
        assert 80 < millilitres[regions.CEREBELLUM] < 180

        def centre(mask, affine=affine):
            return nib.affines.apply_affine(affine, np.argwhere(mask)).mean(0)

        brain = centre(labels > 0)
        ventricles = centre(labels == regions.VENTRICLES)
        cerebellum = centre(labels == regions.CEREBELLUM)
        assert abs(ventricles[0]) < 5 and abs(cerebellum[0]) < 6
        assert abs(ventricles[1] - brain[1]) < 20
        assert cerebellum[1] < brain[1] - 20 and cerebellum[2] < brain[2] - 25
        world = nib.affines.apply_affine(affine, np.argwhere(labels == regions.VENTRICLES))
        assert np.abs(world[:, 0]).max() < 50
        assert np.mean(world[:, 0] > 0) == pytest.approx(0.5, abs=0.15)
        # one cerebellum, one brain
        for mask in (labels == regions.CEREBELLUM, labels > 0):
            components, count = ndimage.label(mask)
            assert np.bincount(components.ravel())[1:].max() > 0.98 * mask.sum()


def test_covariates(subjects):
    for subject in subjects:
        about = subject.covariates
        assert about["sex"] in ("F", "M") and 22 <= about["age"] <= 80
        assert (about["pathology"], about["modality"]) == ("healthy", "T1w")
        ventricles = (subject.labels == regions.VENTRICLES).sum() * 2.5**3
        assert about["ventricular_volume"] == pytest.approx(ventricles)
        assert about["brain_volume"] == pytest.approx(
            (subject.labels > 0).sum() * 2.5**3 - ventricles
        )


def test_ventricles_grow_with_age(monkeypatch):
    person = demo._draw_person

    def aged(age):
        def draw(*arguments):
            growth = 1.0 + 1.2 * (age - 50) / 30
            return {**person(*arguments), "age": age, "ventricles": growth}

        return draw

    volumes = []
    for age in (25, 75):
        monkeypatch.setattr(demo, "_draw_person", aged(age))
        volumes.append(demo.make_subject(1, 0, SETTINGS, SHAPE).covariates["ventricular_volume"])
    assert volumes[1] > 1.2 * volumes[0]


def test_recipe_is_in_millimetres(subjects):
    # The same brain in other voxels; only fine random detail may differ.
    settings = {**SETTINGS, "voxel_size": 3.0}
    coarse = demo.make_subject(1, 0, settings, [54, 68, 54])
    for name in ("ventricular_volume", "brain_volume"):
        assert coarse.covariates[name] == pytest.approx(subjects[0].covariates[name], rel=0.2)


def test_field_of_view_must_hold_the_brain():
    with pytest.raises(InputError, match="preprocessing.shape"):
        demo.make_subject(1, 0, SETTINGS, [40, 48, 40])


def test_random_fields_have_unit_variance_and_their_scale():
    axes = [np.arange(0, size, 1.0) for size in (120, 110, 100)]
    field = demo._spline_field(np.random.default_rng(0), axes, 3.0)
    assert field.shape == (120, 110, 100)
    assert field.std() == pytest.approx(1, abs=0.05)

    def correlation(distance):
        return np.mean(field[distance:] * field[:-distance]) / field.var()

    # A Gaussian kernel of sigma correlates exp(-d^2 / (4 sigma^2)).
    assert correlation(3) == pytest.approx(np.exp(-1 / 4), abs=0.05)
    assert correlation(6) == pytest.approx(np.exp(-1), abs=0.07)


def test_deformation_is_invertible():
    displacement = demo._diffeomorphism(np.random.default_rng(0), 2.0)
    step = 4.0
    gradient = np.stack([np.stack(np.gradient(part, step)) for part in displacement])
    jacobian = np.linalg.det(np.eye(3) + np.moveaxis(gradient, (0, 1), (-2, -1)))
    assert jacobian.min() > 0.05


def test_picture(tmp_path):
    path = tmp_path / "cohort.png"
    plot_realism(path, SETTINGS, SHAPE, 0)
    assert path.read_bytes()[:4] == b"\x89PNG"
