"""A checkpoint of shards that several ranks write: collected, combined, dropped if one rank fails."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.checkpoint.manifest import shard_name, shards_of
from hf_trainpipe.checkpoint.shards import ShardWriter
from hf_trainpipe.checkpoint.snapshot import Snapshot
from hf_trainpipe.checkpoint.store import SaveFailed, Store

STATE = {"run": {"step": 7}}


def cut(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    """Shard like FSDP2: torch.chunk along the first dimension, nothing for the remaining ranks."""
    pieces = list(tensor.chunk(ranks))
    return pieces + [tensor[:0]] * (ranks - len(pieces))


def save(folder, ranks: int, whole: dict[str, torch.Tensor], step: int = 7) -> Store:
    store = Store(folder)
    writers = [ShardWriter(folder / "checkpoints", rank=rank, ranks=ranks) for rank in range(1, ranks)]
    rows = [{name: cut(tensor, ranks)[rank] for name, tensor in whole.items()} for rank in range(ranks)]
    for writer in writers:
        writer.save_async(step, model=rows[writer.rank], optimizer=rows[writer.rank])
    scalar = {"step/w": torch.tensor(3.0)}  # not cut: in rank 0's file alone
    store.save_async(Snapshot(step=step, model=rows[0], optimizer=rows[0] | scalar, state=STATE, ranks=ranks))
    for writer in writers:
        writer.wait()
    store.wait()
    return store


@settings(max_examples=15, deadline=None)
@given(ranks=st.integers(1, 5), rows=st.integers(1, 9))
def test_any_number_of_ranks_puts_the_same_tensors_together(tmp_path_factory, ranks, rows) -> None:
    whole = {"w": torch.arange(rows * 3, dtype=torch.float32).reshape(rows, 3), "b": torch.arange(rows) + 0.5}
    folder = tmp_path_factory.mktemp("rows")
    checkpoint = save(folder, ranks, whole).latest()
    assert checkpoint is not None
    for found in (checkpoint.load_model(), checkpoint.load_optimizer()):
        assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())
    assert checkpoint.load_optimizer()["step/w"] == 3.0
    assert not list((folder / "checkpoints").glob(".tmp-*"))


def test_a_damaged_row_of_another_rank_is_found_and_the_checkpoint_before_is_used(tmp_path) -> None:
    whole = {"w": torch.randn(6, 2)}
    save(tmp_path, 2, whole, step=3)
    save(tmp_path, 2, whole, step=7)
    place = tmp_path / "checkpoints/step-00000007/model-00002-of-00002.safetensors"
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    told = []
    checkpoint = Store(tmp_path, on_quarantine=lambda place, reason: told.append(reason)).latest()
    assert checkpoint is not None
    assert checkpoint.step == 3
    assert told == ["model-00002-of-00002.safetensors does not match its sha256"]


def test_a_rank_that_cannot_write_gives_the_save_up_and_nothing_is_left(tmp_path) -> None:
    store = Store(tmp_path)
    writer = ShardWriter(tmp_path / "checkpoints", rank=1, ranks=2)
    (tmp_path / "checkpoints/.tmp-rows-00000007-00001").write_text("in the way of the folder")
    rows = {"w": torch.ones(2)}
    writer.save_async(7, model=rows, optimizer=rows)
    store.save_async(Snapshot(step=7, model=rows, optimizer=rows, state=STATE, ranks=2))
    with pytest.raises(SaveFailed, match="rank 1"):
        store.wait()
    writer.wait()
    assert store.steps() == []
    assert not list((tmp_path / "checkpoints").glob(".tmp-*.json"))


def test_rank_0_waits_for_the_last_row(tmp_path) -> None:
    store = Store(tmp_path)
    rows = {"w": torch.ones(2)}
    store.save_async(Snapshot(step=7, model=rows, optimizer=rows, state=STATE, ranks=2))
    assert not threading.Event().wait(0.2)
    assert store.steps() == []
    writer = ShardWriter(tmp_path / "checkpoints", rank=1, ranks=2)
    writer.save_async(7, model=rows, optimizer=rows)
    store.wait()
    assert store.steps() == [7]
    files = json.loads((tmp_path / "checkpoints/step-00000007/MANIFEST.json").read_text())["files"]
    assert shards_of("model.safetensors", files) == [shard_name("model.safetensors", rank, 2) for rank in range(2)]
    assert shards_of("model.safetensors", [shard_name("model.safetensors", 1, 2)]) == []
