"""What a recipe's model makes of texts before any training: a vector each, computed once and kept.

An entry is a folder beside the token cache with ``vectors.npy`` and an ``entry.json`` that is written last. Its name is a hash of
what the numbers follow from: the weights, the tokens (so the texts, their preprocessing and the tokenizer) and the pooling. Whoever
comes first computes it, in fp32 and without padding where the architecture allows it; the others wait.

Shapes: N texts or examples, F features, W numbers of a vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data.reference import tokens_digest
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.utils.atomic import new_folder

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings
    from hf_trainpipe.runtime.tokens.encoder import Encoder
    from hf_trainpipe.runtime.tokens.features import Features

    Working = Callable[..., AbstractContextManager[Callable[[int], None]]]

VERSION = 1
Floats = NDArray[np.float32]
Pooling = Literal["mean", "cls"]

_BLOCK = 8192
"""Features computed before they are written: what is in flight stays bounded, whatever the split."""
_TOKENS = 4096
"""Of a batch, padding included."""


@contextmanager
def _silent(what: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def frozen_texts(
    texts: Sequence[str],
    *,
    model: Pretrained,
    encoder: Encoder,
    root: Path,
    say: Callable[[str], None] = lambda line: None,
    working: Working = _silent,
    pooling: Pooling = "mean",
) -> Floats:
    """float32[N, W]: a vector of length 1 for each text; a text that comes twice is computed once.

    Args:
        texts: As the data have them: ``encoder`` preprocesses. Longer ones are cut, whatever its policy.
        model: Pinned (:func:`~hf_trainpipe.model.names.pin_model`).
        encoder: Of the recipe: a split's ``rows.encoder``.
        root: The cache folder.
        say: Called with a line when vectors are computed.
        working: As :meth:`.Console.working`, with the number of features; tells how far it is.

    Raises:
        RecipeError: the weights cannot be loaded, or the model begins with random ones.
    """
    numbers: dict[str, int] = {}
    rows = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), dtype=np.int64, count=len(texts))
    if not len(rows):
        return np.zeros((0, 0), dtype=np.float32)
    features = encoder.but(overflow="truncate").texts([*numbers])
    return frozen(features, model=model, root=root, say=say, working=working, pooling=pooling)[rows]


def frozen(
    features: Features,
    *,
    model: Pretrained,
    root: Path,
    say: Callable[[str], None] = lambda line: None,
    working: Working = _silent,
    pooling: Pooling = "mean",
) -> Floats:
    """float32[N, W]: a vector of length 1 for each example of features of one stream, pairs among them; zeros of one without features.

    The mean over the windows of an example. The array is mapped from the cache, read only. Arguments: see :func:`frozen_texts`.
    """
    from filelock import FileLock

    from hf_trainpipe.model.lora import base_fingerprint
    from hf_trainpipe.recipe import Scratch

    if isinstance(model, Scratch):
        raise RecipeError(
            f"model: {model.name!r} begins with random weights, so that its vectors tell nothing of texts.",
            fix="Name a pretrained model.",
        )
    plain = replace(model, lora=None, dropout=None)
    settings = {
        "version": VERSION,
        "weights": base_fingerprint(plain),
        "tokens": tokens_digest(features),
        "pooling": pooling,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    folder = root / "frozen" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if (known := _known(folder, features)) is None:
            with new_folder(folder) as building:
                _compute(features, plain, building / "vectors.npy", working=working, pooling=pooling)
                (building / "entry.json").write_text(json.dumps({**settings, "examples": features.num_examples}))
            say(f"computed vectors of {features.num_examples:,} texts with the model as it begins; kept")
            known = _known(folder, features)
    assert known is not None, f"{folder} was just written"
    return known


def _known(folder: Path, features: Features) -> Floats | None:
    """The vectors of an entry; None if there is none or it is damaged."""
    try:
        json.loads((folder / "entry.json").read_text())
        vectors: Floats = np.load(folder / "vectors.npy", mmap_mode="r")
    except (EOFError, OSError, ValueError):
        return None
    return vectors if vectors.ndim == 2 and len(vectors) == features.num_examples else None


def _compute(features: Features, model: Pretrained, file: Path, *, working: Working, pooling: Pooling) -> None:
    """Write the vectors of all examples, block by block."""
    from hf_trainpipe.runtime.model.exact import exact_products
    from hf_trainpipe.runtime.model.inference import run
    from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings

    task = SentenceEmbeddings(pooling=pooling)
    network, device = _network(model, task)
    budget = max(_TOKENS, int(features.widths.max(initial=1)))
    order = np.argsort(-features.lengths, kind="stable")
    sums: Any = None
    with working("vectors of the model as it begins", total=features.num_features) as told, exact_products():
        finished = 0
        for start in range(0, len(order), _BLOCK):
            chosen = np.sort(order[start : start + _BLOCK])
            found = run(network, features, task=task, chosen=chosen, max_tokens=budget, device=device)["embedding"]
            if sums is None:
                shape = (features.num_examples, found.shape[1])
                sums = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
            np.add.at(sums, np.asarray(features.example[chosen]), found)
            finished += len(chosen)
            told(finished)
    if sums is None:  # no example has a feature
        np.save(file, np.zeros((features.num_examples, 1), dtype=np.float32))
        return
    for start in range(0, len(sums), _BLOCK):
        block = sums[start : start + _BLOCK]
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
    sums.flush()


def _network(model: Pretrained, task: SentenceEmbeddings) -> tuple[torch.nn.Module, str]:
    """The model without a head, and its device; of an encoder-decoder the encoder."""
    import torch

    from hf_trainpipe.model.weights import build_model
    from hf_trainpipe.runtime.model.unpad import unpad

    network: Any = build_model(model, task, say=lambda line: None).eval()
    if getattr(network.config, "is_encoder_decoder", False):
        network = network.get_encoder()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    unpad(network)
    return network, device
