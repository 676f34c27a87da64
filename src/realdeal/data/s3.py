"""One object of an S3 bucket becomes one file: continued where it broke off, and checked.

Standard library only when imported; boto3 has made the client that is handed in.
"""

import errno
import gzip
import hashlib
import time
import zlib
from pathlib import Path

from realdeal.errors import InputError

ATTEMPTS = 6  # answers in a row that bring nothing, before a transfer is given up
PAUSE = 1.0  # seconds before the second attempt; each further pause is twice as long
BLOCK = 2**20  # bytes

# The parts in which common tools upload; an ETag of several parts does not tell their size.
PART_SIZES = tuple(number * 2**20 for number in (5, 8, 10, 15, 16, 25, 32, 50, 64, 100, 128, 256))


def receive(client, bucket, key, path):
    """Fetch an object to a hidden `.part` beside `path` and return that, whole and checked.

    The caller renames it. What an earlier run has left in the .part is not fetched again, unless
    the object has changed since (the ETag is part of the name). A file that stands at `path` is
    taken for such a remainder, so that it is fetched again only if it differs from the object.

    An interrupted body is continued at the byte where it broke off; boto3 itself repeats refused
    requests. InputError if the transfer does not come on, if the bytes differ from the object's
    digest twice (nothing is kept), or if the disk is full. In all other cases what has come is
    kept, a full disk included: it is right, it is less than one file, and the next run needs only
    the rest. Errors of boto3 other than broken bodies are passed on.
    """
    path, url = Path(path), f"s3://{bucket}/{key}"
    head = client.head_object(Bucket=bucket, Key=key)
    etag, size = head["ETag"].strip('"'), head["ContentLength"]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{etag}.part")
    for stale in set(path.parent.glob(f".{path.name}.*.part")) - {part}:
        stale.unlink()
    if path.exists():
        path.replace(part)
    # With a key of AWS's key service (KMS) the ETag is no digest of what arrives.
    digest = None if head.get("ServerSideEncryption", "").startswith("aws:kms") else etag
    for _ in range(2):
        if part.exists() and part.stat().st_size > size:
            part.unlink()
        try:
            _continue(client, bucket, key, etag, size, path.name, part)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"{path}: the disk is full; free some space and run again, "
                "what has come so far is kept"
            ) from error
        if check := passed(part, digest):
            print(f"{path.name}: {size:,} bytes, {check} agrees")
            return part
        print(f"{path.name}: other bytes arrived than announced; once more from the start")
        part.unlink()
    raise InputError(
        f"{url}: twice other bytes arrived than the bucket announces; something on the way changes "
        "them (a proxy?), or the object is damaged there; try again from another network"
    )


def passed(path, etag):
    """The name of the check that shows that a file is the object with this ETag, "" if none does.

    An object that was uploaded in one piece has its MD5 as ETag. One that was uploaded in parts
    has the MD5 of their MD5s, which can be recomputed where the parts had a usual size; else,
    and without an ETag (None), the file must be gzip, and its own checksum decides.
    """
    digest, _, parts = (etag or "-").partition("-")
    if etag and not parts:
        return "MD5" if _md5(path) == digest else ""
    size = path.stat().st_size
    usual = [length for length in PART_SIZES if parts and -(-size // length) == int(parts)]
    if any(_md5_of_parts(path, length) == digest for length in usual):
        return "MD5 of the parts"
    return "the gzip checksum" if _gzip_is_whole(path) else ""


def _continue(client, bucket, key, etag, size, name, part):
    """Append to `part` what it lacks of an object."""
    from botocore.exceptions import BotoCoreError

    from realdeal.progress import progress

    part.touch()
    have, fruitless = part.stat().st_size, 0
    with progress(total=size, description=name, unit="B", initial=have) as bar:
        while have < size:
            answer = client.get_object(
                Bucket=bucket, Key=key, Range=f"bytes={have}-", IfMatch=f'"{etag}"'
            )
            before = have
            try:
                with open(part, "ab") as file:
                    for block in answer["Body"].iter_chunks(BLOCK):
                        file.write(block)
                        have += len(block)
                        bar.update(len(block))
            except BotoCoreError as error:
                fruitless = 0 if have > before else fruitless + 1
                if fruitless == ATTEMPTS:
                    raise InputError(
                        f"s3://{bucket}/{key}: the transfer breaks off at byte {have:,} of "
                        f"{size:,} again and again; check the network and run again, what has "
                        "come so far is kept"
                    ) from error
                time.sleep(PAUSE * 2**fruitless)


def _blocks(path, length=BLOCK):
    with open(path, "rb") as file:
        while block := file.read(length):
            yield block


def _md5(path):
    digest = hashlib.md5(usedforsecurity=False)
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _md5_of_parts(path, length):
    parts = (hashlib.md5(part, usedforsecurity=False).digest() for part in _blocks(path, length))
    return hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()


def _gzip_is_whole(path):
    try:
        with gzip.open(path) as file:
            while file.read(BLOCK):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return path.stat().st_size > 0  # gzip reads an empty file without complaint
