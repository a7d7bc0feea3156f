"""Clean virtual environments with only a package's requirements.txt."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package.imports import SERVED_WITH, name_of

_SHOWN_LINES = 12
_PIN = re.compile(r"([A-Za-z][\w.-]*)==[\w.]+", re.ASCII)
_KNOWN = {*map(name_of, SERVED_WITH), "nltk", "onnxruntime", "spacy"}


def refuse_unknown_requirements(requirements: Path) -> None:
    """Refuse requirements other than pins of what every package needs: installing a requirement runs its code.

    Raises:
        PackageError: with the line; exit code 2.
    """
    if not requirements.is_file():
        return
    for number, line in enumerate(requirements.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        pin = _PIN.fullmatch(line.strip())
        if line.strip() and (pin is None or name_of(pin[1]) not in _KNOWN):
            raise PackageError(
                f"{requirements}, line {number}: expected a pin of {', '.join(sorted(_KNOWN))}, found {line.strip()[:80]!r}; "
                "it was not installed.",
                fix="Read it; if you trust it, allow it with --allow-code.",
                exit_code=2,
            )


def create_environment(folder: Path, requirements: Path) -> Path:
    """Create or update the virtual environment ``folder``, and return its interpreter.

    pip's own settings (PIP_* and its configuration files) choose the index.

    Raises:
        PackageError: pip cannot install a requirement, requirements conflict, or hf_trainpipe is installed in it.
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.is_file():
        _run([sys.executable, "-m", "venv", str(folder)], f"{folder} cannot be made")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--requirement", str(requirements)], f"{requirements} cannot be installed")
    _run([*pip, "check"], f"{requirements}: its packages conflict")
    found = subprocess.run([str(python), "-I", "-c", "import hf_trainpipe"], capture_output=True, check=False)
    if found.returncode == 0:
        raise PackageError(
            f"{folder} is not clean: hf_trainpipe is installed in it.", fix="Name another folder.", exit_code=2
        )
    return python


def _run(command: list[str], problem: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        shown = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_SHOWN_LINES:])
        raise PackageError(f"{problem} (exit {done.returncode}):\n{shown}", fix="Check pip's settings and the network.")
