"""What a recipe's model makes of texts before any training: a vector each, computed once and kept.

An entry (:mod:`hf_trainpipe.utils.cached`) follows from the weights, the tokens (so the texts, their preprocessing and the
tokenizer) and the pooling. Whoever comes first computes it, in fp32 and without padding where the architecture allows it; the
others wait.

Shapes: N texts or examples, F features, W numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data.reference import tokens_digest
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.utils.cached import Entry

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings
    from hf_trainpipe.runtime.tokens.encoder import Encoder
    from hf_trainpipe.runtime.tokens.features import Features
    from hf_trainpipe.utils.pieces import Pieces

    Working = Callable[..., AbstractContextManager[Callable[[int], None]]]

VERSION = 1
Floats = NDArray[np.float32]
Pooling = Literal["mean", "cls"]

_FILE = "vectors.npy"
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
    entry = Entry(root / "frozen", settings)

    def known() -> Floats | None:
        found = entry.read(_mapped)
        return found if found is not None and found.ndim == 2 and len(found) == features.num_examples else None

    with entry.lock:
        if (found := known()) is None:
            entry.write(partial(_compute, features, plain, entry.pieces, working=working, pooling=pooling))
            say(f"computed vectors of {features.num_examples:,} texts with the model as it begins; kept")
            found = known()
    assert found is not None, "it was just written"
    return found


def _mapped(folder: Path) -> Floats:
    vectors: Floats = np.load(folder / _FILE, mmap_mode="r")
    return vectors


def _compute(
    features: Features, model: Pretrained, pieces: Pieces, folder: Path, *, working: Working, pooling: Pooling
) -> None:
    """Write the vectors of all examples, block by block; those of blocks that are done stay if it is interrupted."""
    from hf_trainpipe.runtime.model.exact import exact_products
    from hf_trainpipe.runtime.model.inference import run
    from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings

    task = SentenceEmbeddings(pooling=pooling)
    network, device = _network(model, task)
    budget = max(_TOKENS, int(features.widths.max(initial=1)))
    order = np.argsort(-features.lengths, kind="stable")

    def look(chosen: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        return run(network, features, task=task, chosen=chosen, max_tokens=budget, device=device).arrays

    file = folder / _FILE
    sums: Any = None
    with working("vectors of the model as it begins", total=features.num_features) as told, exact_products():
        finished = 0
        for start in range(0, len(order), _BLOCK):
            chosen = np.sort(order[start : start + _BLOCK])
            found = pieces.piece(chosen, partial(look, chosen))["embedding"]
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
