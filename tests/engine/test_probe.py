"""The probe runs once per machine, and its result is used."""

from __future__ import annotations

import json

import pytest
import torch

from hf_trainpipe.engine import device, machine, probe


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_TRAINPIPE_THREADS", raising=False)
    monkeypatch.setattr(probe, "SECONDS", 0.01)
    return tmp_path


def test_what_was_found_is_kept(cache, monkeypatch) -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    found = probe.probe()
    assert 1 <= found.threads <= device.num_threads()
    assert found.precision in ("fp32", "medium")
    assert all(speed > 0 for speed in found.gflops.values())
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before
    (file,) = (cache / "probe").glob("*.json")
    file.write_text(json.dumps({"threads": 1, "precision": "medium", "gflops": {}}))
    assert probe.probe() == probe.ProbeResult(1, "medium", {})
    found = machine.this_machine("auto", ranks=1, on_gpu=False)
    assert (found.threads, found.precision) == (1, "medium")
    asked = machine.this_machine("fp32", ranks=1, on_gpu=False)
    assert (asked.threads, asked.precision) == (device.num_threads(), "fp32")
    assert machine.this_machine("auto", ranks=1, on_gpu=False, recorded=asked.to_json()) == asked, "goes on as it began"
    fewer = machine.this_machine("auto", ranks=2, on_gpu=False, recorded=asked.to_json())
    assert (fewer.threads, fewer.precision) == (1, "fp32"), "other ranks, other threads, the same precision"
    monkeypatch.setenv("HF_TRAINPIPE_THREADS", "3")
    chosen = machine.this_machine("auto", ranks=1, on_gpu=False)
    monkeypatch.delenv("HF_TRAINPIPE_THREADS")
    again = machine.this_machine("auto", ranks=1, on_gpu=False, recorded=chosen.to_json())
    assert (chosen.threads, again.threads) == (3, 3), "a run resumed without the variable goes on as it began"
    file.write_text("half a file")
    assert probe.probe().gflops


def test_precision_is_applied() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        device.set_precision("medium")
        assert torch.get_float32_matmul_precision() == "medium"
        device.set_precision("fp32")
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)
