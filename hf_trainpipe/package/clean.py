"""Virtual environments that hold what a package's requirements.txt names, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from hf_trainpipe.errors import PackageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["environment"]

_SHOWN_LINES = 12


def environment(folder: Path, requirements: Path) -> Path:
    """Make the virtual environment ``folder``, or bring an earlier one up to date, and return its interpreter.

    pip's own settings (PIP_* and its configuration files) say where packages come from.

    Raises:
        PackageError: pip cannot install a requirement, two of them do not go together, or hf_trainpipe is in it.
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.is_file():
        _run([sys.executable, "-m", "venv", str(folder)], f"{folder} cannot be made")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--requirement", str(requirements)], f"{requirements} cannot be installed")
    _run([*pip, "check"], f"{requirements}: its packages do not go together")
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
        raise PackageError(
            f"{problem} (exit {done.returncode}):\n{shown}", fix="Look at pip's settings and the network."
        )
