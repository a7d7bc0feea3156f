"""An image classifier as a task of one's own: the same loop, resume, report, package and server, and OpenCV in each epoch.

A pixel is a token: to all that does not look into it, an image is a text of 16 x 16 x 3 of them. In this folder:

    python vision.py                            # writes model/, a small ViT with random weights
    hf-trainpipe train vision.py; hf-trainpipe serve runs/shapes/package --allow-code
"""

import base64
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import cv2
import numpy as np

from hf_trainpipe import Budget, Frame, Optim, Pretrained, Recipe, Tokens
from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.tasks import CLASS, Cell, Column, Features, Ragged, Stream, Task, TaskSchema

SIZE = 16
PIXELS = SIZE * SIZE * 3
SHAPES = ("circle", "cross", "square")
IMAGE = Cell("image", {"type": "string", "contentEncoding": "base64"})


def decoded(value: Any, row: int) -> np.ndarray:
    try:
        found = cv2.imdecode(np.frombuffer(base64.b64decode(value, validate=True), np.uint8), cv2.IMREAD_COLOR)
        return cv2.resize(found, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    except (TypeError, ValueError, cv2.error):
        raise InputError(f"expected an image, found {str(value)[:30]!r}.", fix="Give a PNG.", position=row) from None


def drawn(shape: str, draws: np.random.Generator) -> str:
    image = draws.integers(0, 90, (SIZE, SIZE, 3)).astype(np.uint8)
    colour, (x, y) = draws.integers(150, 256, 3).tolist(), draws.integers(6, 10, 2).tolist()
    if shape == "circle":
        cv2.circle(image, (x, y), 4, colour, 1)
    elif shape == "square":
        cv2.rectangle(image, (x - 4, y - 4), (x + 4, y + 4), colour, 1)
    else:
        cv2.drawMarker(image, (x, y), colour, cv2.MARKER_CROSS, 9)
    return base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()


def distorted(image: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), draws.uniform(-20, 20), draws.uniform(0.9, 1.1))
    turn[:, 2] += draws.uniform(-1, 1, 2)
    image = cv2.warpAffine(image[:, :: draws.choice((-1, 1))], turn, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
    return cv2.convertScaleAbs(image, alpha=draws.uniform(0.8, 1.2))


@cache
def vit() -> Any:
    from transformers import ViTForImageClassification

    class PixelViT(ViTForImageClassification):
        from_config = classmethod(lambda cls, config, **_: cls._from_config(config))

        def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
            return super().forward(input_ids.view(-1, SIZE, SIZE, 3).movedim(3, 1) / 127.5 - 1)

    return PixelViT


@dataclass(frozen=True)
class ImageClassification(Task):
    names: tuple[str, ...] | None = None
    learned: ClassVar = ("names",)
    judged_as: ClassVar = "single_label"

    def columns(self):
        return {"image": Column("image", IMAGE), "label": Column("label", CLASS, is_target=True)}

    def fit(self, rows):
        return replace(self, names=rows.labels(self.target, said=self.names))

    def encode(self, inputs, encoder):
        images = [decoded(value, row).reshape(-1) for row, value in enumerate(inputs["image"])]
        pixels, rows = Ragged(np.concatenate(images).astype(np.int32)), np.arange(len(images) + 1, dtype=np.int32)
        stream = Stream(rows.astype(np.int64) * PIXELS, {"input_ids": pixels}, mask="attention_mask")
        return Features({"input": stream}, rows[:-1], len(images))

    def supervise(self, rows, features):
        ids = rows.class_ids(self.target, self.label_names)
        return features.with_targets(labels=ids, of_examples={"labels": ids})

    def vary(self, batch, draws):
        ids = batch["input_ids"]
        images = enumerate(ids.numpy().astype(np.uint8).reshape(-1, SIZE, SIZE, 3))
        changed = np.stack([distorted(image, draws.of(row)) for row, image in images])
        return batch.with_tensors({**batch, "input_ids": ids.new_tensor(changed.reshape(ids.shape))})

    def model_class(self):
        return vit()

    def model_options(self):
        return {"id2label": dict(enumerate(self.label_names)), "label2id": self.label_names.ids}

    def loss_sum(self, outputs, batch):
        from torch.nn.functional import cross_entropy

        return (cross_entropy(outputs["logits"].float(), batch["labels"], reduction="none") * batch["weights"]).sum()

    def judge(self, predictions, features):
        gold = features.of_examples["labels"]
        return {"outputs": predictions["logits"], "references": gold[predictions.items], "labels": tuple(self.names)}

    def metrics(self):
        return ("accuracy",)

    def answers(self, predictions, asked, **parameters):
        odds = np.exp(predictions["logits"] - predictions["logits"].max(1, keepdims=True))
        best = zip(odds.argmax(1), odds.max(1) / odds.sum(1), strict=True)
        return [{"label": self.names[at], "score": float(score)} for at, score in best]

    def schema(self):
        example, does = {"image": drawn("circle", np.random.default_rng(0))}, "says what an image shows"
        return TaskSchema(inputs=({"image": IMAGE},), examples=(example,), answers="labels", does=does)


def recipe():
    import pandas as pd

    draws = np.random.default_rng(7)
    rows = [{"image": drawn(shape, draws), "label": shape} for shape in SHAPES * 250]
    return Recipe(
        name="shapes",
        model=Pretrained("model"),
        data=Frame(train=pd.DataFrame(rows), validation=0.2, stratify="label"),
        task=ImageClassification(),
        tokens=Tokens(max_length=PIXELS),
        optim=Optim(peak_lr=2e-3),
        budget=Budget(epochs=20, examples_per_step=32, micro_batch_tokens=32 * PIXELS),
    )


if __name__ == "__main__":
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    torch.manual_seed(1)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    vit()(transformers.ViTConfig(image_size=SIZE, patch_size=4, **sizes)).save_pretrained("model")
    values = models.WordLevel({str(value): value for value in range(256)}, unk_token="0")  # a package has a tokenizer
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(values), pad_token="0", model_max_length=PIXELS
    ).save_pretrained("model")
