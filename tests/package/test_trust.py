"""Manipulated packages: each is refused with an error, and none of the injected code runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import clean, layout
from hf_trainpipe.package.predict import predict_file
from hf_trainpipe.package.verify import read_recorded, verify
from hf_trainpipe.runtime.errors import InputError, SchemaError
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.safety import files, schema, stamps
from hf_trainpipe.runtime.safety.onnx_file import check_onnx
from hf_trainpipe.runtime.text.preprocessing import SpacyTokens
from hf_trainpipe.serve import engine
from tests.runtime.conftest import seal

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-00001-of-00001.safetensors"
CANARY = "import pathlib; pathlib.Path({!r}).write_text('it ran')\n"


@pytest.fixture
def package(classifier_run: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "package"
    shutil.copytree(classifier_run / "package", copy)
    return copy


def write(folder: Path, name: str, content: bytes | str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def change(folder: Path, name: str, **fields: Any) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **fields}))


def flip(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def link(folder: Path, name: str) -> None:
    moved = folder.parent / f"outside-{Path(name).name}"
    shutil.move(folder / name, moved)
    (folder / name).symlink_to(moved)


def parent_in_the_manifest(folder: Path) -> None:
    listed = json.loads((folder / layout.MANIFEST).read_text())["files"]
    change(folder, layout.MANIFEST, files={**listed, "../x.json": listed["config.json"]})


def missing_in_the_manifest(folder: Path) -> None:
    change(folder, layout.MANIFEST, files={})


# What the hashes in trainpipe.json show.
DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a flipped bit": (flip, r"model\.safetensors has sha256"),
    "a download cut off": (
        lambda folder: os.truncate(folder / WEIGHTS, 1000),
        r"model\.safetensors has 1000 bytes, \d+ were recorded",
    ),
    "an empty file": (lambda folder: os.truncate(folder / "tokenizer.json", 0), r"tokenizer\.json has 0 bytes"),
    "a file that did not come": (
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        r"tokenizer_config\.json is missing",
    ),
    "a pointer of Git LFS": (
        lambda folder: write(folder, WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        r"model\.safetensors is a pointer of Git LFS",
    ),
    "a module beside": (lambda folder: write(folder, "torch.py", "raise SystemExit(9)"), r"torch\.py is not listed"),
    "a folder that is a module": (
        lambda folder: write(folder, "numpy/__init__.py", "raise SystemExit(9)"),
        r"numpy/__init__\.py is not listed",
    ),
    "byte code beside": (lambda folder: write(folder, "torch.pyc", b"\0"), r"torch\.pyc is not listed"),
    "a path file": (lambda folder: write(folder, "x.pth", "import os"), r"x\.pth is not listed"),
    "site's hook": (lambda folder: write(folder, "sitecustomize.py", ""), r"sitecustomize\.py is not listed"),
    "a library": (lambda folder: write(folder, "_x.so", b"\x7fELF"), r"_x\.so is not listed"),
    "an adapter": (lambda folder: write(folder, "adapter_config.json", "{}"), r"adapter_config\.json is not listed"),
    "pickled weights": (
        lambda folder: write(folder, "pytorch_model.bin", b"\x80"),
        r"pytorch_model\.bin is not listed",
    ),
    "linked weights": (lambda folder: link(folder, WEIGHTS), r"model\.safetensors is a link \(to '.*outside"),
    "a linked folder": (lambda folder: link(folder, "trainpipe_runtime"), r"trainpipe_runtime is a link"),
    "a linked manifest": (
        lambda folder: link(folder, layout.MANIFEST),
        r"trainpipe\.json: cannot be read: it is a link",
    ),
    "a pipe": (lambda folder: os.mkfifo(folder / "x.json"), r"x\.json is no plain file"),
    "a path out of it": (parent_in_the_manifest, r"files: expected relative path"),
    "no hashes at all": (missing_in_the_manifest, r"config\.json is not listed"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_not_as_it_was_written_is_refused(package: Path, name: str) -> None:
    damage, message = DAMAGED[name]
    damage(package)
    for load in (Predictor.load, engine.load):
        with pytest.raises(SchemaError, match=message) as caught:
            load(package, allow_code=True)
        assert caught.value.fix
        assert len(str(caught.value)) < 2000
    with pytest.raises(PackageError, match=message) as refused:
        verify(package)
    assert refused.value.exit_code == 6


def tensors(folder: Path, **changes: np.ndarray | None) -> None:
    """Replace weights; None removes a tensor."""
    held = load_file(folder / WEIGHTS)
    for name, value in changes.items():
        held.pop(name.replace("__", "."), None)
        if value is not None:
            held[name.replace("__", ".")] = value
    save_file(held, folder / WEIGHTS, metadata={"format": "pt"})


def header(folder: Path, text: str, *, length: int | None = None, behind: bytes = b"") -> None:
    raw = text.encode()
    write(folder, WEIGHTS, (len(raw) if length is None else length).to_bytes(8, "little") + raw + behind)


def index(folder: Path, target: str) -> None:
    names = list(load_file(folder / WEIGHTS))
    shutil.move(folder / WEIGHTS, folder / SHARD)
    shutil.copy(folder / SHARD, folder.parent / "outside.safetensors")
    weight_map = dict.fromkeys(names, SHARD) | {names[-1]: target}
    write(folder, INDEX, json.dumps({"metadata": {}, "weight_map": weight_map}))


def both(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder / SHARD)
    write(folder, INDEX, json.dumps({"weight_map": dict.fromkeys(load_file(folder / WEIGHTS), SHARD)}))


TWO = '{{"a": {{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, "b": {{"dtype": "F32", "shape": {}, "data_offsets": {}}}}}'
FOUR = np.zeros((4, 32), dtype=np.float32)
# What an attacker does who corrects the hashes.
FORGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no classifier": (
        lambda folder: tensors(folder, classifier__weight=None),
        r"found missing: classifier\.weight",
    ),
    "a weight too many": (lambda folder: tensors(folder, evil=FOUR), r"found not the model's: evil"),
    "a weight of another shape": (
        lambda folder: tensors(folder, classifier__weight=FOUR),
        r"classifier\.weight|mismatch",
    ),
    "an index to a pickle": (lambda folder: index(folder, "pytorch_model.bin"), r"found 'pytorch_model\.bin'"),
    "an index to a file outside": (lambda folder: index(folder, "../outside.safetensors"), r"found '\.\./outside"),
    "an index to anywhere": (lambda folder: index(folder, "/etc/passwd"), r"found '/etc/passwd'"),
    "an index to a file that is not there": (
        lambda folder: index(folder, "model-00002-of-00002.safetensors"),
        r"found 'model-00002-of-00002\.safetensors'",
    ),
    "weights in two places": (both, r"found both"),
    "a header of a terabyte": (lambda folder: header(folder, "{}", length=1 << 40), r"expected a header of at most"),
    "a header that is no JSON": (lambda folder: header(folder, "{{}"), r"invalid JSON in header"),
    "a nested header": (lambda folder: header(folder, '{"a":' * 100_000), r"recursion limit exceeded"),
    "a tensor without a place": (lambda folder: header(folder, '{"a": 1}'), r"expected struct TensorInfo"),
    "tensors that overlap": (
        lambda folder: header(folder, TWO.format("[2]", "[4, 12]"), behind=bytes(12)),
        r"invalid offset for tensor `b`",
    ),
    "tensors with a gap": (
        lambda folder: header(folder, TWO.format("[1]", "[12, 16]"), behind=bytes(16)),
        r"invalid offset for tensor `b`",
    ),
    "a shape of petabytes": (
        lambda folder: header(folder, TWO.format("[1000000000, 1000000]", "[8, 12]"), behind=bytes(12)),
        r"invalid shape, data type, or offset for tensor",
    ),
    "a negative place": (
        lambda folder: header(folder, TWO.format("[1]", "[-4, 0]"), behind=bytes(8)),
        r"invalid value: integer `-4`",
    ),
    "tensors that end early": (
        lambda folder: header(folder, TWO.format("[1]", "[8, 12]"), behind=bytes(8)),
        r"file not fully covered",
    ),
    "listed pickles": (
        lambda folder: write(folder, "pytorch_model.bin", b"\x80"),
        r"pytorch_model\.bin is listed, but weights may only be safetensors",
    ),
    "code for the model": (
        lambda folder: change(folder, "config.json", auto_map={"AutoConfig": "x.Y"}),
        r"config\.json: the model or tokenizer needs code of its own \(auto_map\)",
    ),
    "code for the tokenizer": (
        lambda folder: change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
        r"tokenizer_config\.json: the model or tokenizer needs code",
    ),
    "kernels of the Hub": (
        lambda folder: change(
            folder,
            "config.json",
            attn_implementation="somebody/kernel",
            text_config={"attn_implementation": "eager"},
        ),
        r"attn_implementation names files or code outside",
    ),
    "a tokenizer elsewhere": (
        lambda folder: change(folder, "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.1.0.json"]),
        r"fast_tokenizer_files names files",
    ),
    "a huge configuration": (
        lambda folder: os.truncate(folder / "config.json", 40 << 20),
        r"config\.json has 41,943,040 bytes; at most",
    ),
    "a nested configuration": (
        lambda folder: write(folder, "config.json", '{"a":' * 100_000),
        r"config\.json cannot be read",
    ),
    "a configuration of no model": (lambda folder: write(folder, "config.json", "{}"), r"transformers cannot load it"),
    "a tokenizer of nothing": (lambda folder: write(folder, "tokenizer.json", "{}"), r"transformers cannot load it"),
    "a link with the right hash": (lambda folder: link(folder, "config.json"), r"config\.json is a link"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_was_forged_with_its_hashes_is_refused(package: Path, tmp_path: Path, name: str) -> None:
    forge, message = FORGED[name]
    forge(package)
    seal(package)
    with pytest.raises(SchemaError, match=message) as caught:
        Predictor.load(package)
    assert caught.value.fix
    write(tmp_path, "in.txt", "a text\n")
    with pytest.raises(SchemaError, match=message):
        predict_file(package, tmp_path / "in.txt", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_no_code_of_a_foreign_package_runs_without_consent(package: Path, classifier_run: Path, tmp_path: Path) -> None:
    """Foreign code with matching hashes: the installed runtime answers, and lists what it did not run."""
    canary = tmp_path / "canary"
    evil = CANARY.format(str(canary))
    for name in (
        "handler.py",
        "torch.py",
        "sitecustomize.py",
        "code/inference.py",
        "trainpipe_runtime/handler/predictor.py",
    ):
        old = (package / name).read_text() if (package / name).is_file() else ""
        write(package, name, evil + old.replace("from __future__ import annotations", ""))
    content = json.loads((package / layout.MANIFEST).read_text())
    older = {name: value for name, value in content.items() if name not in schema._OPTIONAL}
    (package / layout.MANIFEST).write_text(json.dumps(older))
    seal(package)
    write(package, "__pycache__/handler.cpython-311.pyc", b"\0")
    result = verify(package, recorded=classifier_run / layout.RECORDED)
    assert not canary.exists()
    kept = set(json.loads((package / layout.MANIFEST).read_text()))
    assert kept == set(older), "a package's own, older runtime refuses fields that came after it"
    assert (result["passed"], result["runtime"]) == (True, "installed")
    assert result["not_run"] == sorted(
        ["code/inference.py", "handler.py", "sitecustomize.py", "torch.py", "trainpipe_runtime/handler/predictor.py"]
    )
    assert "with the runtime of the project" in (package / "README.md").read_text()
    assert engine.load(package).runtime == "installed"
    write(tmp_path, "in.txt", "a text\n")
    predict_file(package, tmp_path / "in.txt", tmp_path / "out.jsonl", allow_code=True)
    assert not canary.exists()
    with pytest.raises(PackageError):
        verify(package, recorded=classifier_run / layout.RECORDED, allow_code=True)
    assert canary.exists(), "with consent its own handler answers, or fails"


def test_the_handler_imports_no_other_file_of_its_folder(package: Path, tmp_path: Path) -> None:
    """As Inference Endpoints imports it: its folder first on sys.path."""
    for name in ("pathlib.py", "hashlib.py", "typing.py", "code/json.py"):
        write(package, name, CANARY.format(str(tmp_path / "canary")))
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]; import handler; print(handler.EndpointHandler.__name__, *sys.path)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", script, str(package), str(package / "code")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("EndpointHandler ")
    assert str(package) not in done.stdout
    assert not (tmp_path / "canary").exists()


def test_every_verb_that_opens_a_package_asks_for_consent_in_the_same_words() -> None:
    for name in ("evaluate", "predict", "package", "verify", "serve"):
        assert "--allow-code" in VERBS[name].parser().format_help()
        assert "--allow-code" in VERBS[name].usage


def test_recorded_predictions_that_prove_nothing_are_refused(package: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.jsonl"
    for content, message in (
        ("\n\n", "has no recorded predictions"),
        ("{}\n", r"line 1: no recorded prediction: expected an object with input and output"),
        ('{"input": "a", "output": [1]}\n[\n', r"line 2: no recorded prediction"),
        ("[" * 100_000, r"line 1: no recorded prediction"),
    ):
        recorded.write_text(content)
        with pytest.raises(PackageError, match=message) as caught:
            verify(package, recorded=recorded)
        assert caught.value.exit_code == 2
    recorded.write_text('{"input": "a", "output": [1.0]}\n')
    assert len(read_recorded(recorded)) == 1


def test_documents_and_hidden_files_are_passed_over(package: Path) -> None:
    (package / "README.md").write_text("what a person wrote")
    for name in (".gitattributes", ".cache/x.json", "notes.txt", "plot.png", "__pycache__/handler.pyc"):
        write(package, name, "x")
    assert Predictor.load(package).predict(["a text"])
    with pytest.raises(PackageError, match=r"README\.md has"):
        verify(package)


def test_links_of_the_hub_s_cache_are_files(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--user--tiny"
    snapshot = cache / "snapshots" / ("c" * 40)
    for name, _ in files.walk(package):
        blob = cache / "blobs" / files.hash_file(package / name)
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / name, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    assert Predictor.load(snapshot).predict(["a text"]) == Predictor.load(package).predict(["a text"])
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../../package/config.json")
    with pytest.raises(SchemaError, match=r"config\.json is a link"):
        Predictor.load(snapshot)


def test_clean_environments_hold_what_every_package_needs_and_no_stranger_s(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("torch==2.13.0\nhuggingface_hub==1.0\n\n")
    clean.refuse_unknown_requirements(path)
    for line in ("evil==1.0", "torch @ https://x/y.whl", "--index-url https://x", "-r /etc/x", "torch>=1", "./x"):
        path.write_text(f"numpy==2.0\n{line}\n")
        with pytest.raises(PackageError, match="line 2: expected a pin of"):
            clean.refuse_unknown_requirements(path)


@pytest.mark.parametrize("name", ["/tmp/x", "./x", "..", "a/b", "a\\b"])
def test_a_pipeline_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(InputError, match="expected"):
        SpacyTokens(pipeline=name)


def test_an_onnx_model_reads_and_runs_nothing_of_others(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def save(*, location: str = "", domain: str = "") -> dict[str, Any]:
        """A weight inside the branch of an If."""
        weight = helper.make_tensor("w", kind, [1], np.zeros(1, dtype=np.float32).tobytes(), raw=True)
        if location:
            onnx.external_data_helper.set_external_data(weight, location)
            weight.ClearField("raw_data")
        inner = helper.make_graph(
            [helper.make_node("Identity", ["w"], ["o"], domain=domain)],
            "inner", [], [helper.make_tensor_value_info("o", kind, [1])], [weight],
        )  # fmt: skip
        node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        given = helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
        graph = helper.make_graph([node], "outer", [given], [helper.make_tensor_value_info("y", kind, [1])])
        write(tmp_path, "onnx/model.onnx", helper.make_model(graph).SerializeToString())
        return {"onnx/model.onnx": {}, "onnx/model.onnx.data": {}}

    check_onnx(tmp_path, "onnx/model.onnx", save())
    check_onnx(tmp_path, "onnx/model.onnx", save(location="model.onnx.data"))
    for location in ("../outside", "/etc/passwd", "model_int8.onnx.data", "./model.onnx.data"):
        with pytest.raises(SchemaError, match="its weights lie in another file"):
            check_onnx(tmp_path, "onnx/model.onnx", save(location=location))
    with pytest.raises(SchemaError, match=r"it needs operators of 'com\.evil'"):
        check_onnx(tmp_path, "onnx/model.onnx", save(domain="com.evil"))
    listed = save()
    for content in (b"", b"\x07", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 20, b"\x3a"):
        write(tmp_path, "onnx/model.onnx", content)
        with pytest.raises(SchemaError, match="is no ONNX model"):
            check_onnx(tmp_path, "onnx/model.onnx", listed)


# Stamps: what was hashed before, on this machine.


@pytest.fixture
def hashed(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Checks the package's files; gives how many were hashed. Small and new files are stamped too."""
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stamps, "_LARGE", 0)
    monkeypatch.setattr(stamps, "_SETTLED_S", 0.0)
    count = [0]
    digest = files.digest_of

    def counted(stream: Any) -> str:
        count[0] += 1
        return digest(stream)

    monkeypatch.setattr(files, "digest_of", counted)

    def check() -> int:
        count[0] = 0
        kept = stamps.Stamps(package)
        found = files.problems(package, layout.read_manifest(package)["files"], stamps=kept)
        kept.save()
        if found:
            raise AssertionError(found[0].text)
        return count[0]

    return check


