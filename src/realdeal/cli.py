"""The command `realdeal`."""

import argparse
import sys
from pathlib import Path

from realdeal.errors import InputError, one_line

SUFFIXES = (".nii.gz", ".nii")


def volumes_in(path):
    """The NIfTI volumes of a file or folder as {name: path}; InputError if there are none."""
    path = Path(path)
    if path.is_file():
        candidates = [path]
    elif path.is_dir():
        # hidden files are what a killed run has left of a volume
        candidates = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    else:
        raise InputError(f"{path}: no such file or folder")
    found = {}
    for candidate in candidates:
        for suffix in SUFFIXES:
            if candidate.name.endswith(suffix):
                name = candidate.name.removesuffix(suffix)
                if name in found:
                    raise InputError(f"{candidate}: {found[name].name} is there too; keep one")
                found[name] = candidate
                break
    if not found:
        raise InputError(f"{path}: holds no .nii or .nii.gz volume")
    return found


def refine(arguments):
    """Refine one volume or a folder of volumes, one after another; finished ones are kept.

    A volume that cannot be refined is named and does not stop the others.
    """
    from realdeal.refinement.refiner import Refiner

    refiner = Refiner.load(arguments.model, arguments.device)
    inputs = volumes_in(arguments.input)
    output = Path(arguments.output)
    single = Path(arguments.input).is_file()
    failed = []
    for number, (name, path) in enumerate(inputs.items(), 1):
        target = output if single else output / f"{name}.nii.gz"
        if target.exists() and not arguments.overwrite:
            print(f"[{number}/{len(inputs)}] {target} is there already (--overwrite makes it anew)")
            continue
        print(f"[{number}/{len(inputs)}] {path} -> {target}")
        try:
            refiner.refine_file(
                path,
                target,
                name=name,
                seed=arguments.seed,
                intensity=arguments.intensity,
                traversal=arguments.traversal,
                sampler=arguments.sampler,
                steps=arguments.steps,
                spacing="uniform" if arguments.sampler == "ddpm" else "detail",
            )
        except InputError as error:
            print(f"realdeal: {error}", file=sys.stderr)
            failed.append(path)
    if failed:
        raise InputError(f"{len(failed)} of {len(inputs)} volumes could not be refined, see above")


def evaluate(arguments):
    """Measure candidates against a reference and print, and save, the table."""
    import json
    import tempfile

    from realdeal.files import atomic_path, write_table
    from realdeal.metrics.evaluate import METRICS, readable
    from realdeal.metrics.evaluate import evaluate as measure
    from realdeal.metrics.weights import alexnet_weights

    metrics = arguments.metrics.split(",") if arguments.metrics else list(METRICS)
    if unknown := set(metrics) - set(METRICS):
        raise InputError(f"--metrics {sorted(unknown)[0]}: choose from {','.join(METRICS)}")
    if "noise" in metrics and arguments.regions is None:
        if arguments.metrics:
            raise InputError("--metrics noise: needs --regions, label volumes of the reference")
        metrics.remove("noise")
        print("noise is left out: it needs --regions, label volumes of the reference")
    reference = volumes_in(arguments.reference)
    candidates = {label_of(path): volumes_in(path) for path in arguments.candidate}
    if len(candidates) < len(arguments.candidate):
        raise InputError("two candidates have the same name; rename one of the folders")
    for label, files in candidates.items():
        if len(reference) == len(files) == 1 and not arguments.unpaired:
            # Two single files belong together whatever their names.
            candidates[label] = {next(iter(reference)): next(iter(files.values()))}
    if arguments.unpaired:
        candidates = {
            label: {f"{label}-{name}": path for name, path in files.items()}
            for label, files in candidates.items()
        }
    if not any(set(files) <= set(reference) for files in candidates.values()):
        from realdeal.metrics.evaluate import PAIRED

        kept = [metric for metric in metrics if metric not in PAIRED]
        if not arguments.metrics and kept != metrics:
            print("no candidate has the reference's names: only whole sets are compared")
            metrics = kept
    grid = None
    if arguments.patch_grid:
        spacing, *offsets = arguments.patch_grid
        if spacing < 2 or len(offsets) not in (0, 3):
            raise InputError("--patch-grid: give its spacing in voxels, or that and three offsets")
        grid = spacing, offsets or (0, 0, 0)
    settings = {
        "patch_size": arguments.patch_size,
        "patches": arguments.patches,
        "bootstrap": arguments.bootstrap,
        "hog": {"orientations": 9, "pixels_per_cell": 8},
        "noise": {
            "model": arguments.noise_model,
            "bins": 64,
            "range": [-0.15, 0.15],
            "pseudocount": 1.0,
        },
        "sharpness": {"sigma": 0.5},
        "distribution": {"features": arguments.features, "neighbours": [5, 10, 20]},
    }
    with tempfile.TemporaryDirectory(prefix="realdeal-") as folder:
        table = measure(
            reference,
            candidates,
            folder,
            metrics=metrics,
            settings=settings,
            seed=arguments.seed,
            weights=lambda: alexnet_weights(Path(arguments.weights)),
            regions=volumes_in(arguments.regions) if arguments.regions else None,
            intensity=arguments.intensity,
            grids=dict.fromkeys(candidates, grid) if grid else None,
        )
    print()
    print(readable(table))
    print(
        f"\n{arguments.patches} patches of {arguments.patch_size} voxels per volume and dimension; "
        f"features: {arguments.features}; seed {arguments.seed}. Brackets: 95 % interval of a "
        "bootstrap over volumes. 'reference itself': its two halves against each other "
        "(sharpness: its own)."
    )
    if arguments.csv:
        write_table(Path(arguments.csv), table)
    if arguments.json:
        with atomic_path(Path(arguments.json)) as temporary:
            content = {"settings": settings, "scores": json.loads(table.to_json(orient="records"))}
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def label_of(path):
    """What a candidate is called: the name of its folder or file."""
    name = Path(path).resolve().name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def seeds(arguments):
    """Tabulate what studies that differ by their seed found."""
    from realdeal.paper.seeds import compare_seeds

    print(compare_seeds(arguments.study, arguments.output).to_string(index=False))


