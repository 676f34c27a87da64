"""The demo cohort: individual brains with the physics of a T1w scan, made offline.

Every subject is a smooth, invertible deformation of the ICBM152 2009a anatomy that nilearn
packages, with sulci, folia and ventricles of its own, imaged as a scanner would: tissue
contrast, coil bias, partial volume and Rician noise. So the cohort has what the paper measures
(fine anatomy, texture and noise of a known level) and, unlike real scans, its noise-free truth.
All sizes are in mm: the recipe does not depend on the voxel size. The same number is the same
brain in every modality, and but for age, atrophy and lesions in every pathology.
"""

import copy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from realdeal.data import cells, lesions, regions
from realdeal.data.contrasts import CONTRASTS, T1W
from realdeal.data.volumes import save_intensities, save_labels
from realdeal.errors import InputError
from realdeal.files import write_json
from realdeal.progress import progress

OVERSAMPLING = 2  # anatomy is drawn at half the voxel size, then averaged: partial volume
SIZE = 0.89  # mean linear size of a brain against the template, which is larger than life
CENTRE = np.array([0.0, -16.0, 4.0])  # of the field of view, mm from the anterior commissure

# Mean intensities of T1w tissue, to which the template is brought.
CSF, GREY, WHITE = T1W.csf, T1W.grey, T1W.white

# Years of age at which subjects are drawn.
AGES = {
    "healthy": (22, 80),
    "glioblastoma": (40, 80),
    "sclerosis": (22, 60),
    "dementia": (60, 85),
}

# Nodes, in mm, at which deformations are represented before they are interpolated.
LATTICE = tuple(np.arange(low, high + 1, 4.0) for low, high in ((-92, 92), (-124, 92), (-92, 100)))

# Compartments of the template.
CEREBRUM, DEEP, BRAINSTEM, HINDBRAIN = 1, 2, 3, 4


class Subject(NamedTuple):
    """One scan session; arrays (X, Y, Z) RAS+, float32 intensities of about 0..1.2."""

    scan: np.ndarray  # of the subject's modality
    rescan: np.ndarray  # the same brain with a second draw of the noise
    truth: np.ndarray  # without noise
    labels: np.ndarray  # uint8, codes of realdeal.data.regions; lesions are OTHER
    lesions: np.ndarray  # uint8, codes of realdeal.data.lesions, 0 where there are none
    affine: np.ndarray  # (4, 4) float64, mm
    covariates: dict


class Template(NamedTuple):
    """Maps at 1 mm (about 157, 193, 161) that are carried over to each subject."""

    origin: np.ndarray  # world coordinates of voxel (0, 0, 0), mm
    t1w: np.ndarray  # the average scan on our intensity scale, 0 outside the brain
    white: np.ndarray  # log-odds of white against grey matter
    csf: np.ndarray  # log-odds of cerebrospinal fluid against grey matter
    depth: np.ndarray  # mm below the surface of the brain, negative outside
    ventricles: np.ndarray  # membership 0..1 of the lateral ventricles
    hindbrain: np.ndarray  # membership 0..1 of the cerebellum
    regional: np.ndarray  # intensity of this place beyond that of its tissue
    compartment: np.ndarray  # int8, the nearest tissue's
    cerebrum: np.ndarray  # bool, mantle and deep structures
    inflow: np.ndarray  # (3, *lattice) unit displacement towards the ventricles, on LATTICE

    def sample(self, name, points, order=1):
        """Values of one map at world points (3, N), float32."""
        return ndimage.map_coordinates(
            getattr(self, name), points - self.origin[:, None], order=order, mode="nearest"
        )


