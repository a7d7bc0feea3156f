"""The checkpoint store: round trips, damage, rotation, background saves. Row numbers are those of the fault matrix."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import torch

from hf_trainpipe.checkpoint.manifest import Broken, read, render, verify
from hf_trainpipe.checkpoint.snapshot import Snapshot
from hf_trainpipe.checkpoint.store import SaveFailed, Store
from hf_trainpipe.errors import CheckpointError, TrainpipeError

FILES = ["MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json"]
RUN = "run-1"


def snapshot(step: int, **changes: object) -> Snapshot:
    """A state that depends on ``step`` alone."""
    random = torch.manual_seed(step)
    weight = torch.randn(6, 4, generator=random)
    moment = torch.randn(6, 4, generator=random)
    fields = {
        "step": step,
        "model": {"weight": weight, "tied": weight, "half": torch.randn(5, generator=random).bfloat16()},
        "optimizer": {"exp_avg/weight": moment, "step/weight": torch.tensor(float(step))},
        "state": {"best": -math.inf, "window": (step, [0.1 + step, math.nan]), "scaler": None},
        "manifest": {"attempt": 1, "epoch": step / 10, "seed": 17, "dtype": "bfloat16"},
    }
    return Snapshot(**(fields | changes))


def make(directory: Path, steps=(1, 2, 3), **options) -> Store:
    store = Store(directory, run_uid=RUN, **({"keep": 9} | options))
    for step in steps:
        store.save(snapshot(step))
    return store


def assert_holds(checkpoint, step: int) -> None:
    expected = snapshot(step)
    assert checkpoint is not None
    assert checkpoint.step == step
    for loaded, saved in (
        (checkpoint.load_model(), expected.model),
        (checkpoint.load_optimizer(), expected.optimizer),
    ):
        assert loaded.keys() == saved.keys()
        assert all(torch.equal(loaded[name], saved[name]) for name in saved)
        assert all(loaded[name].dtype == saved[name].dtype for name in saved)
    assert repr(sorted(checkpoint.state.items())) == repr(sorted(expected.state.items()))
    assert expected.manifest.items() <= checkpoint.manifest.items()


def quarantined(directory: Path) -> dict[str, str]:
    folder = directory / "checkpoints" / ".quarantine"
    return {
        path.name.removesuffix(".reason.json"): json.loads(path.read_text())["reason"]
        for path in folder.glob("*.reason.json")
    }


def test_what_was_saved_comes_back(tmp_path):
    store = make(tmp_path, keep=2)
    assert_holds(store.latest(), 3)
    assert_holds(Store(tmp_path, run_uid=RUN).at(2), 2)
    tied = store.latest().load_model()
    assert tied["tied"].data_ptr() == tied["weight"].data_ptr()
    folder = tmp_path / "checkpoints" / "step-00000003"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert manifest["files"].keys() == set(FILES) - {"MANIFEST.json"}
    assert str(tmp_path) not in (folder / "MANIFEST.json").read_text()


def test_a_directory_that_never_saved_has_nothing(tmp_path):
    assert Store(tmp_path / "new" / "run").latest() is None
    assert Store(tmp_path / "other", mode="read").latest() is None
    assert not (tmp_path / "other").exists()


def test_the_same_state_gives_the_same_bytes_in_front_and_behind(tmp_path):
    front, behind = make(tmp_path / "front", steps=[5]), make(tmp_path / "behind", steps=[])
    behind.save_async(snapshot(5))
    assert behind.wait() == tmp_path / "behind" / "checkpoints" / "step-00000005"
    assert front.latest().manifest == behind.latest().manifest
    for name in FILES:
        parts = ("checkpoints", "step-00000005", name)
        assert tmp_path.joinpath("front", *parts).read_bytes() == tmp_path.joinpath("behind", *parts).read_bytes()


def test_saving_a_step_again_leaves_it_as_it_is(tmp_path):
    store = make(tmp_path)
    before = os.stat(tmp_path / "checkpoints" / "step-00000003").st_ino
    store.save(snapshot(3))
    assert os.stat(tmp_path / "checkpoints" / "step-00000003").st_ino == before
    (tmp_path / "checkpoints" / "step-00000003" / "state.json").write_bytes(b"")
    store.save(snapshot(3))
    assert_holds(store.latest(), 3)
    assert list(quarantined(tmp_path)) == ["step-00000003-1"]


# Rows 10 to 14: damage


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\n")


DAMAGE = {
    "first byte": lambda path: flip(path, 0, 0),
    "middle byte": lambda path: flip(path, path.stat().st_size // 2, 5),
    "last byte": lambda path: flip(path, -1, 7),
    "truncated": truncate,
    "grown": grow,
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("gone")),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_put_into_quarantine_and_passed_over(name, damage, tmp_path):
    make(tmp_path)
    DAMAGE[damage](tmp_path / "checkpoints" / "step-00000003" / name)
    told = []
    store = Store(tmp_path, run_uid=RUN, on_quarantine=lambda place, reason: told.append((place, reason)))
    assert_holds(store.latest(), 2)
    ((place, reason),) = told
    assert place == tmp_path / "checkpoints" / ".quarantine" / "step-00000003-1"
    assert place.is_dir()
    assert name in reason
    assert quarantined(tmp_path) == {"step-00000003-1": reason}
    assert_holds(store.latest(), 2)
    assert len(told) == 1
    store.save(snapshot(3))  # the run gets there again
    assert_holds(store.latest(), 3)


def test_any_flipped_bit_of_a_manifest_is_found(tmp_path):
    make(tmp_path, steps=[1, 2])
    path = tmp_path / "checkpoints" / "step-00000002" / "MANIFEST.json"
    intact = path.read_bytes()
    store = Store(tmp_path, run_uid=RUN, mode="read", on_quarantine=lambda place, reason: None)
    for position in range(0, len(intact), 2):
        flip(path, position, position // 2 % 8)
        assert store.latest().step == 1, position
        path.write_bytes(intact)
    assert store.latest().step == 2


def test_a_damaged_checkpoint_is_logged_without_a_callback_and_left_alone_when_reading(tmp_path, caplog):
    make(tmp_path)
    truncate(tmp_path / "checkpoints" / "step-00000003" / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        assert_holds(Store(tmp_path, mode="read").latest(), 2)
    assert "model.safetensors has" in caplog.text
    assert (tmp_path / "checkpoints" / "step-00000003").is_dir()


def test_none_valid_is_an_error_of_its_own_and_stays_one(tmp_path):
    make(tmp_path, steps=[1, 2])
    for step in (1, 2):
        (tmp_path / "checkpoints" / f"step-0000000{step}" / "state.json").unlink()
    for _ in range(2):  # not a silent restart the second time either
        with pytest.raises(CheckpointError, match="none is valid") as caught:
            Store(tmp_path, on_quarantine=lambda place, reason: None).latest()
        assert caught.value.exit_code == 3
    assert len(quarantined(tmp_path)) == 2


def test_checkpoints_deleted_by_hand_are_missed(tmp_path):
    make(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match="none is valid"):
        Store(tmp_path).latest()


def rewrite_manifest(folder: Path, **changes: object) -> None:
    body = json.loads((folder / "MANIFEST.json").read_text())
    (folder / "MANIFEST.json").write_bytes(render(body | changes))


def test_a_newer_schema_is_refused_and_kept(tmp_path):
    make(tmp_path)
    rewrite_manifest(tmp_path / "checkpoints" / "step-00000003", schema=2, files="as a later version has them")
    with pytest.raises(CheckpointError, match="schema 2") as caught:
        Store(tmp_path).latest()
    assert "Update hf_trainpipe" in caught.value.fix
    assert (tmp_path / "checkpoints" / "step-00000003").is_dir()


def test_a_checkpoint_of_another_run_is_refused_with_both_names(tmp_path):
    make(tmp_path)
    with pytest.raises(CheckpointError, match=r"run-1.*run-2"):
        Store(tmp_path, run_uid="run-2").latest()
    assert Store(tmp_path).steps() == [1, 2, 3]


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(tmp_path):
    make(tmp_path)
    (tmp_path / "checkpoints" / "step-00000003").rename(tmp_path / "checkpoints" / "step-00000009")
    assert_holds(Store(tmp_path, on_quarantine=lambda place, reason: None).latest(), 2)
    assert "says step 3" in quarantined(tmp_path)["step-00000009-1"]


# Rotation


def test_the_newest_and_the_best_are_kept(tmp_path):
    store = make(tmp_path, steps=[], keep=2)
    for step in range(1, 8):
        store.save(snapshot(step, best_step=min(step, 3)))
    assert store.steps() == [3, 6, 7]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [f"step-0000000{n}" for n in (3, 6, 7)]
    for name, step in (("latest.json", 7), ("best.json", 3)):
        pointer = json.loads((tmp_path / name).read_text())
        assert pointer == {"step": step, "path": f"checkpoints/step-0000000{step}"}
    store.save(snapshot(8, best_step=8))
    assert store.steps() == [7, 8]


def test_pointers_are_advisory(tmp_path):
    make(tmp_path)
    for name in ("latest.json", "best.json"):
        (tmp_path / name).write_text('{"step": 1')
    assert_holds(Store(tmp_path).latest(), 3)
    (tmp_path / "latest.json").unlink()
    assert_holds(Store(tmp_path).latest(), 3)


def test_fewer_than_two_are_not_kept(tmp_path):
    with pytest.raises(ValueError, match="2 or more"):
        Store(tmp_path, keep=1)


def test_leftovers_of_a_killed_process_are_removed_at_open_but_not_by_readers(tmp_path):
    make(tmp_path)
    folder = tmp_path / "checkpoints"
    before = sorted(os.listdir(folder))
    shutil.copytree(folder / "step-00000001", folder / ".tmp-00000004-x")
    shutil.copytree(folder / "step-00000001", folder / ".trash-step-00000001-x")
    (folder / ".tmp-probe-x").touch()
    (tmp_path / ".tmp-latest.json-x").touch()
    (tmp_path / ".tmp-of-someone-else").touch()
    assert_holds(Store(tmp_path, mode="read").latest(), 3)
    assert len(os.listdir(folder)) == len(before) + 3
    Store(tmp_path)
    assert sorted(os.listdir(folder)) == before
    assert sorted(path.name for path in tmp_path.glob(".tmp-*")) == [".tmp-of-someone-else"]


# Rows 33 and 34


def test_checkpoints_are_ordered_by_step_not_by_time(tmp_path):
    store = make(tmp_path, steps=[9, 10, 11], keep=2)
    folder = tmp_path / "checkpoints"
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert store.latest().step == 11
    os.utime(folder / "step-00000010", (2e9, 2e9))
    os.utime(folder / "step-00000011", (0, 0))
    assert Store(tmp_path).latest().step == 11
    store.save(snapshot(100_000_000))  # a name of nine digits
    assert store.steps() == [11, 100_000_000]
    assert store.latest().step == 100_000_000


def test_a_moved_directory_works(tmp_path):
    make(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    store = Store(tmp_path / "b", run_uid=RUN)
    assert_holds(store.latest(), 3)
    store.save(snapshot(4))
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    assert_holds(Store(tmp_path / "c", run_uid=RUN).latest(), 4)
    assert not (tmp_path / "a").exists()


def test_a_change_of_the_working_directory_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(Path("run"))
    monkeypatch.chdir("/")
    store.save(snapshot(1))
    assert (tmp_path / "run" / "checkpoints" / "step-00000001").is_dir()


# Saving behind


def test_a_snapshot_is_independent_of_what_trains_on(tmp_path):
    store = make(tmp_path, steps=[])
    for step in (1, 2, 3):
        given = snapshot(step)
        store.save_async(given)
        for tensor in (*given.model.values(), *given.optimizer.values()):
            tensor.zero_()
        given.state["window"] = "later"
    store.wait()
    assert store.wait() is None
    for step in (1, 2, 3):
        assert_holds(store.at(step), step)


def test_one_save_in_flight_and_the_next_one_waits(tmp_path):
    """The first save blocks in its cleanup on a pipe that is opened after the second save is requested."""
    store = make(tmp_path, steps=[])
    pipe = tmp_path / "latest.json"
    os.mkfifo(pipe)
    store.save_async(snapshot(1))
    second = threading.Thread(target=store.save_async, args=(snapshot(2),))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    with open(pipe, "w"):  # the first save reads the pointer, which is empty
        pass
    second.join()
    store.wait()
    assert store.steps() == [1, 2]


def block(directory: Path, step: int) -> Path:
    """Make the saves fail: the quarantine is a file, and the step's name is taken by a full folder."""
    place = directory / "checkpoints" / f"step-{step:08d}"
    (place / "in the way").mkdir(parents=True)
    (directory / "checkpoints" / ".quarantine").touch()
    return place