def ways(arguments):
    """Tabulate the refinement studies of several seeds."""
    from realdeal.paper.refinement_study import over_seeds

    print(over_seeds(arguments.study, arguments.output))


def parser():
    top = argparse.ArgumentParser(prog="realdeal", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("refine", help="make smooth volumes look scanned")
    command.add_argument("input", help="skull-stripped volume (.nii, .nii.gz), or a folder of them")
    command.add_argument("output", help="file, or folder for a folder")
    command.add_argument("--model", required=True, help="refiner.safetensors of a study")
    command.add_argument("--steps", type=int, default=4, help="steps per patch (default 4)")
    command.add_argument(
        "--sampler",
        choices=("texture", "ddim", "ddpm"),
        default="texture",
        help="default texture; published: ddpm with 1,000 steps",
    )
    command.add_argument(
        "--traversal",
        choices=("joint", "published"),
        default="joint",
        help="all patches together (default), or one after another",
    )
    command.add_argument(
        "--intensity",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="background and brightest value; default: found in each volume",
    )
    command.add_argument("--device", help="cpu, cuda or cuda:N; default: a GPU if there is one")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(run=refine)
    command = commands.add_parser("evaluate", help="measure volumes against a reference")
    command.add_argument("reference", help="volume or folder of volumes (.nii, .nii.gz)")
    command.add_argument("candidate", nargs="+", help="the same; names decide what is a pair")
    command.add_argument("--regions", help="label volumes of the reference, 1 to 5")
    command.add_argument("--metrics", help="comma-separated; default: all that apply")
    command.add_argument(
        "--intensity", nargs=2, type=float, metavar=("LOW", "HIGH"), help="become -1 and 1"
    )
    command.add_argument(
        "--patch-grid",
        nargs="+",
        type=int,
        metavar="N",
        help="measure seams of patches that meet every N voxels (then three offsets, if not 0)",
    )
    command.add_argument("--unpaired", action="store_true", help="compare whole sets only")
    command.add_argument("--patch-size", type=int, default=64, help="voxels (default 64)")
    command.add_argument("--patches", type=int, default=1000, help="per volume and dimension")
    command.add_argument("--features", choices=("alexnet", "inception"), default="alexnet")
    command.add_argument("--noise-model", choices=("Rician", "Gaussian"), default="Rician")
    command.add_argument("--bootstrap", type=int, default=200, help="draws (default 200)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--weights",
        default=Path.home() / ".cache/realdeal",
        help="folder of the AlexNet weights, fetched once (default ~/.cache/realdeal)",
    )
    command.add_argument("--csv", help="file for the table")
    command.add_argument("--json", help="file for settings and table")
    command.set_defaults(run=evaluate)
    command = commands.add_parser("seeds", help="tabulate what several seeds found")
    command.add_argument("study", nargs="+", help="folders of studies, one for each seed")
    command.add_argument("--output", required=True, help="Markdown file")
    command.set_defaults(run=seeds)
    command = commands.add_parser("ways", help="tabulate refinement studies of several seeds")
    command.add_argument("study", nargs="+", help="folders of studies, one for each seed")
    command.add_argument("--output", required=True, help="Markdown file")
    command.set_defaults(run=ways)
    return top


def main(argv=None):
    """Entry point; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        print(f"realdeal: {line}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
