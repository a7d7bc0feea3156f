"""Rows of disks, concurrent processes, changed data and versions: 7, 9, 24, 31 and 32."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .lab import Lab
from .process import expect

LATE = "hf_trainpipe.training.monitor:TrainingLog.log_step:9"


@contextmanager
def small_disk(place: Path, *options: str) -> Iterator[None]:
    """A tmpfs of 2 MB at ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=2m", *options)), "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    expect(mounted.returncode == 0, f"mounting a tmpfs is not permitted: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def disk_full(lab: Lab) -> str:
    """Row 7: the disk of checkpoints is filled after the first save, and freed after a warning."""
    run = lab.name("full")
    place = lab.folder / run / "checkpoints"
    with small_disk(place):
        process = lab.start(run, PACE="100")
        process.wait_for_output(r"step +5/")
        _fill(place / "filler")
        process.wait_for_output("could not be saved")
        (place / "filler").unlink()
        done = process.end()
        expect(done.code == 0, f"exit {done.code}: {done.last}")
        expect("No space left" in done.stderr, done.last)
        differing = lab.differing(run, lab.uninterrupted())
        expect(not differing, f"differs: {differing}")
    failed = done.stderr.count("could not be saved")
    return f"full tmpfs in a run: {failed} save given up with a warning, the next ones good, exit 0, same bytes"


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as stream:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while stream.write(bytes(size)):
                    pass


def read_only(lab: Lab) -> str:
    """Row 9: a run on a read-only disk."""
    run = lab.name("read-only")
    with small_disk(lab.folder / run, "ro"):
        done = lab.train(run)
    expect(done.code == 2, f"exit {done.code}: {done.last}")
    expect("Traceback" not in done.stderr, "a traceback")
    return f"read-only disk: exit 2 after {done.seconds:.0f} s, '{done.last[:90]}'"


def two_owners(lab: Lab) -> str:
    """Row 24: a second process while the first one runs, and another after the first one is killed."""
    run = lab.name("owners")
    process = lab.start(run, PACE="400")
    process.wait_for_output(r"step +1/")
    second = lab.train(run)
    expect(process.running, "the first one ended too early to tell")
    expect(second.code == 2, f"the second: exit {second.code}: {second.last}")
    expect(str(process.popen.pid) in second.stderr, f"the owner is not named: {second.last}")
    process.kill_all()
    third = lab.resume_and_compare(run)
    return f"the second: exit 2 after {second.seconds:.0f} s, names the owner; after a kill the third goes on ({third.code})"


def data_changed(lab: Lab) -> str:
    """Row 31: after a kill the training file has a changed word, one row less, or two swapped rows."""
    seen = []
    with lab.copy_of_inputs("changed") as place:
        done = lab.train("run", folder=place, DIE_IN=LATE)
        expect(done.code == -signal.SIGKILL, f"was not killed: {done.code}: {done.last}")
        file = place / "train.csv"
        header, *rows = file.read_text().splitlines(keepends=True)
        changes = {
            "content": [*rows[:7], "x" + rows[7], *rows[8:]],
            "length": rows[:-1],
            "order": [rows[1], rows[0], *rows[2:]],
        }
        for name, changed in changes.items():
            expect(changed != rows, f"{name}: the file did not change")
            file.write_text(header + "".join(changed))
            done = lab.train("run", folder=place)
            expect(done.code == 2, f"{name}: exit {done.code}: {done.last}")
            expect("fingerprints.data" in done.stderr, f"{name}: the field is not named: {done.last}")
            seen.append(name)
        file.write_text(header + "".join(rows))
        done = lab.train("run", folder=place)
        expect(done.code == 0, f"with the old file again: exit {done.code}: {done.last}")
    return f"{', '.join(seen)}: exit 2, fingerprints.data named; with the old file again it goes on"


def _git(place: Path, *arguments: str) -> None:
    nobody = {
        "GIT_AUTHOR_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x@x",
        "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x@x",
    }
    subprocess.run(["git", *arguments], cwd=place, env={**os.environ, **nobody}, check=True, capture_output=True)


def versions_changed(lab: Lab) -> str:
    """Row 32: between two attempts a library changes its version, and the repository gets a commit."""
    with lab.copy_of_inputs("versions") as place:
        _git(place, "init", "--quiet")
        _git(place, "commit", "--quiet", "--allow-empty", "-m", "one")
        done = lab.train("run", folder=place, DIE_IN=LATE)
        expect(done.code == -signal.SIGKILL, f"was not killed: {done.code}: {done.last}")
        _git(place, "commit", "--quiet", "--allow-empty", "-m", "two")
        fake = place / "fake" / "spacy-0.0.1.dist-info"
        fake.mkdir(parents=True)
        (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: spacy\nVersion: 0.0.1\n")
        path = os.pathsep.join((str(fake.parent), lab.workshop.environment({})["PYTHONPATH"]))
        done = lab.train("run", folder=place, PYTHONPATH=path)
        expect(done.code == 0, f"exit {done.code}: {done.last}")
        warnings = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
        for word in ("spacy", "commit"):
            expect(any(word in line for line in warnings), f"no warning of {word}: {warnings}")
        expect("continuing after step" in done.stderr, done.last)
        shutil.rmtree(place / ".git")
    return f"exit 0, goes on with {len(warnings)} warnings: a library's version, the commit"