@cache
def template():
    """The ICBM152 2009a maps and the geometry that is derived from them, once per process."""
    t1, grey, white, origin = _read_maps()
    brain = ndimage.binary_fill_holes(t1 > 0)
    fluid = np.clip(1 - grey - white, 0, 1)  # also 1 outside: the brain is bathed in fluid
    x, y, z = np.ogrid[tuple(slice(size) for size in t1.shape)]
    x, y, z = x + origin[0], y + origin[1], z + origin[2]
    ventricles = _lateral_ventricles(fluid * brain, x, y, z)
    compartment = _compartments(t1, brain, ventricles, x, y, z)

    def log_odds(part):
        # Tissue is never certain in an average of 152 brains: 0.4 % bounds the odds.
        return np.log(np.clip(part, 0.004, 1) / np.clip(grey, 0.004, 1))

    def membership(mask, sigma=0.7):
        return ndimage.gaussian_filter(mask.astype(np.float32), sigma)

    # The template's grey values on our scale, by its pure tissues. What then remains, smoothed,
    # is what a place has beyond its tissue: myelin-rich thalamus and pallidum, bright callosum.
    contrast = np.polyfit([0.26, 0.643, 0.875], [CSF, GREY, WHITE], 1).astype(np.float32)
    t1w = np.clip(np.polyval(contrast, t1), 0, None) * brain
    remainder = t1w - (fluid * CSF + grey * GREY + white * WHITE)
    inflow = np.gradient(membership(ventricles, 6.0))
    lattice = np.stack(np.meshgrid(*LATTICE, indexing="ij")) - origin[:, None, None, None]
    inflow = np.stack([ndimage.map_coordinates(part, lattice, order=1) for part in inflow])
    return Template(
        origin=origin,
        t1w=t1w,
        white=log_odds(white),
        csf=log_odds(fluid),
        depth=_depth(brain),
        ventricles=membership(ventricles),
        hindbrain=membership(compartment == HINDBRAIN),
        regional=ndimage.gaussian_filter(remainder * brain, 2.0),
        compartment=compartment,
        cerebrum=np.isin(compartment, (CEREBRUM, DEEP)),
        inflow=inflow / np.sqrt((inflow**2).sum(0)).max(),
    )


def _read_maps():
    """T1w, grey and white matter (0..1, float32) cropped to the brain, and the crop's origin."""
    folder = Path(find_spec("nilearn").submodule_search_locations[0], "datasets", "data")
    maps = []
    for kind in ("t1", "gm", "wm"):
        path = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        if not path.exists():
            raise InputError(f"{path}: nilearn does not bring this file; install nilearn 0.12")
        image = nib.load(path)
        maps.append(np.asarray(image.dataobj))
    # Crop to the brain, then surround it with background: the template cuts the brainstem off.
    margin = 6  # mm
    box = ndimage.find_objects((maps[0] > 0).astype(np.int8))[0]
    origin = image.affine[:3, 3] + [part.start - margin for part in box]
    t1, grey, white = (np.pad(part[box], margin).astype(np.float32) / 255 for part in maps)
    return t1, grey, white, origin.astype(np.float32)


def _depth(brain):
    """Signed distance in mm to the surface of a mask at 1 mm, positive inside; smooth float32."""
    half = brain[
        ::2, ::2, ::2
    ]  # a distance is smooth: half the resolution is an eighth of the work
    distance = ndimage.distance_transform_edt(half) - ndimage.distance_transform_edt(~half)
    distance = ndimage.gaussian_filter((2 * distance).astype(np.float32), 0.75)
    return ndimage.affine_transform(distance, np.eye(3) / 2, output_shape=brain.shape, order=1)


def _lateral_ventricles(fluid, x, y, z):
    """The fluid that is connected with the ventricular bodies or the temporal horns."""
    box = (abs(x) < 45) & (y > -60) & (y < 45) & (z > -25) & (z < 38)
    components, _ = ndimage.label((fluid > 0.5) & box)
    bodies = (abs(x) > 5) & (abs(x) < 20) & (abs(y) < 10) & (z > 14) & (z < 24)
    horns = (abs(x) > 26) & (abs(x) < 34) & (y > -14) & (y < -8) & (z > -22) & (z < -16)
    seeds = np.unique(components[(bodies | horns) & (components > 0)])
    return np.isin(components, seeds)


