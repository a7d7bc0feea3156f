"""Virtual environments that hold what a package's requirements.txt names, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hf_trainpipe.errors import PackageError

_SHOWN_LINES = 12
_PIN = re.compile(r"([A-Za-z][\w.-]*)==[\w.]+", re.ASCII)
_KNOWN = frozenset(
    ("torch", "transformers", "tokenizers", "safetensors", "numpy", "huggingface-hub", "onnxruntime", "spacy")
)


def refuse_strangers(requirements: Path) -> None:
    """Refuse lines that are not pins of what every package needs: pip runs code of what it installs, and reads options.

    Raises:
        PackageError: with the line; exit code 2.
    """
    if not requirements.is_file():
        return
    for number, line in enumerate(requirements.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        pin = _PIN.fullmatch(line.strip())
        if line.strip() and (pin is None or pin[1].lower().replace("_", "-") not in _KNOWN):
            raise PackageError(
                f"{requirements}, line {number}: expected a pin of {', '.join(sorted(_KNOWN))}, found {line.strip()[:80]!r}; "
                "it was not installed.",
                fix="Read it; if you trust it, allow it with --allow-code.",
                exit_code=2,
            )


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
