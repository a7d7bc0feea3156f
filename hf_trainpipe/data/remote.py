"""Files that lie elsewhere (S3, Google Cloud Storage, HTTP, whatever fsspec reads), fetched into the machine's cache once.

A file is kept under its address and what its server tells of its content (size, ETag, time), so that a changed one is fetched
again and all ranks of a machine read the same copy. Readers then see a local file; messages keep the address.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from hf_trainpipe.data.credentials import filled, shown_address, without_values
from hf_trainpipe.data.readers_base import wrong_file
from hf_trainpipe.errors import DataError, MissingExtra
from hf_trainpipe.utils.brief import first_line
from hf_trainpipe.utils.cache import cache_root

log = logging.getLogger(__name__)

IDENTITY = (
    "size",
    "ETag",
    "etag",
    "blob_id",
    "Content-MD5",
    "Digest",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "mtime",
)
"""What a server tells of a file's content, by the names that file systems of fsspec give it; ``created`` of memory."""
FROM = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws; AWS_NO_SIGN_REQUEST=YES reads a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login; GS_NO_SIGN_REQUEST=YES reads a public "
    "bucket",
    "http": "~/.netrc (or the file that NETRC names), or ${NAME} in the address",
}
"""Where credentials come from, by protocol; other file systems read their own variables."""


def expand_remote(pattern: str) -> list[tuple[Path, str]]:
    """The files that an address or a pattern names, fetched, each with its name for messages; in sorted order.

    Raises:
        DataError: nothing matches, it cannot be read, or the environment lacks a variable.
        MissingExtra: a file system that is not installed.
    """
    shown = shown_address(pattern)
    address = filled(pattern, where=shown)
    system, path = _opened(address, pattern)
    is_pattern = any(mark in path for mark in "*[") or ("?" in path and not address.startswith("http"))
    try:
        paths = sorted(system.glob(path)) if is_pattern else [path]
        paths = [found for found in paths if not is_pattern or system.isfile(found)]
        if not paths:  # a pattern hides why a folder cannot be listed
            system.ls(re.split(r"[*?[]", path)[0].rpartition("/")[0])
    except Exception as error:  # what a file system raises has many types
        raise _refused(error, shown, pattern, address) from None
    if not paths:
        raise wrong_file(shown, "no file matches.", fix="Correct the pattern.")
    if not is_pattern:  # its query, which is not shown, is part of what it names
        return [(_fetched(system, path, shown, pattern, address, key=pattern), shown)]
    names = [_name(found, pattern) for found in paths]
    return [
        (_fetched(system, found, name, pattern, address, key=name), name)
        for found, name in zip(paths, names, strict=True)
    ]


def _name(path: str, pattern: str) -> str:
    """The address of a file that a pattern found."""
    protocol = pattern.partition("://")[0]
    return shown_address(path if "://" in path else f"{protocol}://{path.lstrip('/') if protocol != 'file' else path}")


def _opened(address: str, pattern: str) -> tuple[Any, str]:
    """The file system of an address, and the path on it. S3 and GCS are Arrow's own clients, which need no further package."""
    import fsspec

    protocol, _, rest = address.partition("://")
    protocol = protocol.lower()
    try:
        if protocol in ("s3", "s3a", "gs", "gcs"):
            from fsspec.implementations.arrow import ArrowFSWrapper

            return ArrowFSWrapper(_s3(rest) if protocol.startswith("s3") else _gcs()), rest
        if protocol in ("http", "https"):
            return fsspec.filesystem(protocol, client_kwargs={"trust_env": True}), address
        system, path = fsspec.core.url_to_fs(address)
        return system, str(path)
    except ImportError as error:
        raise MissingExtra(
            f"{shown_address(pattern)}: {error}.", fix="Install what fsspec names, or copy the files to this machine."
        ) from None
    except OSError as error:
        raise _refused(error, shown_address(pattern), pattern, address) from None
    except ValueError as error:
        raise wrong_file(
            shown_address(pattern),
            f"{without_values(str(error), pattern)}.",
            fix="Correct the address: s3://, gs://, https://.",
        ) from None


