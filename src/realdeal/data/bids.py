"""A BIDS dataset: its images, what belongs to them, and its table of participants.

Standard library only, because the Snakefile imports it. Of the grammar (BIDS 1.10) this reads
sub-<label>/[ses-<label>/]anat/<entities>_<suffix>.nii[.gz] and participants.tsv; validating a
dataset is the business of the BIDS validator.
"""

import csv
from pathlib import Path

from realdeal.errors import InputError

SUFFIXES = (".nii.gz", ".nii")
MISSING = ("", "n/a", "N/A")
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
SHOWN = 5  # names in one message


def list_images(settings):
    """{name: path} of the images of section data.bids, called sub-<label>.

    Where `suffix` is a list, each person has an image of each kind, sub-<label>_<suffix>. Who has
    none is left out (`notes` tells). InputError if there is no dataset or no image, or if a
    subject has several of a kind.
    """
    folder, kinds = _dataset(settings), suffixes(settings)
    subjects = sorted(path.name for path in folder.glob("sub-*") if path.is_dir())
    names = subjects
    if isinstance(settings["suffix"], list):
        names = [f"{subject}_{kind}" for subject in subjects for kind in kinds]
    found = {name: find_image(settings, name) for name in names}
    found = {name: path for name, path in found.items() if path}
    if not found:
        raise InputError(
            f"data.bids: {folder} has no sub-*/[ses-*/]anat/*_{'|'.join(kinds)}.nii.gz"
            f"{_chosen(settings)}; check dataset, suffix and entities"
        )
    return found


def suffixes(settings):
    """The kinds of images that are used, e.g. [T1w]."""
    suffix = settings["suffix"]
    return suffix if isinstance(suffix, list) else [suffix]


def person_and_suffix(settings, name):
    """Whose image `list_images` called `name`, sub-<label>, and of which kind it is."""
    person, _, suffix = name.partition("_")
    return person, suffix or settings["suffix"]


def people(settings, names):
    """{person: the names of its images}."""
    found = {}
    for name in names:
        found.setdefault(person_and_suffix(settings, name)[0], []).append(name)
    return found


def find_image(settings, name):
    """The path of an image, None if there is none; InputError if there are several."""
    folder = Path(settings["dataset"])
    subject, suffix = person_and_suffix(settings, name)
    wanted = settings["entities"] or {}
    found = []
    places = (f"{subject}/anat", f"{subject}/ses-*/anat")
    for path in sorted(path for place in places for path in folder.glob(f"{place}/{subject}_*")):
        end = next((end for end in SUFFIXES if path.name.endswith(end)), "")
        *parts, kind = path.name.removesuffix(end).split("_")
        entities = dict(part.split("-", 1) for part in parts if "-" in part)
        if end and kind == suffix and all(_same(entities.get(k), v) for k, v in wanted.items()):
            found.append(path)
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder / subject)) for path in found)
        raise InputError(
            f"data.bids: {name} has {len(found)} images ({names}); choose one by "
            "data.bids.entities, e.g. {ses: 1, run: 1}"
        )
    return str(_present(found[0], folder)) if found else None


def find_derivative(settings, key, name, image):
    """The file of `data.bids.labels` or `masks` for an image, None if the key is not set.

    The key holds a path, relative to the dataset or absolute, with {subject} and, where they
    differ, {suffix} and {session} (of the image's path) to be filled in.
    """
    subject, suffix = person_and_suffix(settings, name)
    pattern = settings[key]
    if pattern is None:
        return None
    folders = Path(image).relative_to(settings["dataset"]).parts
    session = next((part for part in folders if part.startswith("ses-")), "")
    try:
        filled = pattern.format(subject=subject, session=session, suffix=suffix)
    except (KeyError, IndexError, ValueError):
        raise InputError(
            f"data.bids.{key}: {pattern} may hold {{subject}}, {{session}} and {{suffix}}, nothing "
            "else in braces"
        ) from None
    if "{subject}" not in pattern:
        raise InputError(f"data.bids.{key}: {pattern} lacks {{subject}}; put it where names differ")
    path = Path(settings["dataset"], filled)
    if not path.exists() and not path.is_symlink():
        raise InputError(f"data.bids.{key}: {path} does not exist; make it, or set {key} to null")
    return str(_present(path, settings["dataset"]))


