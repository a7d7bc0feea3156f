from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.utils.secrets import scan_files, scan_text

if TYPE_CHECKING:
    from pathlib import Path

NEPTUNE = "eyJhcGlfYWRkcmVzcyI6Imh0dHBzOi8vYXBwLm5lcHR1bmUuYWkifQ=="


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("token = hf_" + "A1b2" * 8, "a Hugging Face token"),
        (f"x {NEPTUNE}", "a Neptune token"),
        ("AKIAIOSFODNN7EXAMPLE", "an AWS access key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("-----BEGIN PRIVATE KEY-----", "a private key"),
        ('"NEPTUNE_API_TOKEN": "abcdefgh12345"', "a secret with its name"),
        ("https://user:passw0rd@host/x", "a URL with a password"),
        ("see /home/alice/data.csv", "a home path"),
        ("see /Users/alice/data.csv", "a home path"),
        (r"see C:\Users\alice\data.csv", "a home path"),
    ],
)
def test_finds(text: str, kind: str) -> None:
    findings = scan_text(f"first line\n{text}\n", file="f.txt", environment={})
    assert [(finding.file, finding.line, finding.kind) for finding in findings] == [("f.txt", 2, kind)]


@pytest.mark.parametrize(
    "text",
    [
        '{"pad_token": "[PAD]", "bos_token_id": 101}',
        "from hf_trainpipe import Recipe",
        "https://example.com/home/user/index.html",
        "~/data/train.csv",
        'token = os.environ["HF_TOKEN"]',
        "HF_TOKEN=$HF_TOKEN",
        "NEPTUNE_API_TOKEN = os.environ.get('NEPTUNE_API_TOKEN')",
    ],
)
def test_leaves_harmless_text_alone(text: str) -> None:
    assert scan_text(text, file="f.txt", environment={}) == []


def test_finds_values_of_secret_variables_also_inside_json(tmp_path: Path) -> None:
    environment = {"MY_SERVICE_PASSWORD": 'a"quoted"canary', "OTHER_KEY": "short", "HARMLESS": "canary-value"}
    (tmp_path / "config.json").write_text(json.dumps({"a": 1, "b": 'a"quoted"canary short canary-value'}, indent=1))
    findings = scan_files(tmp_path, ["config.json"], environment=environment)
    assert [str(finding) for finding in findings] == ["config.json, line 3: the value of $MY_SERVICE_PASSWORD"]
    assert "canary" not in str(findings)


def test_finds_own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/alice")
    assert [f.kind for f in scan_text("/srv/people/alice/x", file="f", environment={})] == ["a home path"]
    assert scan_text("/srv/people/alicent/x", file="f", environment={}) == []


def test_reads_the_header_of_weights(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"by": "/home/alice/run"})
    assert [f.kind for f in scan_files(tmp_path, ["model.safetensors"], environment={})] == ["a home path"]
