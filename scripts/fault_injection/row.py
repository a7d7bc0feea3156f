"""A row of the fault matrix, and rows that run tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from .lab import ROOT, Lab
from .process import expect

Check = Callable[[Lab], str]
"""Injects the fault and returns the result; raises if it is not the expected one."""


@dataclass(frozen=True)
class Row:
    """One line of the fault matrix."""

    number: int
    fault: str
    how: str
    expected: str
    check: Check


@dataclass(frozen=True)
class Outcome:
    """The result of a row."""

    row: Row
    passed: bool
    seen: str
    seconds: float


@cache
def pytest_once(*arguments: str) -> tuple[int, str]:
    """Run tests by node id, once for rows that share them; returns exit status and summary."""
    command = [sys.executable, "-m", "pytest", "--durations=0", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if re.search(r"\d (passed|failed|error|skipped)", line)]
    return done.returncode, lines[-1].strip(" =") if lines else done.stdout[-300:] + done.stderr[-300:]


def run_tests(*arguments: str) -> str:
    """Run tests; all must pass and none may be skipped."""
    code, summary = pytest_once(*arguments)
    expect(code == 0, f"tests: {summary}")
    expect("skipped" not in summary, f"tests were skipped: {summary}")
    return f"tests: {re.sub(r' in .*', '', summary)}"


def tests(*arguments: str) -> Check:
    """A check by tests: node ids below tests/, and options of pytest."""
    located = tuple(name if name.startswith("-") or "::" not in name else f"tests/{name}" for name in arguments)

    def check(lab: Lab) -> str:
        return run_tests(*located)

    return check


def both(*checks: Check) -> Check:
    """Several checks as one row."""

    def check(lab: Lab) -> str:
        return "; ".join(one(lab) for one in checks)

    return check
