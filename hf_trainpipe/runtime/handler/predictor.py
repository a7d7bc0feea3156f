"""A package, loaded: texts in, answers out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..bounds import Bounds, bounded
from ..brief import listed, one_line
from ..errors import InputError, SchemaError
from ..model.onnx_model import FILES, OnnxModel, OnnxTokenizer, choose_backend
from ..model.outputs import Outputs, as_lists
from ..model.precision import choose_precision, products
from ..safety import schema, trust
from ..safety.weights import INDEX, WEIGHTS
from ..tasks.base import Requests, Task
from ..tasks.registry import task_from_json
from ..text.preprocessing import Preprocessor, steps_from_json
from ..tokens.encoder import Encoder
from ..tokens.features import Features, features_of, join
from . import agreement
from .jobs import Job, Piece
from .requests import Example, by_role, read_inputs
from .user_code import has_consent, load_classes

BATCH_TOKENS, BATCH_TOKENS_GPU = 4096, 16_384
"""Tokens of a batch, padding included, where nobody says how many."""


class Predictor:
    """Answers by the model of a package. Make one with :meth:`load`."""

    def __init__(
        self,
        *,
        info: schema.PackageInfo,
        task: Task,
        model: Any,
        tokenizer: Any,
        steps: Sequence[Preprocessor],
        device: Any = "cpu",
        backend: str = "torch",
    ) -> None:
        self.info = info
        self.task = task
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.backend = backend
        """What runs the network."""
        self.precision = "fp32"
        """What matrices are multiplied in."""
        self._schema = task.schema()
        self.encoder = self._strict_encoder = Encoder(tokenizer, steps=steps, **info.tokens)
        if info.tokens["overflow"] == "drop":
            # Evaluation leaves long examples out as training did; a request gets an error for one.
            self._strict_encoder = self.encoder.but(overflow="error")

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: Any = None,
        allow_code: bool = False,
        backend: str | None = None,
        threads: int | None = None,
        precision: str | None = None,
    ) -> Predictor:
        """Load a package. Reads safetensors and JSON only, nothing that trainpipe.json does not list with its hash, and
        nothing from the network; imports nothing from the folder (:mod:`.trust`).

        Args:
            path: The folder of the package.
            device: A torch device; None: the first GPU, or else the CPU.
            allow_code: Run the code of its recipe that the package carries. The environment variable
                ``TRAINPIPE_ALLOW_CODE=1`` allows it too.
            backend: ``torch``, or ``onnx`` or ``onnx-int8`` where the package holds it: ONNX Runtime on the CPU,
                which imports neither torch nor transformers. None: ``HF_TRAINPIPE_BACKEND``, else the package's own.
            threads: Of ONNX Runtime; None: ``HF_TRAINPIPE_THREADS`` or ``OMP_NUM_THREADS``, else all cores.
            precision: ``fp32``, or ``bf16`` or ``fp16`` of torch, once it agrees with the recorded predictions
                (:mod:`.agreement`). None: ``HF_TRAINPIPE_PRECISION``, else fp32.

        Raises:
            NotReproduced: It does not agree in that precision.
            SchemaError: Not a complete package or not as it was written, without that backend, its weights are not those of
                its model, or it carries code without consent.
        """
        folder = Path(path).resolve()
        info = schema.read(folder)
        backend = choose_backend(backend, default=info.backend, there=info.backends)
        precision = choose_precision(precision, backend=backend)
        if backend == "torch":
            for names in (("config.json",), ("tokenizer.json",), (WEIGHTS, INDEX)):
                if not any((folder / name).is_file() for name in names):
                    raise SchemaError(f"{folder}: expected a complete package, found no {names[0]}.")
        seen = trust.check(folder, info, model=FILES.get(backend), allow_code=has_consent(allow_code))
        own_steps, own_tasks = load_classes(folder, info.code, allow_code=allow_code) if info.code else ({}, {})
        steps = tuple(step.within(folder) for step in steps_from_json(info.preprocessing, registry=own_steps))
        task = task_from_json(info.task, registry=own_tasks)
        if backend == "torch":
            own_code = bool(info.model_code) and has_consent(allow_code)
            model, tokenizer, device = _from_transformers(folder, task, own_code=own_code, device=device)
        else:
            model, tokenizer = OnnxModel(folder / FILES[backend], threads=threads), OnnxTokenizer.load(folder)
            device = "cpu"
        trust.recheck(folder, seen)
        made = cls(info=info, task=task, model=model, tokenizer=tokenizer, steps=steps, device=device, backend=backend)
        if precision != "fp32":
            agreement.take(made, precision, folder=folder)
        return made

    @property
    def examples(self) -> tuple[Any, ...]:
        """Inputs that the package takes, made up."""
        return self._schema.examples

    @property
    def call_tokens(self) -> int | None:
        """What one call of the model costs beside the tokens of its padded batch, in tokens; None: only real tokens are
        computed, so that nothing speaks against a larger batch.

        Measured with MiniLM on one core: torch 6 ms beside 0.13 ms a token, ONNX Runtime 0.6 beside 0.05 in int8.
        """
        if isinstance(self.model, OnnxModel):
            return 16
        from ..model.unpad import is_unpadded

        return None if is_unpadded(self.model) else 48

    def with_model(self, model: Any, tokenizer: Any, *, backend: str = "torch") -> Predictor:
        """The same package with another model and tokenizer, on the CPU."""
        steps = self.encoder.steps
        return Predictor(info=self.info, task=self.task, model=model, tokenizer=tokenizer, steps=steps, backend=backend)

    def predict(self, inputs: Sequence[Any], *, batch_tokens: int | None = None, **parameters: Any) -> list[Any]:
        """The answer of each input, in order.

        Args:
            inputs: Texts; pairs ``(a, b)`` or ``{"text", "text_pair"}``; for tagging, texts or
                ``{"words": [...]}``; or what else the package's task takes.
            batch_tokens: Tokens of a batch, padding included; None: as many as the device is fast with.
            parameters: Those of the answers (``top_k``, ``threshold``, ``aggregation``).

        Returns:
            What the package's task answers. Places of entities are in the text as it was given, before any preprocessing.

        Raises:
            InputError: An input or a parameter cannot be used.
        """
        job = self.open(inputs, **parameters)
        if not job.examples:
            return []
        features = self.task.asked(self._encode(job.examples), self.encoder, parameters)
        return self._answers(job.examples, features, self.predictions(features, batch_tokens=batch_tokens), parameters)

    def open(self, inputs: Sequence[Any], **parameters: Any) -> Job:
        """Check a request, without tokenising it. With ``encode``, ``run`` and ``answer`` many requests share the
        model: a server's way to :meth:`predict`.

        Args:
            inputs: As of :meth:`predict`.
            parameters: As of :meth:`predict`.

        Raises:
            InputError: As :meth:`predict`, but for texts that are too long.
        """
        self.task.check_parameters(parameters)
        return Job(read_inputs(inputs, self._schema), parameters, cost=self.task.widths)

    def encode(self, jobs: Sequence[Job], *, bounds: Bounds | None = None) -> dict[Job, InputError]:
        """Tokenise requests together; returns those that cannot be used, with the reason.

        ``bounds`` are those of one request.
        """
        refused: dict[Job, InputError] = {}
        waiting = [job for job in jobs if job.examples]
        if not waiting:
            return refused
        with bounded(bounds):
            try:
                whole = self._encode([example for job in waiting for example in job.examples])
                first = 0
                for job in waiting:
                    job.set(self.task.asked(whole.part(first, len(job.examples)), self.encoder, job.parameters))
                    first += len(job.examples)
            except InputError:
                for job in waiting:  # one by one: each error counts positions in its own request
                    try:
                        job.set(self.task.asked(self._encode(job.examples), self.encoder, job.parameters))
                    except InputError as error:
                        refused[job] = error
        return refused

    def encode_part(self, job: Job, *, characters: int, bounds: Bounds | None = None) -> None:
        """Tokenise the next examples of one request, about this many characters of them but at least one example.

        Once ``job.prepared`` is set, it is as :meth:`encode` would have made it. ``bounds`` are those of the part.

        Raises:
            InputError: An example cannot be used.
            TooMuch: The part is larger than ``bounds``.
        """
        first = last = job.num_read
        size = 0
        while last < len(job.examples) and (last == first or size + job.examples[last].characters <= characters):
            size += job.examples[last].characters
            last += 1
        try:
            with bounded(bounds):
                part = self._encode(job.examples[first:last])
                job.add(self.task.asked(part, self.encoder, job.parameters))
        except InputError as error:
            if first and (position := getattr(error, "position", None)) is not None:  # counted in the part
                message = error.message.replace(f"Example {position} ", f"Example {position + first} ")
                raise InputError(message, fix=error.fix, position=position + first) from None
            raise

    def run(self, pieces: Sequence[Piece]) -> None:
        """Compute features of encoded requests as one batch, padded to the longest."""
        joined = []
        for job, feature in pieces:
            assert job.prepared is not None, "encode comes first"
            joined.append((job.prepared, feature))
        found = self._forward(join(joined), np.arange(len(pieces), dtype=np.int64), 1 << 40)
        for position, (job, feature) in enumerate(pieces):
            job.put(found.one(position, item=feature))

    def answer(self, job: Job) -> list[Any]:
        """What :meth:`predict` answers, once all features of the request are computed."""
        if not job.examples:
            return []
        assert job.prepared is not None, "encode comes first"
        predictions = self.task.decode(self.task.merge(job.outputs, job.prepared), self.encoder)
        return self._answers(job.examples, job.prepared, predictions, job.parameters)

    def _answers(
        self, examples: Sequence[Example], features: Features, predictions: Outputs, parameters: Mapping[str, Any]
    ) -> list[Any]:
        assert len(predictions) == features.num_examples, "each example has a feature"
        asked = Requests([example.values for example in examples], features, self.encoder)
        return self.task.answers(predictions, asked, **parameters)

    def features(self, inputs: Sequence[Any]) -> Features:
        """Inputs as evaluation encodes them: long ones as the package's policy says. Takes empty texts too.

        Raises:
            InputError: An input cannot be used.
        """
        examples = read_inputs(inputs, self._schema, allow_empty=True)
        return self.task.encode(by_role(examples, self._schema), self.encoder)

    def predictions(
        self, features: Features, *, batch_tokens: int | None = None, examples: Any = None, scores_targets: bool = False
    ) -> Outputs:
        """Outputs of examples, their windows merged.

        Args:
            examples: Some of them; None: all.
            scores_targets: Whether the task's ``likelihood`` is asked; the features have targets then.
        """
        wanted = np.arange(features.num_examples) if examples is None else examples
        chosen = features_of(features, wanted)
        merged = self.task.merge(self._forward(features, chosen, batch_tokens, scores_targets), features)
        return self.task.decode(merged, self.encoder)

    def outputs(self, inputs: Sequence[Any], *, batch_tokens: int | None = None) -> Outputs:
        """:meth:`predictions` of inputs.

        Raises:
            InputError: An input cannot be used.
        """
        features = self.task.asked(self.features(inputs), self.encoder, self.task.recording)
        return self.predictions(features, batch_tokens=batch_tokens)

    def record(self, inputs: Sequence[Any]) -> list[Any]:
        """What the package must reproduce of each input, as JSON; None of one that it does not take."""
        return as_lists(self.outputs(inputs), self.task.recorded, len(inputs))

    def _forward(
        self, features: Features, chosen: Any, batch_tokens: int | None, scores_targets: bool = False
    ) -> Outputs:
        batch_tokens = batch_tokens or (BATCH_TOKENS if str(self.device) == "cpu" else BATCH_TOKENS_GPU)
        if isinstance(self.model, OnnxModel):
            return self.model.run(features, task=self.task, chosen=chosen, max_tokens=batch_tokens)
        from ..model.inference import run

        with products(self.precision, self.device):
            return run(
                self.model,
                features,
                task=self.task,
                chosen=chosen,
                max_tokens=batch_tokens,
                device=self.device,
                scores_targets=scores_targets,
            )

    def _encode(self, examples: Sequence[Example]) -> Features:
        return self.task.encode(by_role(examples, self._schema), self._strict_encoder)


def _from_transformers(folder: Path, task: Task, *, own_code: bool, device: Any) -> tuple[Any, Any, Any]:
    """The model, every weight of it from the package, ready to answer; the tokenizer; and the model's device.

    Args:
        own_code: Whether the model brings code of its own, and somebody agreed to run it.
        device: None: the first GPU, or else the CPU.

    Raises:
        SchemaError: a weight is missing, has another shape, or is not the model's; or transformers cannot load it.
    """
    import torch
    from transformers import AutoTokenizer

    from ..model.forking import make_forks_safe
    from ..model.unpad import unpad

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": own_code}
    try:
        with quiet():
            model, found = task.model_class().from_pretrained(
                str(folder), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
    except Exception as error:  # a strange configuration fails in transformers, safetensors, tokenizers or torch
        raise SchemaError(
            f"{folder}: transformers cannot load it: {one_line(error, 300, named=True)}",
            fix="Install what its requirements.txt names; if it still fails, fetch or write the package again.",
        ) from error
    wrong = {
        "missing": found["missing_keys"],
        "not the model's": found["unexpected_keys"],
        "of another shape": [item[0] if isinstance(item, tuple) else item for item in found["mismatched_keys"]],
    }
    for what, names in wrong.items():
        if names:
            raise SchemaError(
                f"{folder}: expected every weight of its {type(model).__name__} in its files, found {what}: "
                f"{listed(sorted(map(str, names)), 3)}.",
                fix="Do not use it: an answer would be made up. Fetch or write the package again.",
            )
    outputs, labels = int(model.config.num_labels), task.label_names
    if labels and outputs != len(labels):
        raise SchemaError(
            f"{folder}: its model has {outputs} outputs, its trainpipe.json {len(labels)} labels.",
            fix="Fetch or write the package again.",
        )
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().requires_grad_(False).to(device)
    make_forks_safe()
    unpad(model)
    return model, tokenizer, device


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bar: answers of a package go where a program reads them."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
