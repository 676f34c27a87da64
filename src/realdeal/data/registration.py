"""Bias correction, registration and resampling by ANTs, through either of two engines.

`antspyx` brings ANTs inside a Python package. `nipype` runs ANTs' own programs, for sites that
have them installed and validated. Both take the same steps with the same parameters; transforms
are files of ANTs in a folder of the caller's, named <prefix>0GenericAffine.mat and, where they
deform, <prefix>1Warp.nii.gz and <prefix>1InverseWarp.nii.gz.
"""

import os
import shutil
from pathlib import Path

import numpy as np

from realdeal.data.volumes import Volume, load_image, load_volume, save_intensities
from realdeal.errors import InputError

# ITK asks for its number of threads when it is loaded; its sums differ with it.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
SEED = 1  # of the voxels that the metric samples: the same scan, the same transform
SPLINE_DISTANCE = 200.0  # mm between the knots of a bias field, as in ANTs' pipelines
SHRUNK_VOXEL = 4.0  # mm: fine enough for a bias field
N4_ITERATIONS, N4_TOLERANCE = [50, 50, 50, 50], 1e-7
METRIC_BINS, SAMPLING = 32, 0.5  # of the mutual information: bins, share of the voxels
STEP, SYN_STEP = 0.25, 0.2
# Levels of a linear registration: mm that a voxel has there at least, greatest number of steps.
LEVELS = {
    "search": ((8, 100), (4, 20)),
    "rigid": ((8, 500), (4, 500), (2, 100), (0, 20)),
    "affine": ((8, 500), (4, 500), (2, 100)),
}
CORRELATION_RADIUS = 3  # voxels; SyN compares by local correlation, whatever the contrast
SYN = {"iterations": [40, 20, 0], "shrink_factors": [4, 2, 1], "smoothing_sigmas": [2, 1, 0]}

PROGRAMS = ("N4BiasFieldCorrection", "antsRegistration", "antsApplyTransforms")


def make_engine(name, folder):
    """The engine `antspyx` or `nipype`; its intermediate files go to `folder`, which exists.

    InputError if its package or ANTs' programs are missing.
    """
    return {"antspyx": Antspyx, "nipype": Nipype}[name](Path(folder))


def transforms(prefix, inverse=False):
    """The files of a registration in ANTs' order, and for each whether it is to be inverted.

    Forwards they bring the moving volume to the fixed one, inverse the fixed to the moving one.
    """
    affine = f"{prefix}0GenericAffine.mat"
    warp = f"{prefix}1{'Inverse' if inverse else ''}Warp.nii.gz"
    warps = [warp] if Path(warp).exists() else []
    if inverse:
        return [affine, *warps], [True, *([False] * len(warps))]
    return [*warps, affine], [False] * (len(warps) + 1)


class Antspyx:
    """ANTs inside Python."""

    def __init__(self, folder):
        try:
            import ants
        except ImportError as error:
            raise InputError(
                "data.bids.engine: antspyx is not installed; pip install antspyx"
            ) from error
        self.ants, self.folder = ants, folder

    def correct_bias(self, volume, mask):
        """Divide out the smooth bias field that N4 finds in `mask` (X, Y, Z), bool."""
        corrected = self.ants.n4_bias_field_correction(
            self._image(volume),
            mask=self._image(volume._replace(data=mask)),
            shrink_factor=shrink_factor(volume),
            convergence={"iters": N4_ITERATIONS, "tol": N4_TOLERANCE},
            spline_param=SPLINE_DISTANCE,
        )
        return volume._replace(data=corrected.numpy())

    def align(self, kind, fixed, moving, mask, prefix, start=None):
        """Register `moving` to `fixed`; returns the prefix of the files.

        kind: rigid, search (rigid, coarsely), affine, or deformable (SyN alone). Images are
        compared inside `mask`, which lies on the grid of `fixed`. `start` is the file of a
        linear transform to begin with, which the result contains; None is the identity.
        """
        prefix = str(self.folder / prefix)
        if kind == "deformable":
            how = {
                "type_of_transform": "SyNOnly",
                "syn_metric": "CC",
                "syn_sampling": CORRELATION_RADIUS,
                "reg_iterations": SYN["iterations"],
            }
        else:
            levels = schedule(kind, fixed)
            how = {f"aff_{key}": tuple(values) for key, values in levels.items()}
            how["type_of_transform"] = "Affine" if kind == "affine" else "Rigid"
        try:
            self.ants.registration(
                self._image(fixed),
                self._image(moving),
                initial_transform=str(start or "Identity"),
                mask=self._image(fixed._replace(data=mask)),
                mask_all_stages=True,
                outprefix=prefix,
                grad_step=SYN_STEP,
                aff_random_sampling_rate=SAMPLING,
                random_seed=SEED,
                **how,
            )
        except RuntimeError as error:
            raise InputError(f"{kind} registration failed ({error}); look at the scan") from error
        return prefix

    def resample(self, volume, like, prefix, interpolation, inverse=False):
        """`volume` moved by a registration to the grid of `like`, 0 where it has nothing.

        `interpolation` is linear, bSpline (cubic) or genericLabel.
        """
        files, inverted = transforms(prefix, inverse)
        moved = self.ants.apply_transforms(
            self._image(like),
            self._image(volume),
            files,
            interpolator=interpolation,
            whichtoinvert=inverted,
        )
        return like._replace(data=moved.numpy())

    def _image(self, volume):
        # ANTs counts to the left and the back, we to the right and the front.
        flip = np.diag([-1.0, -1.0, 1.0])
        return self.ants.from_numpy(
            np.ascontiguousarray(volume.data, dtype=np.float32),
            origin=(flip @ volume.affine[:3, 3]).tolist(),
            spacing=volume.spacing.tolist(),
            direction=flip @ volume.affine[:3, :3] / volume.spacing,
        )


