"""ROUGE, BLEU and chrF of written texts, as the libraries themselves compute them. Only training imports those.

Shapes: N texts, each with one reference or several; R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError

Floats = npt.NDArray[np.float64]
ROUGE = ("rougeL", "rouge1", "rouge2", "rougeLsum")


class CorpusScore(NamedTuple):
    """A score of sacrebleu over some texts."""

    statistics: Floats
    """[N, K], whose sums the score is made of."""
    signature: str
    """How it was computed, in sacrebleu's own words."""


def require(module: str, *, metric: str) -> None:
    """Refuse a metric whose library is not there.

    Raises:
        RecipeError: as said.
    """
    if find_spec(module) is None:
        name = module.replace("_", "-")
        raise RecipeError(
            f"evaluation: {metric} is computed by {name}, which is not installed.",
            fix="pip install 'hf-trainpipe[seq2seq]'",
        )


def rouge_scores(written: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """[N, 4]: F of :data:`ROUGE` by rouge-score, with its Porter stemmer; of several references the best one's.

    Sentences of rougeLsum are those that stand on lines of their own, as in the library; its other way needs a download.
    """
    require("rouge_score", metric="ROUGE")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    found = [scorer.score_multi(list(right), text) for text, right in zip(written, references, strict=True)]
    return np.array([[scores[name].fmeasure for name in ROUGE] for scores in found], dtype=np.float64).reshape(-1, 4)


def rouge_signature() -> str:
    """As sacrebleu's signatures read."""
    from importlib.metadata import version

    return f"f:1|stemmer:porter|refs:best|version:{version('rouge-score')}"


def _bleu(tokenizer: str) -> Any:
    require("sacrebleu", metric="BLEU")
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenizer, force=True)  # no warning of texts that end in " ."


def _chrf() -> Any:
    require("sacrebleu", metric="chrF")
    from sacrebleu.metrics import CHRF

    return CHRF()


def bleu_statistics(written: Sequence[str], references: Sequence[Sequence[str]], *, tokenizer: str) -> CorpusScore:
    """Of BLEU by sacrebleu; :func:`bleu` makes the score of their sums."""
    return _statistics(_bleu(tokenizer), written, references)


def chrf_statistics(written: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusScore:
    """Of chrF2 by sacrebleu; :func:`chrf` makes the score of their sums."""
    return _statistics(_chrf(), written, references)


def _statistics(metric: Any, written: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusScore:
    most = max(map(len, references), default=1)
    columns = [[right[place] if place < len(right) else None for right in references] for place in range(most)]
    rows = metric._extract_corpus_statistics(list(written), columns) if written else []
    statistics = np.array(rows, dtype=np.float64).reshape(len(written), -1)
    return CorpusScore(statistics, str(metric.get_signature()) if written else "")


def bleu(sums: Floats) -> Floats:
    """Sums of statistics [R, K] to BLEU [R], from 0 to 100."""
    return _scores(_bleu("none"), sums)  # the texts are tokenized


def chrf(sums: Floats) -> Floats:
    """Sums of statistics [R, K] to chrF2 [R], from 0 to 100."""
    return _scores(_chrf(), sums)


def _scores(metric: Any, sums: Floats) -> Floats:
    rows = np.rint(sums).astype(np.int64).reshape(-1, sums.shape[-1]).tolist()
    return np.array([metric._compute_score_from_stats(row).score for row in rows]).reshape(sums.shape[:-1])
