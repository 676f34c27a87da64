"""The bundle's folder, and what a study that uses it must not ask for besides.

Standard library only: the Snakefile imports it.
"""

from pathlib import Path

from realdeal.errors import InputError

CONFIG = "configs/inference.json"
METADATA = "configs/metadata.json"
AUTOENCODER = "models/autoencoder.pt"
DIFFUSION = "models/model.pt"
DIGESTS = "large_files.yml"  # names the digests of the weights; not every copy has it


def bundle_files(config):
    """The paths of all files of the bundle that the configuration `config` names.

    InputError if the folder or a file of it is missing, or if other settings contradict it.
    """
    if config["sampling"]["coarse"] == "external":
        raise InputError(
            "ldm.source: monai-bundle and sampling.coarse: external both make the synthetic "
            "volumes; choose one"
        )
    if config["ldm"]["conditioning"] is not None:
        raise InputError(
            "ldm.conditioning: is for the LDM that a study trains, the bundle has its own four "
            "covariates; set it to null"
        )
    folder = config["ldm"]["bundle"]
    if folder is None:
        raise InputError("ldm.bundle: is not set; name the bundle's folder (docs/bundle.md)")
    if not Path(folder).is_dir():
        raise InputError(f"ldm.bundle: {folder} is no folder; check the path")
    paths = [Path(folder, name) for name in (CONFIG, METADATA, AUTOENCODER, DIFFUSION)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"ldm.bundle: {path} is missing; fetch the bundle again")
    digests = Path(folder, DIGESTS)
    return [str(path) for path in [*paths, *([digests] if digests.is_file() else [])]]
