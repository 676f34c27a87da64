"""The command `realdeal`."""

import argparse
import sys
from pathlib import Path

from realdeal.errors import InputError

SUFFIXES = (".nii.gz", ".nii")


def volumes_in(path):
    """The NIfTI volumes of a file or folder as {name: path}; InputError if there are none."""
    path = Path(path)
    if path.is_file():
        candidates = [path]
    elif path.is_dir():
        candidates = sorted(path.iterdir())
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
    """Refine one volume or a folder of volumes, one after another; finished ones are kept."""
    from realdeal.refinement.workflow import refine_file

    inputs = volumes_in(arguments.input)
    output = Path(arguments.output)
    single = Path(arguments.input).is_file()
    for number, (name, path) in enumerate(inputs.items(), 1):
        target = output if single else output / f"{name}.nii.gz"
        if target.exists() and not arguments.overwrite:
            print(f"[{number}/{len(inputs)}] {target} is there already (--overwrite makes it anew)")
            continue
        print(f"[{number}/{len(inputs)}] {path} -> {target}")
        refine_file(
            path,
            target,
            arguments.model,
            name=name,
            steps=arguments.steps,
            sampler=arguments.sampler,
            seed=arguments.seed,
        )


def seeds(arguments):
    """Tabulate the gap closures of studies that differ by their seed."""
    from realdeal.paper.seeds import compare_seeds

    print(compare_seeds(arguments.study, arguments.output).to_string(index=False))


def parser():
    top = argparse.ArgumentParser(prog="realdeal", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("refine", help="make smooth volumes look scanned")
    command.add_argument("input", help="volume or folder of volumes (.nii, .nii.gz) in [-1, 1]")
    command.add_argument("output", help="file, or folder for a folder")
    command.add_argument("--model", required=True, help="refiner.safetensors of a study")
    command.add_argument("--steps", type=int, default=8, help="steps per patch (default 8)")
    command.add_argument("--sampler", choices=("ddim", "ddpm"), default="ddim")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(run=refine)
    command = commands.add_parser("seeds", help="tabulate gap closures of several seeds")
    command.add_argument("study", nargs="+", help="folders of studies, one for each seed")
    command.add_argument("--output", required=True, help="Markdown file")
    command.set_defaults(run=seeds)
    return top


def main(argv=None):
    """Entry point; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except InputError as error:
        print(f"realdeal: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