def _s3(rest: str) -> Any:
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(rest.partition("/")[0])
    scheme, _, host = (endpoint or "").rpartition("://")
    return fs.S3FileSystem(
        region=region,
        endpoint_override=host.rstrip("/") or None,
        scheme=scheme or None,
        anonymous=_is_set("AWS_NO_SIGN_REQUEST"),
    )


def _gcs() -> Any:
    from pyarrow import fs

    return fs.GcsFileSystem(anonymous=_is_set("GS_NO_SIGN_REQUEST"))


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("yes", "true", "1")


def _fetched(system: Any, path: str, shown: str, pattern: str, address: str, *, key: str) -> Path:
    """The local copy of a file, fetched if the cache has none of this content.

    Args:
        key: What the copy is kept under.
    """
    from filelock import FileLock

    folder = cache_root() / "remote" / hashlib.sha256(key.encode()).hexdigest()[:32]
    name = shown.rstrip("/").rpartition("/")[2] or "file"
    try:
        facts = system.info(path)
    except Exception as error:
        kept = sorted(folder.glob("*/" + name.replace("[", "[[]")), key=lambda file: file.stat().st_mtime_ns)
        refused = _refused(error, shown, pattern, address)
        if kept and refused.data.get("reason") == "unreachable":
            log.warning("%s cannot be reached; the copy that was fetched last is read", shown)
            return kept[-1]
        raise refused from None
    if facts.get("type") == "directory":
        raise wrong_file(shown, "expected a file, found a folder.", fix=f"Name its files: {shown.rstrip('/')}/*.csv")
    told = {fact: str(facts[fact]) for fact in (*IDENTITY, "created") if facts.get(fact) is not None}
    is_known = len(told) > ("size" in told)
    version = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
    place = folder / version / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (place.exists() and is_known):
            place.parent.mkdir(exist_ok=True)  # under the lock: whoever fetched another version removes this one
            _fetch(system, path, place, facts.get("size"), shown, pattern, address)
            for older in folder.iterdir():
                if older.is_dir() and older != place.parent:
                    shutil.rmtree(older, ignore_errors=True)
    return place


def _fetch(system: Any, path: str, place: Path, size: int | None, shown: str, pattern: str, address: str) -> None:
    temporary = place.with_name(f".{place.name}.part")  # one name, under the lock: what a kill leaves is written over
    try:
        try:
            system.get_file(path, str(temporary))
        except Exception as error:
            raise _refused(error, shown, pattern, address) from None
        if size is not None and temporary.stat().st_size != size:
            raise wrong_file(
                shown,
                f"expected {size:,} bytes, found {temporary.stat().st_size:,}: the download broke off.",
                fix="Run the command again.",
            )
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _refused(error: Exception, shown: str, pattern: str, address: str) -> DataError:
    """What a file system said, in one line without secrets."""
    protocol = pattern.partition("://")[0].lower()
    of = FROM.get({"https": "http", "s3a": "s3", "gcs": "gs"}.get(protocol, protocol), "the environment")
    said = without_values(first_line(error).replace(address, shown), pattern).rstrip(".")[:300]
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status == 404:
        return DataError(f"{shown}: there is no such file.", fix="Correct the address.", file=shown, reason="missing")
    if isinstance(error, PermissionError) or status in (401, 403) or "ACCESS_DENIED" in said:
        return DataError(
            f"{shown}: may not be read: {said}.", fix=f"Credentials come from {of}.", file=shown, reason="refused"
        )
    return DataError(
        f"{shown}: cannot be read: {type(error).__name__}: {said}.",
        fix=f"Check the address and the network. Credentials come from {of}.",
        file=shown,
        reason="unreachable",
    )