def _compartments(t1, brain, ventricles, x, y, z):
    """Cerebral mantle, deep structures, brainstem and cerebellum, int8.

    Cerebellum and cerebrum are told apart by flooding the brightness from a marker in each: the
    floods meet in the dark tentorium. The brainstem is the midline in front of the fourth
    ventricle.
    """
    from skimage.segmentation import watershed

    stem = (
        (abs(x) < 21 - 0.1 * abs(z + 30))
        & (y < 0)
        & (y > -38 - 0.25 * (z + 30) - 0.012 * x**2)
        & (z < -4)
    )
    markers = np.zeros(t1.shape, np.int8)
    lobes = ((abs(x) - 25) / 22) ** 2 + ((y + 62) / 18) ** 2 + ((z + 43) / 12) ** 2 < 1
    vermis = (x / 6) ** 2 + ((y + 62) / 12) ** 2 + ((z + 28) / 12) ** 2 < 1
    markers[(lobes | vermis) & brain] = HINDBRAIN
    markers[brain & ((z > 8) | (y > -25) | ((z > -8) & (abs(x) > 22)))] = CEREBRUM
    markers[brain & stem] = BRAINSTEM
    fossa = np.s_[:, : np.argmax(y > -20), : np.argmax(z > 14)]
    result = np.where(brain, CEREBRUM, 0).astype(np.int8)
    result[fossa] = watershed(-t1[fossa], markers[fossa], mask=brain[fossa])
    # Deep structures: around the ventricles and the basal ganglia, where no cortex folds.
    core = ((abs(x) - 12) / 26) ** 2 + ((y + 6) / 42) ** 2 + ((z - 6) / 24) ** 2 < 1
    near = ndimage.gaussian_filter(ventricles.astype(np.float32), 4.0) > 0.1
    result[(core | near) & (result == CEREBRUM)] = DEEP
    return result


def make_subject(number, seed, settings, shape, cell=("healthy", "T1w")):
    """Make scan number `number` (1, 2, ...) of the cohort `seed`.

    `settings` has voxel_size (mm), white_matter_snr ([low, high]) and ageing (weak or full);
    `shape` is the size of the volume in voxels, `cell` the pathology and the modality. The same
    arguments give the same `Subject`. InputError if the brain does not fit in the field of view.
    """
    pathology, modality = cell
    return next(make_scans(number, seed, settings, shape, pathology, [modality]))


def make_scans(number, seed, settings, shape, pathology, modalities):
    """Scans of one person: `make_subject` of each modality, with its anatomy drawn but once."""
    spacing = float(settings["voxel_size"])
    rng = np.random.default_rng([seed, number])
    # Disease and contrast agent have draws of their own, so that the brain stays the same.
    extra = np.random.default_rng([seed, number, 1])
    person = _draw_person(rng, pathology, settings["ageing"])
    disease = lesions.draw(extra, pathology, template())

    # The drawing grid in the space of the template.
    axes = [
        axis / scale
        for axis, scale in zip(drawing_axes(spacing, shape), person["scale"], strict=True)
    ]
    displacement = _diffeomorphism(rng, person["ventricles"], disease)
    inside, place = _place(axes, displacement)
    tissue = _tissue(rng, axes, inside, place, person)
    parts = {}
    if disease is not None:
        wander = _spline_field(extra, axes, 5.0)[inside]
        parts = lesions.shares(disease, place, tissue["white"], wander)
    labels = _label(inside, tissue, place, spacing)
    if any(np.take(labels, [0, -1], axis).any() for axis in range(3)):
        extent = " x ".join(f"{size * spacing:g}" for size in shape)
        raise InputError(
            f"preprocessing.shape: a field of view of {extent} mm cuts off a brain; "
            "make shape times data.demo.voxel_size at least 160 x 200 x 160 mm"
        )
    lesion_labels = _label_lesions(inside, parts, labels)
    outside = labels == 0
    labels[lesion_labels > 0] = regions.OTHER
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = CENTRE - spacing * (np.array(shape) - 1) / 2

    for modality in modalities:
        contrast = CONTRASTS[modality]
        draws, agent = copy.deepcopy((rng, extra))  # a scan hangs not on those before
        vessels = _vessels(agent, axes, inside, tissue, place) if contrast.vessels else None
        truth = np.full([OVERSAMPLING * size for size in shape], contrast.csf, np.float32)
        truth[inside] = _contrast(draws, axes, inside, tissue, place, contrast, parts, vessels)
        truth = pool(truth)
        truth[outside] = 0
        snr = draws.uniform(*settings["white_matter_snr"])
        sigma = truth[labels == regions.WHITE_MATTER].mean() / snr
        yield Subject(
            scan=_acquire(draws, truth, sigma),
            rescan=_acquire(draws, truth, sigma),
            truth=truth,
            labels=labels,
            lesions=lesion_labels,
            affine=affine,
            covariates={
                "age": person["age"],
                "sex": person["sex"],
                "pathology": pathology,
                "modality": modality,
                **regions.volumes(labels, affine),
                **lesions.volumes(lesion_labels, affine),
                "white_matter_snr": round(float(snr), 2),
            },
        )


