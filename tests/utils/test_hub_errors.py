"""Every failure of the Hub has a name: with the real client and a fake server, and for raised errors."""

from __future__ import annotations

import errno
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from hf_trainpipe.utils.hub_errors import reason_of
from tests.hub.hub_server import TOKEN, Blob, Fault, Repository, serve

ASK = """
import json, os, sys
from hf_trainpipe import Pretrained
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.data.sources_hub import pinned_commit
from hf_trainpipe.model.names import load_config, pin_model

for name, revision, token in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = token
    try:
        if name.startswith("data:"):
            pinned_commit(name[5:], config=None, revision=revision)
        else:
            load_config(pin_model(Pretrained(name, revision=revision)))
        print(json.dumps(["none", "", ""]))
    except TrainpipeError as error:
        print(json.dumps([error.data["reason"], error.message, error.fix]))
"""


def test_every_answer_of_the_hub_has_a_named_reason(tmp_path: Path) -> None:
    def error(path: str, status: int, **headers: str) -> Fault:
        return Fault("GET", path, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, times=9)

    with serve() as hub:
        for name, files in {"u/good": ("config.json", "model.safetensors"), "u/pickles": ("config.json", "pytorch_model.bin"),
                            "u/empty": ("model.safetensors",)}.items():  # fmt: skip
            hub.repositories[name] = repository = Repository(private=False)
            repository.commit("main", {file: Blob(b'{"model_type": "bert"}', lfs=False) for file in files}, "first")
        hub.faults += [
            error("/u/rejected", 401, X_Error_Message="Invalid credentials in Authorization header"),
            error("/u/gated", 403, X_Error_Code="GatedRepo"),
            error("/u/forbidden", 403),
            error("/u/busy", 429, Retry_After="7"),
            error("/u/broken", 503),
        ]
        wanted = [
            ("u/good", None, TOKEN, "none", ""),
            ("u/nowhere", None, TOKEN, "no-repository", "the token in HF_TOKEN may not see it"),
            ("u/nowhere", None, "", "token", "HF_TOKEN is not set"),
            ("u/good", "v9", TOKEN, "no-revision", "no revision 'v9'"),
            ("u/empty", None, TOKEN, "unknown-kind", "config.json"),
            ("u/pickles", None, TOKEN, "pickled", "no weights in safetensors format"),
            ("u/rejected", None, TOKEN, "token", "rejected the token in HF_TOKEN (401)"),
            ("u/gated", None, TOKEN, "gated", "the token in HF_TOKEN has no access"),
            ("u/gated", None, "", "gated", "HF_TOKEN, which is not set"),
            ("u/forbidden", None, TOKEN, "forbidden", "(403)"),
            ("u/busy", None, "", "busy", "(429)"),
            ("u/broken", None, TOKEN, "server", "(503)"),
            ("data:u/rejected", None, TOKEN, "token", "data.repo: 'u/rejected' cannot be loaded"),
            ("data:u/gated", None, TOKEN, "gated", ""),
            ("data:u/broken", None, TOKEN, "server", "(503)"),
        ]
        done = subprocess.run(
            [sys.executable, "-c", ASK, json.dumps([row[:3] for row in wanted])],
            env={
                **os.environ,
                "HF_ENDPOINT": hub.url,
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_OFFLINE": "0",
                "HF_HOME": str(tmp_path / "hf"),
                "HF_TRAINPIPE_CACHE": str(tmp_path / "cache"),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(wanted), done.stderr
    wrong = [
        (name, kind, reason, message)
        for (name, _, _, kind, words), (reason, message, fix) in zip(wanted, found, strict=True)
        if reason != kind or words not in message or (kind != "none" and not fix)
    ]
    assert not wrong, json.dumps(wrong, indent=1)
    assert "in 7 s; with HF_TOKEN set" in found[10][2]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left", "/cache/blob"), "disk", "/cache/blob"),
        (PermissionError(errno.EACCES, "denied", "/cache"), "access", "/cache"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "tls", "self-signed"),
        (ssl.SSLError(1, "certificate verify failed"), "tls", "certificate"),
        (httpx.ConnectTimeout("timed out"), "timeout", "ConnectTimeout"),
        (httpx.ConnectError("Name or service not known"), "network", "ConnectError"),
        (json.JSONDecodeError("Expecting value", "", 0), "damaged", "Expecting value"),
        (
            ValueError("Please pass the argument `trust_remote_code=True` to allow custom code"),
            "code",
            "custom code",
        ),
        (ValueError("model type `new` but Transformers does not recognize this architecture"), "unknown-kind", "new"),
    ],
)
def test_what_the_machine_says(error: Exception, kind: str, words: str) -> None:
    wrapped = OSError("We couldn't connect to the Hub")
    wrapped.__cause__ = error
    for shown in (error, wrapped):
        reason = reason_of(shown, repo="user/name")
        assert reason.kind == kind
        assert words in reason.said
        assert reason.fix