def test_failed_saves_are_reported_and_counted_and_the_run_continues(tmp_path):
    store = make(tmp_path, steps=[1], on_quarantine=lambda place, reason: None)
    places = [block(tmp_path, step) for step in (2, 3, 4, 5)]
    not_empty = r"step 2 could not be saved: Directory not empty.*\(failed saves in a row: 1 of at most 3\)"
    with pytest.raises(SaveFailed, match=not_empty) as caught:
        store.save(snapshot(2))
    assert not caught.value.give_up

    store.save_async(snapshot(3))
    with pytest.raises(SaveFailed, match=r"step 3 .* row: 2") as caught:
        store.save_async(snapshot(4))  # tells of 3 and starts 4
    assert not caught.value.give_up
    with pytest.raises(SaveFailed, match=r"step 4 .* row: 3") as caught:
        store.wait()
    assert caught.value.give_up

    store.save_async(snapshot(5))
    store.save(snapshot(6))  # a good one makes up for the failed one before it
    with pytest.raises(SaveFailed, match="step 5 could not be saved"):
        store.wait()
    assert store.failures_in_a_row == 0
    for place in places:
        shutil.rmtree(place)
    (tmp_path / "checkpoints" / ".quarantine").unlink()
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-00000001", "step-00000006"]
    assert_holds(store.latest(), 6)