def write_cohort(study, subjects, settings, shape, seed):
    """Make the `subjects` (names that end in -<number>) and write them below study.root/cohort.

    Images are float32 NIfTI on their own scale, the scan named by its modality; labels uint8,
    lesions only if the cohort has other pathologies than healthy; <subject>.json holds
    covariates. `settings` is the section data.demo: beside those of `make_scans`, modalities,
    pathologies and all_modalities.
    """
    people = cells.people(subjects, settings)
    bar = progress(total=len(subjects), description="making brains", unit="subject")
    for number, scans in people.items():
        kinds = [cells.cell(cells.number_of(scan), seed, settings) for scan in scans]
        pathology, modalities = kinds[0][0], [modality for _, modality in kinds]
        made = make_scans(number, seed, settings, shape, pathology, modalities)
        for subject, modality, scan in zip(scans, modalities, made, strict=True):
            images = {modality: scan.scan, "truth": scan.truth, "rescan": scan.rescan}
            for kind, image in images.items():
                save_intensities(study.cohort(kind, subject), image, scan.affine)
            save_labels(study.cohort("labels", subject), scan.labels, scan.affine)
            if cells.has_lesions(settings):
                save_labels(study.cohort("lesions", subject), scan.lesions, scan.affine)
            about = {"person": number} if cells.scans_of_a_person(settings) > 1 else {}
            write_json(study.covariates(subject), about | scan.covariates)
            bar.update()
    bar.close()


def drawing_axes(spacing, shape):
    """World coordinates (mm) along each axis of the grid on which anatomy is drawn."""
    fine = spacing / OVERSAMPLING
    counts = [OVERSAMPLING * size for size in shape]
    return [
        middle + fine * (np.arange(count) - (count - 1) / 2)
        for middle, count in zip(CENTRE, counts, strict=True)
    ]


def _draw_person(rng, pathology="healthy", ageing="weak"):
    """Sex, age and what follows from them: head size, ventricles, width of the sulci."""
    sex = str(rng.choice(["F", "M"]))
    age = float(np.round(rng.uniform(*AGES[pathology]), 1))
    # Men's brains are about 10 % larger in volume.
    size = SIZE + (0.014 if sex == "M" else -0.014) + 0.014 * np.clip(rng.normal(), -2, 2)
    shape = 1 + 0.012 * np.clip(rng.normal(size=3), -2, 2)
    older = (age - 50) / 30  # -1..1
    wider = np.clip(rng.normal(), -2, 2)
    ventricles = 1.0 + 1.2 * older + 0.8 * wider  # mm of growth
    atrophy = 0.3 * older + 0.2 * rng.normal()  # log-odds of fluid in the sulci
    scale = size * shape
    if ageing == "full":
        # Slow at first, faster later, and more different from one person to another.
        years = max(age - 30, 0)
        scale = scale * (1 - 0.001 * years - 0.00004 * years**2) ** (1 / 3)
        ventricles += 6.5 * (years / 50) ** 2 * (1 + 0.5 * wider)
        atrophy += 0.3 * (years / 50) ** 2
    if pathology == "dementia":
        scale = scale * 0.94 ** (1 / 3)
        ventricles += 8.0
        atrophy += 1.4
    return {
        "sex": sex,
        "age": age,
        "scale": scale,
        "ventricles": min(ventricles, 20.0),  # some 70 ml
        "atrophy": atrophy,
    }