class Nipype:
    """ANTs' programs, run by nipype. Methods as those of `Antspyx`."""

    def __init__(self, folder):
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            raise InputError(
                f"data.bids.engine: nipype runs ANTs' programs, and {missing[0]} is not on the "
                "PATH; install ANTs or load its module, or set engine to antspyx"
            )
        self.folder = folder

    def correct_bias(self, volume, mask):
        image, mask = self._write("image", volume), self._write("mask", volume, mask)
        output = self.folder / "corrected.nii.gz"
        self._run(n4_command(image, mask, output, shrink_factor(volume)))
        return volume._replace(data=load_volume(output).data)

    def align(self, kind, fixed, moving, mask, prefix, start=None):
        levels = SYN if kind == "deformable" else schedule(kind, fixed)
        mask = self._write("mask", fixed, mask)
        fixed, moving = self._write("fixed", fixed), self._write("moving", moving)
        prefix = str(self.folder / prefix)
        self._run(registration_command(kind, fixed, moving, mask, prefix, levels, start))
        return prefix

    def resample(self, volume, like, prefix, interpolation, inverse=False):
        volume, reference = self._write("moving", volume), self._write("fixed", like)
        output = self.folder / "moved.nii.gz"
        files, inverted = transforms(prefix, inverse)
        self._run(apply_command(volume, reference, output, files, inverted, interpolation))
        # Not load_volume: what lies beside the grid becomes 0 everywhere, as with antspyx.
        return Volume(np.asarray(load_image(output).dataobj, np.float32), like.affine)

    def _write(self, name, volume, data=None):
        path = self.folder / f"{name}.nii.gz"
        save_intensities(path, volume.data if data is None else data, volume.affine)
        return path

    def _run(self, interface):
        try:
            interface.run(cwd=str(self.folder))
        except (RuntimeError, OSError) as error:
            # nipype's message holds the command and what it printed; the last line is the reason.
            reason = str(error).strip().splitlines()[-1].strip()
            raise InputError(
                f"{interface.cmd} failed ({reason}); the command was: {interface.cmdline}"
            ) from error


def shrink_factor(volume):
    """How far N4 may coarsen a volume."""
    return max(1, round(SHRUNK_VOXEL / float(volume.spacing.max())))


def n4_command(image, mask, output, shrink):
    """nipype's interface of N4BiasFieldCorrection; its `cmdline` is the command."""
    from nipype.interfaces.ants import N4BiasFieldCorrection

    return N4BiasFieldCorrection(
        dimension=3,
        input_image=str(image),
        mask_image=str(mask),
        output_image=str(output),
        shrink_factor=shrink,
        n_iterations=N4_ITERATIONS,
        convergence_threshold=N4_TOLERANCE,
        bspline_fitting_distance=SPLINE_DISTANCE,
    )


def schedule(kind, fixed):
    """Iterations, shrink factors and smoothing (voxels) of a kind of `LEVELS` on a grid."""
    levels = [(max(1, round(mm / float(fixed.spacing.max()))), n) for mm, n in LEVELS[kind]]
    return {
        "iterations": [iterations for _, iterations in levels],
        "shrink_factors": [shrink for shrink, _ in levels],
        "smoothing_sigmas": [shrink // 2 for shrink, _ in levels],
    }


def registration_command(kind, fixed, moving, mask, prefix, levels, start=None):
    """nipype's interface of antsRegistration; `levels` as `schedule` gives them."""
    from nipype.interfaces.ants import Registration

    if kind == "deformable":
        how = {
            "transforms": ["SyN"],
            "transform_parameters": [(SYN_STEP, 3.0, 0.0)],
            "metric": ["CC"],
            "radius_or_number_of_bins": [CORRELATION_RADIUS],
            "convergence_threshold": [1e-7],
            "convergence_window_size": [8],
        }
    else:
        how = {
            "transforms": ["Affine" if kind == "affine" else "Rigid"],
            "transform_parameters": [(STEP,)],
            "metric": ["Mattes"],
            "radius_or_number_of_bins": [METRIC_BINS],
            "sampling_strategy": ["Regular"],
            "sampling_percentage": [SAMPLING],
            "convergence_threshold": [1e-6],
            "convergence_window_size": [10],
        }
    if start:
        how["initial_moving_transform"] = [str(start)]
    return Registration(
        dimension=3,
        float=True,
        fixed_image=str(fixed),
        moving_image=str(moving),
        fixed_image_masks=[str(mask)],
        metric_weight=[1.0],
        number_of_iterations=[levels["iterations"]],
        shrink_factors=[levels["shrink_factors"]],
        smoothing_sigmas=[levels["smoothing_sigmas"]],
        sigma_units=["vox"],
        use_histogram_matching=[False],
        output_transform_prefix=str(prefix),
        random_seed=SEED,
        write_composite_transform=False,
        collapse_output_transforms=True,
        **how,
    )


def apply_command(volume, reference, output, files, inverted, interpolation):
    """nipype's interface of antsApplyTransforms."""
    from nipype.interfaces.ants import ApplyTransforms

    return ApplyTransforms(
        dimension=3,
        float=True,
        input_image=str(volume),
        reference_image=str(reference),
        output_image=str(output),
        transforms=[str(file) for file in files],
        invert_transform_flags=inverted,
        interpolation=interpolation[0].upper() + interpolation[1:],
    )
