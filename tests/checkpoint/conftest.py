"""Small disks in memory, where mounting is permitted."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def tmpfs(place, size):
    """A tmpfs at ``place/disk``; yields None and the reason where mounting is not permitted."""
    disk = place / "disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True, text=True
        )
        reason = mounted.stderr.strip() if mounted.returncode else ""
    except FileNotFoundError:
        reason = "mount is not installed"
    if reason:
        yield None, reason
        return
    try:
        yield disk, ""
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 400 kB."""
    with tmpfs(tmp_path, "400k") as (disk, reason):
        if disk is None:
            pytest.skip(f"mounting a small tmpfs is not permitted here: {reason}")
        yield disk


@pytest.fixture
def fast_disk(tmp_path):
    """A folder whose fsync costs nothing, where that can be had: these tests kill processes, not the power."""
    with tmpfs(tmp_path, "64m") as (disk, _):
        yield disk or tmp_path
