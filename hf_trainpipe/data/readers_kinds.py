"""Detect what a file is from its first bytes: a failed download, or another format than its name says."""

from __future__ import annotations

import io
import zipfile
from typing import NamedTuple

from hf_trainpipe.utils.brief import listed


class Kind(NamedTuple):
    """A description of what was found, and the fix."""

    found: str
    fix: str


EXCEL = "Save it as .xlsx or 'CSV UTF-8'; or read it yourself: data=Frame(train=pandas.read_excel('FILE'))."
UNPACK = "Unpack it, and name the files in it; single files may be compressed as .gz or .zst."
FETCH = "Download the file itself: the link leads to a web page or a login."
PICKLE = Kind("a Python pickle", "Pickles run code when they are read: write csv or parquet.")

MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (
        b"version https://git-lfs.github.com/spec/v1",
        Kind("a Git LFS pointer instead of the file", "Download the file: git lfs pull."),
    ),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("an old Excel workbook (.xls)", EXCEL)),
    (b"PAR1", Kind("a parquet file", "Set data.format='parquet', or let its name end with .parquet.")),
    (b"ARROW1", Kind("an Arrow file", "Set data.format='arrow', or let its name end with .arrow.")),
    (
        b"SQLite format 3\0",
        Kind("an SQLite database", "Name it as a database: data=Sql('sqlite:///FILE', train='TABLE')."),
    ),
    (b"\x89HDF\r\n", Kind("an HDF5 file", "Read it yourself: data=Frame(train=pandas.read_hdf(...)).")),
    (b"%PDF-", Kind("a PDF", "Name a file of rows: csv, jsonl, parquet and the like.")),
    (b"BZh", Kind("a file compressed with bzip2", UNPACK)),
    (b"\xfd7zXZ\0", Kind("a file compressed with xz", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", UNPACK)),
    (b"\x1f\x8b", Kind("a file that is compressed twice", UNPACK)),
    *((bytes([0x80, version]), PICKLE) for version in (2, 3, 4, 5)),
)
OTHER_ENDINGS: dict[str, Kind] = {
    **dict.fromkeys((".xls", ".xlsb", ".ods"), Kind("a workbook", EXCEL)),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz"), Kind("an archive", UNPACK)),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".joblib"), PICKLE),
}
ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")
PAGES = (b"<!doctype html", b"<html", b"<?xml")


def kind_of(data: bytes, *, rows: bool) -> Kind | None:
    """The kind of a binary or otherwise unsupported file, by its bytes; None for text.

    Args:
        rows: Whether the file should contain rows (csv, JSON), so that an HTML page is unsupported too.
    """
    for magic, kind in MAGIC:
        if data.startswith(magic):
            return kind
    if data.startswith(ARCHIVES):
        return _zip(data)
    if data[257:262] == b"ustar":
        return Kind("a tar archive", UNPACK)
    if rows and data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(PAGES):
        return Kind("a page of HTML or XML", FETCH)
    return None


def _zip(data: bytes) -> Kind:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return Kind("a truncated zip archive", "Download it again, and unpack it.")
    if any(name.startswith("xl/") for name in names):
        return Kind("an Excel workbook (.xlsx)", "Set data.format='xlsx', or let its name end with .xlsx.")
    if "content.xml" in names:
        return Kind("a workbook of LibreOffice (.ods)", EXCEL)
    return Kind(f"a zip archive of {listed(names, 5) or 'nothing'}", UNPACK)
