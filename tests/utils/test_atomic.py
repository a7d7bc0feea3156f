from __future__ import annotations

import hashlib
import json

import pytest

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.utils import atomic


def test_a_file_is_replaced_and_nothing_temporary_stays(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_json(path, {"b": 1, "a": "é"})
    atomic.write_json(path, {"b": 2})
    assert json.loads(path.read_text()) == {"b": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_content(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "x").touch()
    with pytest.raises(OSError, match="directory"):
        atomic.write_bytes(folder, b"new")  # a file cannot replace a folder
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "y.json", float("nan"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_write_new_never_overwrites(tmp_path):
    written = atomic.write_new(tmp_path / "x", b"abc")
    assert written == (3, hashlib.sha256(b"abc").hexdigest())
    assert atomic.sha256_file(tmp_path / "x") == written.sha256
    with pytest.raises(FileExistsError):
        atomic.write_new(tmp_path / "x", b"")


def test_fsync_tree_walks_files_links_and_folders(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("c")
    (tmp_path / "a" / "dangling").symlink_to("nowhere")
    atomic.fsync_tree(tmp_path)


def test_too_little_space_is_refused_with_numbers(tmp_path):
    atomic.require_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(TrainpipeError, match="are free") as caught:
        atomic.require_space(tmp_path, 10**18)
    assert caught.value.exit_code == 2


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainpipeError, match="cannot be written"):
        atomic.require_writable(tmp_path / "file" / "run")
    atomic.require_writable(tmp_path / "a" / "run")
    assert list((tmp_path / "a" / "run").iterdir()) == []