def _spline_field(rng, axes, sigma):
    """A smooth random field (X, Y, Z) of unit variance on the grid spanned by three `axes` (mm).

    It is a cubic B-spline with random coefficients; its kernel is close to a Gaussian of `sigma`
    mm. Being separable, it costs three small matrix products whatever the smoothness.
    """
    step = sigma * np.sqrt(3)  # a cubic B-spline of knot distance h has variance h^2 / 3
    bases = [_spline_basis(axis, step) for axis in axes]
    field = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    field = _separable(field, bases)
    return field / np.float32((151 / 315) ** 1.5)  # mean sum of squares of the basis, cubed


def _spline_fields(rng, sigma):
    """Three such fields (3, *lattice), bounded to 2 so that no head outgrows the scanner."""
    return np.stack([2 * np.tanh(_spline_field(rng, LATTICE, sigma) / 2) for _ in range(3)])


def _spline_basis(axis, step):
    """Cubic B-spline values (len(axis), knots) for positions `axis` in mm."""
    knots = np.arange(np.floor(axis[0] / step) - 1, np.ceil(axis[-1] / step) + 2)
    distance = np.abs(axis[:, None] / step - knots)
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _linear_basis(axis, nodes):
    """Hat functions (len(axis), len(nodes)): linear interpolation between equidistant nodes."""
    distance = np.abs(axis[:, None] - nodes) / (nodes[1] - nodes[0])
    return np.clip(1 - distance, 0, None).astype(np.float32)


def _separable(values, bases):
    """Apply one matrix along each of the last three axes of `values`."""
    for axis, basis in zip((-3, -2, -1), bases, strict=True):
        values = np.moveaxis(np.tensordot(values, basis, axes=(axis, 1)), -1, axis)
    return values


def _diffeomorphism(rng, ventricles, disease=None):
    """Displacement (3, *lattice) in mm of an invertible map onto the template.

    The exponential of a stationary velocity field cannot fold: broad differences of shape
    (2.6 mm at a scale of 20 mm), local ones (0.8 mm at 7 mm), `ventricles` that grow by so
    many mm, and what the lesions `disease` displace.
    """
    velocity = 2.6 * _spline_fields(rng, 20.0) + 0.8 * _spline_fields(rng, 7.0)
    velocity += ventricles * template().inflow
    if isinstance(disease, lesions.Tumour):
        velocity += lesions.push(disease, np.stack(np.meshgrid(*LATTICE, indexing="ij")))
    squarings = 4
    displacement = velocity / 2**squarings
    nodes = np.indices(displacement.shape[1:], dtype=np.float32)
    step = LATTICE[0][1] - LATTICE[0][0]
    for _ in range(squarings):
        moved = nodes + displacement / step
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(part, moved, order=1, mode="nearest") for part in displacement]
        )
    return displacement