def test_a_file_is_hashed_again_once_it_changed(hashed: Callable[[], int], package: Path) -> None:
    everything = hashed()
    assert everything > 20
    assert hashed() == 0
    facts = (package / WEIGHTS).stat()
    os.link(package / WEIGHTS, package.parent / "another-name")
    assert hashed() == 1, "a link to it changes its ctime"
    with (package.parent / "another-name").open("r+b") as stream:
        stream.seek(-3, os.SEEK_END)
        stream.write(b"\x01")
    os.utime(package / WEIGHTS, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(AssertionError, match=r"model\.safetensors has sha256"):
        hashed()


def test_only_files_that_were_left_alone_and_are_large_are_stamped(
    hashed: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "_SETTLED_S", 60.0)
    assert hashed() == hashed(), "they were written a moment ago"
    monkeypatch.setattr(stamps, "_SETTLED_S", 0.0)
    monkeypatch.setattr(stamps, "_LARGE", 14_000)
    assert 0 < hashed() - hashed() < 20


def test_stamps_that_others_could_write_are_not_believed(
    hashed: Callable[[], int], package: Path, tmp_path: Path
) -> None:
    everything = hashed()
    folder = tmp_path / "cache" / "stamps"
    [stamp] = folder.iterdir()
    assert stamp.stat().st_mode & 0o777 == 0o600
    for path, mode in ((folder, 0o777), (stamp, 0o622)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert hashed() == everything
        path.chmod(before)
    [stamp] = folder.iterdir()
    content = stamp.read_text()
    for forged in ("[]", "{", '{"config.json": 1}', "[" * 100_000):
        stamp.write_text(forged)
        assert hashed() == everything
    stamp.unlink()
    stamp.symlink_to(package / "config.json")
    assert hashed() == everything
    assert not stamp.is_symlink()
    assert stamp.read_text() == content


def test_no_stamp_lies_in_a_package(package: Path) -> None:
    kept = stamps.Stamps(package, root=package)
    files.problems(package, layout.read_manifest(package)["files"], stamps=kept)
    kept.save()
    assert not (package / "stamps").exists()
