"""Find secrets: mask them in logs and messages, refuse to upload them.

One rule for both: tokens and keys by their form, and the values (8 characters and more) of environment variables
whose names contain TOKEN, SECRET, KEY, PASSWORD or CREDENTIAL. Uploads must not contain home paths either.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hf_trainpipe.errors import PushError

_SECRET_NAME = re.compile(r"TOKEN|SECRET|KEY|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8
_LISTED_FINDINGS = 10
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a Hugging Face token", re.compile(r"\b(?:hf|hf_oauth|api_org)_[A-Za-z0-9]{16,}")),
    ("a Neptune token", re.compile(r"eyJhcGlf[A-Za-z0-9+/_-]{8,}")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("an API key", re.compile(r"\bsk-[A-Za-z0-9_-]{20,}")),
    ("a URL with a password", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']+:(?!\$\{\w+\}@)[^\s/:@\"']{3,}@[\w.-]")),
    (
        "a secret with its name",
        re.compile(
            r"\b[A-Z0-9_]*(?:API_KEY|API_TOKEN|SECRET_ACCESS_KEY|HF_TOKEN|HUB_TOKEN|SECRET|PASSWORD)"
            r"[\"']?[ \t]*[=:][ \t]*[\"']?(?!os\.|env|\$|None|null)[^\s\"'${}()<>]{8,}"
        ),
    ),
    ("a home path", re.compile(r"(?m)(?<![\w.~-])(?:/home|/Users)/[^/\s\"'\\<>|:]+(?=[/\"'\s]|$)")),
    ("a home path", re.compile(r"(?i)\b[A-Z]:\\{1,2}Users\\{1,2}[^\\\s\"']+")),
)
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")
"""The query of a URL: it may hold a signature."""
_BINARY = (".safetensors", ".model", ".onnx", ".data")
_LARGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class Finding:
    """Something that must not be uploaded. The secret itself is not kept."""

    file: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.kind}"


def _secret_values(environment: Mapping[str, str]) -> list[tuple[str, re.Pattern[str]]]:
    """A pattern for the value of each secret variable, also as JSON writes it; the longest value first."""
    secrets = [(name, value) for name, value in environment.items() if _SECRET_NAME.search(name)]
    patterns = []
    for name, value in sorted(secrets, key=lambda item: -len(item[1])):
        if len(value) >= _SHORTEST_SECRET:
            forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
            patterns.append((f"the value of ${name}", re.compile("|".join(map(re.escape, sorted(forms))))))
    return patterns


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable is a credential, by its name or by the form of its value.

    >>> is_secret("HF_TOKEN", "x"), is_secret("TRACKING_URI", "https://me:secret@host"), is_secret("HF_HOME", "/home/me/hf")
    (True, True, False)
    """
    return bool(_SECRET_NAME.search(name)) or any(
        pattern.search(value) for kind, pattern in _PATTERNS if kind != "a home path"
    )


def _own_home() -> str | None:
    home = str(Path.home())
    return home if home.count("/") + home.count("\\") >= 1 and len(home) > 3 else None


def scan_text(text: str, *, file: str, environment: Mapping[str, str] | None = None) -> list[Finding]:
    """What must not be uploaded in ``text``, by line.

    ``environment`` defaults to the process's own: values (8 characters and more) of variables named like
    tokens, secrets, keys or passwords are searched for too.

    >>> [str(finding) for finding in scan_text("x\\naws AKIAABCDEFGHIJKLMNOP", file="a.txt", environment={})]
    ['a.txt, line 2: an AWS access key']
    """
    patterns = [*_PATTERNS, *_secret_values(os.environ if environment is None else environment)]
    if home := _own_home():
        patterns.append(("a home path", re.compile(rf"(?m)(?<![\w.~-]){re.escape(home)}(?=[/\\\"'\s]|$)")))
    found = {
        (text.count("\n", 0, match.start()) + 1, position, kind)
        for position, (kind, pattern) in enumerate(patterns)
        for match in pattern.finditer(text)
    }
    findings = [Finding(file, line, kind) for line, _, kind in sorted(found)]
    return list(dict.fromkeys(findings))


def scrub(text: str, *, environment: Mapping[str, str] | None = None) -> str:
    """``text`` with ``***`` in place of every token and key, value of a secret variable, and query of a URL.

    >>> scrub("answered by AKIAABCDEFGHIJKLMNOP: no, see https://store.example/x?Signature=abc", environment={})
    'answered by ***: no, see https://store.example/x?***'
    """
    for kind, pattern in [*_secret_values(os.environ if environment is None else environment), *_PATTERNS]:
        if kind != "a home path":
            text = pattern.sub("***", text)
    return _QUERY.sub(r"\1?***", text)


def _readable(path: Path) -> str:
    if path.suffix == ".safetensors":  # the header is JSON and may carry metadata
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            return stream.read(min(size, _LARGEST_HEADER)).decode("utf-8", errors="replace")
    if path.suffix in _BINARY:
        return ""
    return path.read_bytes().decode("utf-8", errors="replace")


def scan_files(directory: Path, names: Iterable[str], *, environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Scan text files, and the headers of safetensors files, of ``directory``."""
    findings: list[Finding] = []
    for name in names:
        findings.extend(scan_text(_readable(directory / name), file=name, environment=environment))
        findings.extend(scan_text(name, file=name, environment=environment))
    return findings


def refuse_secrets(directory: Path, names: Iterable[str], *, what: str) -> None:
    """Refuse to upload files with tokens, keys, values of secret variables or home paths.

    Raises:
        PushError: with file and line of each, without the secret.
    """
    findings = scan_files(directory, names)
    if not findings:
        return
    listed = "; ".join(str(finding) for finding in findings[:_LISTED_FINDINGS])
    more = len(findings) - _LISTED_FINDINGS
    raise PushError(
        f"Nothing was pushed, because the {what} contains secrets or home paths: {listed}"
        f"{f'; and {more} more' if more > 0 else ''}.",
        fix="Remove it where it comes from (recipe, data, tokenizer), and write the package again.",
        file=findings[0].file,
        line=findings[0].line,
    )