def _place(axes, displacement):
    """Where anatomy is drawn: mask of the grid, and at its N points the maps of the template.

    Beside maps (N,) the place holds the points (3, N) themselves, in mm.
    """
    reference = template()
    nearest = [
        np.clip(np.round(axis - start).astype(int), 0, size - 1)
        for axis, start, size in zip(axes, reference.origin, reference.depth.shape, strict=True)
    ]
    inside = reference.depth[np.ix_(*nearest)] > -12  # mm: further than anything moves
    grid = np.broadcast_arrays(*np.ix_(*(axis.astype(np.float32) for axis in axes)))
    bases = [_linear_basis(axis, nodes) for axis, nodes in zip(axes, LATTICE, strict=True)]
    moved = [_separable(shift, bases)[inside] for shift in displacement]
    points = np.stack([part[inside] for part in grid]) + np.stack(moved)

    depth = reference.sample("depth", points)
    near = depth > -4  # mm: the rest is fluid that skull stripping removes
    inside[inside] = near
    points = points[:, near]
    place = {"points": points, "depth": depth[near]}
    for name in ("ventricles", "hindbrain", "regional", "white", "csf"):
        place[name] = reference.sample(name, points)
    place["compartment"] = reference.sample("compartment", points, order=0)
    place["cerebrum"] = reference.sample("cerebrum", points, order=0)
    return inside, place


def _tissue(rng, axes, inside, place, person):
    """Fractions of white matter and of fluid at the points (N,); the rest is grey matter."""
    # An average of 152 brains is blurred; steeper odds give it one brain's sharp boundaries, and
    # random ones its own gyri. Averaging also fills the sulci, so fluid gets its odds back.
    white, csf = 2.2 * place["white"], 2.2 * place["csf"]
    outer = np.exp(-np.clip(place["depth"], 0, None) / 15)
    white += 1.0 * _spline_field(rng, axes, 3.0)[inside]
    csf += outer * (1.5 * _spline_field(rng, axes, 2.5)[inside] + 1.8 + 2 * person["atrophy"])
    leaves = place["hindbrain"] > 0.5
    fissure, leaf = _folia(
        place["points"][:, leaves],
        place["depth"][leaves],
        _spline_field(rng, axes, 10.0)[inside][leaves],
    )
    # In the blurred average most of the cerebellum is surely grey; leave the leaves a chance.
    csf[leaves] = np.maximum(csf[leaves], -4) + fissure
    white[leaves] = np.maximum(white[leaves], -4) + leaf
    # softmax with grey matter as reference
    white, csf = np.exp(np.clip(white, -12, 12)), np.exp(np.clip(csf, -12, 12))
    total = 1 + white + csf
    return {"white": white / total, "csf": csf / total}


def _folia(points, depth, wander):
    """Change of the log-odds of fluid and of white matter (N,) by the leaves of the cerebellum.

    The fissures run from left to right and lie in a fan around the fourth ventricle. A few are
    deep and divide the lobules, many are shallow; white matter branches between them. `wander`
    is a random phase that makes them individual.
    """
    x, y, z = points - np.array([[0.0], [-47.0], [-33.0]], np.float32)
    # The hemispheres bend backwards, so that the fissures are arcs seen from above.
    back = y + x**2 / 110
    angle = np.arctan2(z, -back)
    # Where the fan converges lie the nuclei and peduncles, without leaves.
    unfolded = np.clip((np.sqrt(back**2 + z**2 + (x / 2) ** 2) - 10) / 8, 0, 1)
    fissure = leaf = 0
    for count, reach, strength in ((9, 12.0, 3.0), (26, 8.0, 3.5)):
        wave = unfolded * np.cos(count * angle + 1.5 * wander)
        near = strength * np.exp(-np.clip(depth, 0, None) / reach)
        fissure = fissure + near * wave
        leaf = leaf - 0.6 * strength * wave
    return fissure, leaf


def _vessels(rng, axes, inside, tissue, place):
    """Fraction (N,) of what contrast agent shows in every brain: choroid plexus and veins.

    The glomus of the plexus in both atria, the sagittal sinus along the falx, and cortical veins
    in some of the sulci.
    """
    x, y, z = place["points"]
    plexus = ((abs(x) - 22) / 5) ** 2 + ((y + 37) / 8) ** 2 + ((z - 11) / 9) ** 2 < 1
    sinus = np.exp(-((x / 2.5) ** 2)) * (place["depth"] < 8) * (z > -10)
    veins = (_spline_field(rng, axes, 2.5)[inside] > 0.9) * (place["depth"] < 14) * tissue["csf"]
    return np.maximum.reduce([0.7 * plexus * place["ventricles"], 0.9 * sinus, veins])