def test_a_mistake_of_the_caller_is_no_failed_save(tmp_path):
    store = make(tmp_path, steps=[1])
    for bad in (
        {"state": {"x": torch.zeros(1)}},
        {"model": {"w": torch.zeros(1, dtype=torch.complex128)}},
        {"manifest": {"x": {1: 1}}},
    ):
        for save in (store.save, store.save_async):
            with pytest.raises(TypeError):
                save(snapshot(2, **bad))
    with pytest.raises(ValueError, match="files"):
        snapshot(2, manifest={"files": {}})
    with pytest.raises(ValueError, match="0 or more"):
        snapshot(-1)
    assert store.steps() == [1]


# Rows 7 to 9 on a real small disk


def test_a_full_disk_costs_the_new_checkpoint_only(small_disk):
    store = Store(small_disk, run_uid=RUN)
    big = {"weight": torch.ones(20_000)}
    store.save(snapshot(1, model=big))
    store.save(snapshot(2, model=big))
    store.save(snapshot(3, model=big))  # three fit for a moment
    with pytest.raises(SaveFailed, match="No space left"):
        store.save(snapshot(4, model={"weight": torch.ones(80_000)}))
    assert sorted(os.listdir(small_disk / "checkpoints")) == ["step-00000002", "step-00000003"]
    assert store.latest().step == 3
    store.save(snapshot(5, model=big))
    assert Store(small_disk, run_uid=RUN).latest().step == 5


def test_a_read_only_directory_is_refused_at_the_start_and_can_be_read(small_disk):
    make(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(TrainpipeError, match="Read-only file system") as caught:
        Store(small_disk)
    assert caught.value.exit_code == 2
    assert_holds(Store(small_disk, mode="read").latest(), 3)


@pytest.mark.parametrize(
    ("name", "facts", "message"),
    [
        ("../../outside", {"size": 0, "sha256": ""}, "which is no file of the checkpoint"),
        ("/dev/zero", {"size": 0, "sha256": ""}, "which is no file of the checkpoint"),
        ("a", {"size": "0", "sha256": ""}, "does not say size and sha256 of a"),
        ("a", 1, "does not say size and sha256 of a"),
    ],
)
def test_a_forged_manifest_may_list_only_files_of_the_checkpoint(
    tmp_path: Path, name: str, facts: object, message: str
) -> None:
    make(tmp_path, [1])
    [folder] = tmp_path.rglob("step-00000001")
    manifest = read(folder, run_uid=RUN)
    (folder / "MANIFEST.json").write_bytes(render({**manifest, "files": {**manifest["files"], name: facts}}))
    with pytest.raises(Broken, match=message):
        verify(folder, run_uid=RUN)
