"""Two tasks of a recipe file, which subclass no built-in one: they need no change anywhere else.

Spans of a context that answer a question, with windows; and an encoder-decoder that writes its answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, Tokens
from hf_trainpipe.tasks import ANYTHING, TEXT, Column, Metric, Output, Outputs, Ragged, Task, TaskSchema


# [span selection]
@dataclass(frozen=True)
class SpanSelection(Task):
    """The stretch of a context that answers a question: two positions, the best over all windows."""

    question: str = "question"
    context: str = "context"
    answer: str = "answer"
    """A column of ``{"start", "text"}``, in characters of the context."""
    most_tokens: int = 8
    """Of an answer."""

    outputs: ClassVar = {"start": Output("token"), "end": Output("token")}
    recorded: ClassVar = ("start", "end", "score")

    def columns(self):
        return {
            "question": Column(self.question, TEXT),
            "context": Column(self.context, TEXT),
            "answer": Column(self.answer, ANYTHING, is_target=True),
        }

    def encode(self, inputs, encoder):
        return encoder.texts(inputs["question"], inputs["context"], with_places=True)

    def supervise(self, rows, features):
        answers = rows.values(self.columns()["answer"])
        gold = np.array([(answer["start"], answer["start"] + len(answer["text"])) for answer in answers])
        stream = features.input
        chosen = np.zeros(
            (features.num_features, 2), dtype=np.int64
        )  # a window without the answer points at its first token
        for feature, example in enumerate(features.example):
            window = slice(stream.starts[feature], stream.starts[feature + 1])
            inside = (stream["part"][window] == 1) & (stream["end"][window] > gold[example, 0])
            held = np.flatnonzero(inside & (stream["start"][window] < gold[example, 1]))
            first, last = (held[0], held[-1]) if len(held) else (0, 0)
            whole = len(held) and stream["start"][window][first] <= gold[example, 0]
            if whole and stream["end"][window][last] >= gold[example, 1]:
                chosen[feature] = first, last
        return features.with_targets(labels=chosen, of_examples={"gold": gold})

    def model_class(self):
        from transformers import AutoModelForQuestionAnswering

        return AutoModelForQuestionAnswering

    def forward(self, model, inputs):
        out = model(**inputs)
        padding = inputs["attention_mask"] == 0  # a softmax over tokens must not see it
        return {
            "start": out.start_logits.float().masked_fill(padding, -1e4),
            "end": out.end_logits.float().masked_fill(padding, -1e4),
        }

    def loss_sum(self, outputs, batch):
        from torch.nn import functional

        losses = [
            functional.cross_entropy(outputs[name], batch["labels"][:, place], reduction="none")
            for place, name in enumerate(("start", "end"))
        ]
        return (sum(losses) / 2 * batch["weights"]).sum()

    def merge(self, outputs, features):
        stream, best = features.input, {}
        for position, feature in enumerate(outputs.items):
            start, end = outputs.rows("start", position), outputs.rows("end", position)
            window = slice(stream.starts[feature], stream.starts[feature + 1])
            inside = stream["part"][window] == 1
            scores = np.where(inside[:, None] & inside[None], start[:, None] + end[None], -np.inf)
            distance = np.arange(len(start))[None] - np.arange(len(start))[:, None]
            scores[(distance < 0) | (distance >= self.most_tokens)] = -np.inf
            first, last = np.unravel_index(scores.argmax(), scores.shape)
            found = (float(scores[first, last]), int(stream["start"][window][first]), int(stream["end"][window][last]))
            example = int(features.example[feature])
            best[example] = max(best.get(example, (-np.inf, 0, 0)), found, key=lambda one: one[0])
        items = np.array(sorted(best), dtype=np.int64)
        score, start, end = (np.array([best[item][place] for item in items.tolist()]) for place in range(3))
        return Outputs(items, {"score": score.astype(np.float32), "start": start, "end": end})

    def judge(self, predictions, features):
        gold = features.of_examples["gold"][predictions.items]
        return (predictions["start"] == gold[:, 0]) & (predictions["end"] == gold[:, 1])

    def metrics(self):
        return (Metric("exact_match", lambda right: right.astype(float)),)

    def answers(self, predictions, asked, **parameters):
        found = []
        for position, example in enumerate(predictions.items.tolist()):
            start, end = int(predictions["start"][position]), int(predictions["end"][position])
            text = asked.inputs[example]["context"][start:end]
            found.append({"text": text, "start": start, "end": end, "score": float(predictions["score"][position])})
        return found

    def schema(self):
        return TaskSchema(
            inputs=({"question": TEXT, "context": TEXT},),
            examples=({"question": "who was kind ?", "context": "it was a very warm day and anna was kind ."},),
            answers="span",
            pipeline="question-answering",
            model="AutoModelForQuestionAnswering",
            does="marks the part of a context that answers a question",
        )


# [end]
@dataclass(frozen=True)
class Rewriting(Task):
    """A text from a text, by an encoder-decoder: two streams in training, generation in serving."""

    source: str = "source"
    target_text: str = "target"
    most_tokens: int = 6

    outputs: ClassVar = {"ids": Output("sequence", fill=0)}
    recorded: ClassVar = ("ids",)

    def columns(self):
        return {"source": Column(self.source, TEXT), "target": Column(self.target_text, TEXT, is_target=True)}

    def encode(self, inputs, encoder):
        features = encoder.texts(inputs["source"])
        return replace(features, streams={"source": features.input})

    def supervise(self, rows, features):
        encoder = rows.encoder.but(steps=(), overflow="truncate", max_length=self.most_tokens)
        target = encoder.texts(rows.values(self.columns()["target"])).input
        labels = replace(target.columns["input_ids"], fill=-100, to_loss=True)
        stream = replace(target, columns={"labels": labels}, mask=None)
        return replace(
            features.with_stream("target", stream.take(features.example.astype(np.int64))),
            within=replace(stream, columns={"gold": Ragged(labels.values, to_model=False, to_loss=True)}),
        )

    def model_class(self):
        from transformers import AutoModelForSeq2SeqLM

        return AutoModelForSeq2SeqLM

    def predict(self, model, inputs):
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=self.most_tokens,
            do_sample=False,
            num_beams=1,
        )
        return {"ids": ids[:, 1:]}  # behind the token that generation starts with

    def loss_sum(self, outputs, batch):
        from torch.nn import functional

        return functional.cross_entropy(
            outputs["logits"].float().flatten(0, 1), batch["labels"].flatten(), reduction="sum"
        )

    def count(self, batch):
        return (batch["labels"] != -100).double().sum()

    def merge(self, outputs, features):
        found = outputs.take(np.argsort(features.example[outputs.items], kind="stable"))
        return Outputs(features.example[found.items].astype(np.int64), found.arrays, found.starts)

    def judge(self, predictions, features):
        gold = features.within
        return [
            np.array_equal(predictions.rows("ids", position), gold.part(item, item + 1)["gold"])
            for position, item in enumerate(predictions.items.tolist())
        ]

    def metrics(self):
        return (Metric("exact_match", lambda right: np.array(right, dtype=float)),)

    def answers(self, predictions, asked, **parameters):
        decode = asked.encoder.tokenizer.decode
        rows = [predictions.rows("ids", position).tolist() for position in range(len(predictions))]
        return [{"text": decode(row, skip_special_tokens=True)} for row in rows]

    def schema(self):
        return TaskSchema(
            inputs=({"source": TEXT},),
            examples=("it was a good day", {"source": "this is a film of people"}),
            answers="text",
            pipeline="text2text-generation",
            model="AutoModelForSeq2SeqLM",
            does="writes a text for a text",
        )


def _recipe(name: str, task: Task, model: str, **tokens: Any) -> Recipe:
    return Recipe(
        name=name,
        model=Pretrained(model),
        data=Files(train=f"{name}.jsonl", validation=f"{name}.jsonl"),
        task=task,
        tokens=Tokens(**tokens),
        optim=Optim(peak_lr=1e-2, precision="fp32"),
        budget=Budget(max_steps=4, examples_per_step=8, log_every=1, save_every=2),
        evaluation=Evaluation(resamples=20),
    )


def spans() -> Recipe:
    return _recipe("spans", SpanSelection(), "bert", max_length=16, overflow="window", stride=4)


def rewriting() -> Recipe:
    return _recipe("rewriting", Rewriting(), "t5", max_length=16)
