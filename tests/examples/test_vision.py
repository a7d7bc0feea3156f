"""The task of examples/vision, which lies outside of the library; scripts/vision trains, kills, resumes and serves it."""

from __future__ import annotations

import base64
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_trainpipe import Typos, replace
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.package.write import write
from hf_trainpipe.runtime.errors import InputError, SchemaError
from hf_trainpipe.runtime.handler.endpoint import EndpointHandler
from hf_trainpipe.runtime.tasks.draws import Draws
from hf_trainpipe.runtime.tokens.batch import pad
from tests.package.conftest import tiny_tokenizer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="needs opencv-python-headless")
FILE = Path(__file__).parents[2] / "examples" / "vision" / "vision.py"


@pytest.fixture(scope="module")
def vision() -> Any:
    spec = importlib.util.spec_from_file_location("vision", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["vision"] = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", "")  # OpenCV sets it while it is imported; tests' processes begin as before it
        spec.loader.exec_module(module)
    yield module
    del sys.modules["vision"]


def test_it_is_short() -> None:
    assert len(FILE.read_text().splitlines()) <= 150


def test_images_change_by_seed_epoch_and_example(vision: Any) -> None:
    data = vision.recipe().data.splits()["train"].select(range(12))
    rows = Rows(data, "train")
    task = vision.ImageClassification().fit(rows)
    features = task.supervise(rows, task.encode(rows.inputs(task), None))

    def changed(chosen: list[int], epoch: int) -> np.ndarray:
        items = np.array(chosen)
        found = task.vary(pad(features, items, with_targets=True), Draws(17, epoch, items, None))["input_ids"].numpy()
        assert found.min() >= 0
        assert found.max() <= 255
        return found

    plain = np.asarray(features.input["input_ids"]).reshape(12, -1)
    whole = changed(list(range(12)), 1)
    assert np.array_equal(changed([5, 3], 1), whole[[5, 3]])  # however micro-batches and ranks are cut
    assert (changed(list(range(12)), 2) != whole).any(axis=1).all()
    assert (plain != whole).any(axis=1).all()
    assert np.abs(plain - whole).mean() < 60  # and yet the same pictures


def test_a_package_answers_images(vision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import ViTConfig

    monkeypatch.setenv("TRAINPIPE_ALLOW_CODE", "1")
    task = vision.ImageClassification(names=vision.SHAPES)
    config = ViTConfig(image_size=16, patch_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                       num_attention_heads=2, num_labels=3)  # fmt: skip
    tokens = {"max_length": vision.PIXELS, "overflow": "truncate", "stride": 0}
    model = vision.vit()(config)
    package = write(
        tmp_path / "package", model=model, tokenizer=tiny_tokenizer(), task=task, tokens=tokens, code_file=FILE
    )
    assert "opencv-python-headless==" in (package / "requirements.txt").read_text()
    handler = EndpointHandler(str(package))
    images = [vision.drawn(shape, np.random.default_rng(1)) for shape in vision.SHAPES]
    found = handler({"inputs": [{"image": image} for image in images]})
    assert [set(one) for one in found] == [{"label", "score"}] * 3
    assert all(1 / 3 <= one["score"] <= 1 for one in found)
    cv2 = vision.cv2
    large = cv2.resize(vision.decoded(images[0], 0), (64, 48), interpolation=cv2.INTER_NEAREST)
    sent = base64.b64encode(cv2.imencode(".jpg", large)[1].tobytes()).decode()
    assert handler({"inputs": {"image": sent}})["label"] in vision.SHAPES
    with pytest.raises(InputError, match="expected an image, found 'no picture'"):
        handler({"inputs": [{"image": images[0]}, {"image": "no picture"}]})
    monkeypatch.delenv("TRAINPIPE_ALLOW_CODE")
    with pytest.raises(SchemaError, match="allow"):
        EndpointHandler(str(package))
    recipe = vision.recipe()
    with pytest.raises(RecipeError, match="expected none for ImageClassification"):
        replace(recipe, augmentation=(Typos(),))
