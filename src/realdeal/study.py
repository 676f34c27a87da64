"""Where the files of a study lie: the one place that knows the file grammar.

Standard library only: the Snakefile imports it.
"""

from pathlib import Path

VARIANTS = (
    "original",
    "reconstructed",
    "reconstructed-refined",
    "synthetic",
    "synthetic-refined",
    "rescan",  # demo cohort only: a second noise draw of the same brain
)


def way_name(way):
    """What a way of refining (the config's `sampling.refiner`) is called: published-ddpm-1000."""
    return f"{way['traversal']}-{way['sampler']}-{way['steps']}"


class Study:
    """The paths of one study below its root, e.g. `results/demo`."""

    def __init__(self, root):
        self.root = Path(root)

    def cohort(self, kind, subject):
        """Scans made or fetched; kind is their modality, labels, lesions, truth or rescan."""
        return self.root / "cohort" / f"{subject}_{kind}.nii.gz"

    def covariates(self, subject):
        """What is known of a demo or BIDS subject: age, sex..."""
        return self.root / "cohort" / f"{subject}.json"

    @property
    def hcp_inventory(self):
        """What HCP's bucket has of the listed subjects."""
        return self.root / "hcp_inventory.tsv"

    @property
    def participants(self):
        return self.root / "participants.tsv"

    def digests(self, number):
        """SHA-256 of the scans of a chunk of subjects."""
        return self.root / "digests" / f"{number}.tsv"

    @property
    def provenance(self):
        """What made the tables and figures (realdeal.provenance)."""
        return self.root / "provenance.json"

    def volume(self, variant, subject):
        """A volume in [-1, 1]; variant is one of VARIANTS."""
        return self.root / "volumes" / variant / f"{subject}.nii.gz"

    def asked(self, name):
        """The covariates that a conditioned LDM was asked for."""
        return self.root / "volumes" / "synthetic" / f"{name}.json"

    def measured(self, variant, name):
        """The covariates that the observer reads from a volume."""
        return self.root / "measured" / variant / f"{name}.json"

    def regions(self, subject):
        """Integer labels: 1 white matter, 2 grey matter, 3 ventricles, 4 cerebellum, 5 other."""
        return self.root / "regions" / f"{subject}.nii.gz"

    def quality(self, name):
        """Quality control: <subject>.png, <subject>.json or the table quality.csv."""
        return self.root / "quality" / name

    def store(self, kind, subject):
        """A memory-mapped array for training; kind is original, coarse or latents."""
        return self.root / "stores" / kind / f"{subject}.npy"

    def model(self, name):
        """Weights of autoencoder, ldm or refiner; a .json of the same name describes them."""
        return self.root / "models" / f"{name}.safetensors"

    def state(self, name):
        """Resume state of a training; deliberately no declared output of any rule."""
        return self.root / "states" / f"{name}.ckpt"

    def history(self, name):
        """Training curve of a network."""
        return self.root / "training" / f"{name}.csv"

    def picture(self, name):
        """Held-out samples of a network in training: what goes in, what it makes, what is true."""
        return self.root / "training" / f"{name}.png"

    def events(self, name):
        """TensorBoard's files of a training; like states no declared output of any rule."""
        return self.root / "training" / "events" / name

    def patches(self, subject):
        """Patch locations of a subject, shared by all its variants."""
        return self.root / "patches" / f"{subject}.npz"

    def features(self, variant):
        return self.root / "features" / f"{variant}.npz"

    def noise(self, variant):
        return self.root / "noise" / f"{variant}.npz"

    def scores(self, metric):
        return self.root / "scores" / f"{metric}.csv"

    def table(self, number, suffix="csv"):
        return self.root / "tables" / f"table{number}.{suffix}"

    def item(self, name, suffix="png"):
        """A table (csv, md, tex) or figure (png) of another system than RealDeal."""
        return self.root / ("figures" if suffix == "png" else "tables") / f"{name}.{suffix}"

    def figure(self, number):
        return self.root / "figures" / f"figure{number}.png"

    def way(self, name=""):
        """Folder of a way of refining, or of the refinement study (realdeal.refinement.ways)."""
        return self.root / "refinement" / name

    def dataset(self, path=""):
        """The BIDS dataset of synthetic subjects, or a path in it."""
        return self.root / "dataset" / path

    @property
    def report(self):
        return self.root / "report.html"