def covariates(settings):
    """{subject: {age, sex, pathology}} of participants.tsv, None where it says n/a.

    {} if the dataset has no such file. InputError, naming the line, for what is no table of
    participants.
    """
    path = table(settings)
    if path is None:
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t")
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as UTF-8 text") from None
    diagnosis = settings["pathology"]
    for column in ("participant_id", *([diagnosis] if diagnosis else [])):
        if column not in columns:
            raise InputError(
                f"{path}: has no column {column}; columns are {', '.join(map(str, columns))}, "
                "separated by tabs"
            )
    result = {}
    for number, row in enumerate(rows, 2):
        subject = row["participant_id"] or ""
        if not subject.startswith("sub-"):
            raise InputError(f"{path}, line {number}: {subject!r} is no participant_id (sub-...)")
        if subject in result:
            raise InputError(f"{path}, line {number}: {subject} is there twice; keep one line")
        result[subject] = {
            "age": _age(row.get("age"), f"{path}, line {number}"),
            "sex": SEXES.get((row.get("sex") or "").strip().lower()),
            "pathology": _text(row.get(diagnosis)) if diagnosis else None,
        }
    return result


def diagnoses(settings, names):
    """{name: (pathology, suffix)} of images, the pathology None where it is not known."""
    rows, found = covariates(settings), {}
    for name in names:
        person, suffix = person_and_suffix(settings, name)
        found[name] = (rows.get(person, {}).get("pathology"), suffix)
    return found


def table(settings):
    """The path of the dataset's participants.tsv, None if there is none."""
    path = _dataset(settings) / "participants.tsv"
    return str(path) if path.exists() else None


def notes(settings, names):
    """Sentences about who has an image or a line of participants.tsv, but not both.

    `names` are those of the images.
    """
    folder, kinds = _dataset(settings), suffixes(settings)
    pairs, rows = [person_and_suffix(settings, name) for name in names], covariates(settings)
    images = {person for person, _ in pairs}
    folders = {path.name for path in folder.glob("sub-*") if path.is_dir()}
    said = []
    for kind in kinds:
        if without := sorted((folders | set(rows)) - {who for who, what in pairs if what == kind}):
            left_out = ", so left out." if kinds == [settings["suffix"]] else "."
            said.append(
                f"{_names(without)} of the dataset: no {kind} image{_chosen(settings)}{left_out}"
            )
    if table(settings) is None:
        said.append("The dataset has no participants.tsv: age, sex and pathology are n/a.")
    elif without := sorted(images - set(rows)):
        said.append(
            f"{_names(without)}: no line in participants.tsv, so age, sex and pathology are n/a."
        )
    return said


def _dataset(settings):
    folder = settings["dataset"]
    if not folder:
        raise InputError("data.bids.dataset: is not set; name the folder of the BIDS dataset")
    if not Path(folder).is_dir():
        raise InputError(f"data.bids.dataset: {folder} is no folder; check the path")
    return Path(folder)


def _present(path, dataset):
    """A path whose content is there: datalad keeps a dangling link where it is not."""
    if not path.exists():
        raise InputError(
            f"{path}: is a link to nothing; fetch the content, e.g. `datalad get` in {dataset}"
        )
    return path


def _same(have, want):
    """Whether entities agree; an index may have zeros in front (run-01)."""
    have, want = str(have), str(want)
    return have == want or (have.isdigit() and want.isdigit() and int(have) == int(want))


def _chosen(settings):
    entities = [f"{key}-{value}" for key, value in (settings["entities"] or {}).items()]
    return f" with {', '.join(entities)}" if entities else ""


def _names(subjects):
    more = len(subjects) - SHOWN
    return ", ".join(subjects[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _text(value):
    value = (value or "").strip()
    return None if value in MISSING else value


def _age(value, where):
    text = _text(value)
    if text is None:
        return None
    try:
        age = float(text.removesuffix("+"))  # BIDS has 89+ for the oldest
    except ValueError:
        raise InputError(f"{where}: age {text!r} is no number; write years or n/a") from None
    if not 0 <= age < 150:
        raise InputError(f"{where}: age {text} is not in years; write years or n/a")
    return age
