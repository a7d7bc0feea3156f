"""Pipelines: stages that are one verb each, in a short Python file beside recipes.

    from hf_trainpipe.pipelines import Evaluate, Pipeline, Train

    def pipeline() -> Pipeline:
        return Pipeline("reviews", stages=(Train("reviews.py"), Evaluate("train", split="test")))

``pipeline run FILE`` runs it here; ``pipeline emit`` writes files for other engines, which call ``pipeline stage FILE NAME`` and
nothing else. State lies in the stages' folders, so any engine continues what another one began.
"""

from __future__ import annotations

from hf_trainpipe.pipelines.pipeline import Pipeline as Pipeline
from hf_trainpipe.pipelines.service import Deploy as Deploy
from hf_trainpipe.pipelines.service import Promote as Promote
from hf_trainpipe.pipelines.service import Retrain as Retrain
from hf_trainpipe.pipelines.service import Watch as Watch
from hf_trainpipe.pipelines.stage import Place as Place
from hf_trainpipe.pipelines.stage import Stage as Stage
from hf_trainpipe.pipelines.stages import Audit as Audit
from hf_trainpipe.pipelines.stages import Evaluate as Evaluate
from hf_trainpipe.pipelines.stages import Ingest as Ingest
from hf_trainpipe.pipelines.stages import Package as Package
from hf_trainpipe.pipelines.stages import Push as Push
from hf_trainpipe.pipelines.stages import Train as Train
from hf_trainpipe.pipelines.stages import Verify as Verify
from hf_trainpipe.pipelines.verb import Verb as Verb

__all__ = [
    "Audit", "Deploy", "Evaluate", "Ingest", "Package", "Pipeline", "Place", "Promote", "Push", "Retrain", "Stage", "Train", "Verb", "Verify",
    "Watch",
]  # fmt: skip