def _contrast(rng, axes, inside, tissue, place, contrast, parts, vessels):
    """Noise-free intensity (N,) of tissues, lesions and vessels under the coil's bias field."""
    csf, grey, white = (
        mean + spread * np.clip(rng.normal(), -2, 2)
        for mean, spread in ((contrast.csf, 0.01), (contrast.grey, 0.02), (contrast.white, 0.02))
    )
    image = grey + (white - grey) * tissue["white"] + (csf - grey) * tissue["csf"]
    image += contrast.regional * place["regional"] * (1 - tissue["csf"])
    if vessels is not None:
        image += vessels * (contrast.vessels - image)
    if parts:
        image *= 1 - sum(parts.values())
        for code, share in parts.items():
            image += share * getattr(contrast, lesions.NAMES[code])
    image *= 1 + 0.035 * _spline_field(rng, axes, 1.8)[inside]  # fibres, vessels, layers
    image *= np.exp(0.04 * _spline_field(rng, axes, 45.0)[inside])
    return image


def pool(values):
    """Average blocks of the drawing grid into voxels: the partial volume effect."""
    x, y, z = (size // OVERSAMPLING for size in values.shape)
    blocks = values.reshape(x, OVERSAMPLING, y, OVERSAMPLING, z, OVERSAMPLING)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def _share(inside, values):
    """Mean over each voxel (X, Y, Z) of values at the points (N,); 0 elsewhere."""
    full = np.zeros(inside.shape, np.float32)
    full[inside] = values
    return pool(full)


def _label(inside, tissue, place, spacing):
    """Region codes (X, Y, Z): what fills most of a voxel."""
    grey = 1 - tissue["white"] - tissue["csf"]
    hindbrain = place["hindbrain"] > 0.5
    cortex = place["compartment"] == CEREBRUM
    cerebrum = cortex | (place["compartment"] == DEEP)
    # Skull stripping follows the brain's surface smoothly, not voxel by voxel.
    skull = ndimage.gaussian_filter(_share(inside, place["depth"] > 0), 1.5 / spacing) < 0.5
    labels = np.where(skull, regions.BACKGROUND, regions.OTHER)
    for region, values in (
        (regions.WHITE_MATTER, cerebrum * tissue["white"]),
        (regions.GREY_MATTER, cortex * grey),
        (regions.VENTRICLES, place["ventricles"] > 0.5),
        (regions.CEREBELLUM, hindbrain * (1 - tissue["csf"])),
    ):
        labels[(labels > 0) & (_share(inside, values) > 0.5)] = region
    return labels.astype(np.uint8)


def _label_lesions(inside, parts, labels):
    """Lesion codes (X, Y, Z): the main one where lesions fill most of a voxel of the brain."""
    result = np.zeros(labels.shape, np.uint8)
    if parts:
        filled = np.stack([_share(inside, share) for share in parts.values()])
        most = (filled.sum(0) > 0.5) & (labels > 0)
        result[most] = np.array(list(parts), np.uint8)[filled.argmax(0)][most]
    return result


def _acquire(rng, truth, sigma):
    """Magnitude image: Rician, as the two channels of the receiver carry Gaussian noise.

    The scanner's filters correlate neighbouring voxels a little. The skull-stripped background
    stays exactly 0.
    """
    real, imaginary = (
        ndimage.gaussian_filter(rng.standard_normal(truth.shape, dtype=np.float32), 0.45)
        for _ in range(2)
    )
    sigma = sigma / real.std()  # the filter took variance away
    image = np.hypot(truth + sigma * real, sigma * imaginary)
    return np.where(truth > 0, image, 0).astype(np.float32)
