import subprocess
import sys
from pathlib import Path

import pytest

from realdeal.data import sources
from realdeal.data.splits import choose, split
from realdeal.errors import InputError

NAMES = [f"s{number}" for number in range(50)]


def test_split_is_a_partition_that_ignores_order():
    train, test = split(NAMES, 0.8, 3)
    assert (len(train), len(test)) == (40, 10)
    assert sorted(train + test) == sorted(NAMES)
    assert train == sorted(train) and test == sorted(test)
    assert split(NAMES[::-1], 0.8, 3) == (train, test)
    assert split(NAMES, 0.8, 4) != (train, test)


def test_split_of_the_paper():
    train, test = split([str(number) for number in range(1113)], 0.8, 0)
    assert (len(train), len(test)) == (890, 223)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_both_parts_have_a_subject(fraction):
    train, test = split(["a", "b"], fraction, 0)
    assert len(train) == len(test) == 1


def test_split_refuses():
    with pytest.raises(InputError, match="a is listed twice"):
        split(["a", "b", "a"], 0.8, 0)
    with pytest.raises(InputError, match="at least two"):
        split(["a"], 0.8, 0)
    with pytest.raises(InputError, match="train_fraction"):
        split(["a", "b"], 1.0, 0)


def test_choose():
    assert choose(NAMES, 5, 1) == choose(NAMES[::-1], 5, 1) == sorted(choose(NAMES, 5, 1))
    assert len(set(choose(NAMES, 5, 1))) == 5
    assert choose(NAMES, 5, 1) != choose(NAMES, 5, 2)
    assert choose(["b", "a"], 10, 0) == ["a", "b"]
    assert choose([], 3, 0) == []


def folder_config(images, labels=None):
    return {"source": "folder", "folder": {"images": str(images), "labels": labels and str(labels)}}


def test_folder(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    for path in (images / "b.nii.gz", images / "a.v1.nii", images / ".c.nii", images / "note.txt"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    config = folder_config(images, labels)
    assert sources.list_subjects(config) == ["a.v1", "b"]
    without = sources.source_files(folder_config(images), "b")
    assert without == {"image": str(images / "b.nii.gz"), "labels": None}
    labels.mkdir()
    with pytest.raises(InputError, match=r"data.folder.labels.* has no b.nii.gz"):
        sources.source_files(config, "b")
    (labels / "b.nii").touch()
    assert sources.source_files(config, "b")["labels"] == str(labels / "b.nii")
    (labels / "b.nii.gz").touch()
    with pytest.raises(InputError, match="clash"):
        sources.source_files(config, "b")


def test_folder_refuses(tmp_path):
    with pytest.raises(InputError, match="is not set"):
        sources.list_subjects({"source": "folder", "folder": {"images": None, "labels": None}})
    with pytest.raises(InputError, match="no folder"):
        sources.list_subjects(folder_config(tmp_path / "none"))
    with pytest.raises(InputError, match="holds no .nii"):
        sources.list_subjects(folder_config(tmp_path))
    (tmp_path / "a.nii").touch()
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(InputError, match="same subject"):
        sources.list_subjects(folder_config(tmp_path))


def test_demo():
    config = {"source": "demo", "demo": {"subjects": 3}}
    assert sources.list_subjects(config) == ["sub-001", "sub-002", "sub-003"]
    assert sources.source_files(config, "sub-001") == {"image": None, "labels": None}
    with pytest.raises(InputError, match="data.source"):
        sources.list_subjects({"source": "elsewhere"})


def hcp_config(tmp_path, text, accepted=True):
    path = tmp_path / "subjects.txt"
    path.write_text(text)
    return {"source": "hcp", "hcp": {"subjects": str(path), "terms_accepted": accepted}}


def test_hcp(tmp_path):
    config = hcp_config(tmp_path, "# HCP\n100307\n\n 100206 \n")
    assert sources.list_subjects(config) == ["100206", "100307"]
    assert sources.source_files(config, "100307") == {
        "image": "HCP_1200/100307/T1w/T1w_acpc_dc_restore_brain.nii.gz",
        "labels": "HCP_1200/100307/T1w/aparc+aseg.nii.gz",
    }


@pytest.mark.parametrize(
    ("text", "accepted", "message"),
    [
        ("100307\n", False, "terms_accepted"),
        ("", True, "lists no subject"),
        ("100307\n100307\n", True, "listed twice"),
        ("sub-100307\n", True, "no HCP subject ID"),
    ],
)
def test_hcp_refuses(tmp_path, text, accepted, message):
    with pytest.raises(InputError, match=message):
        sources.list_subjects(hcp_config(tmp_path, text, accepted))


def test_hcp_list_is_missing():
    for path, message in ((None, "not set"), ("none.txt", "cannot be read")):
        with pytest.raises(InputError, match=message):
            sources.list_subjects(
                {"source": "hcp", "hcp": {"subjects": path, "terms_accepted": True}}
            )


def test_the_snakefile_imports_the_standard_library_only():
    source = Path(sources.__file__).parents[2]
    code = (
        "import sys; import realdeal.data.sources, realdeal.data.splits, realdeal.study;"
        "heavy = {'numpy', 'nibabel', 'pandas', 'torch', 'boto3'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})
