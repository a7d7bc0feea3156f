"""The setting of a recipe that learns from a teacher."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from hf_trainpipe.recipe.interfaces import Data
from hf_trainpipe.recipe.settings import check_positive, check_share, refused


@dataclass(frozen=True)
class Distil:
    """Learn from a larger model's outputs too: the loss is ``weight`` times the distance from the teacher, and ``1 - weight`` times
    the task's own (docs/distillation.md)."""

    teacher: str
    """A package of the same task, or the folder of its run; or a model as transformers reads it. A folder,
    ``package:NAME/folder`` or a Hub id."""
    _: KW_ONLY
    revision: str | None = None
    """Branch, tag or commit of a teacher on the Hub; pinned to a commit at first use."""
    weight: float = 0.5
    """Of the distance from the teacher, in (0, 1]; 1: the rows' own labels count for nothing."""
    temperature: float = 2.0
    """Of classes: both models' logits are divided by it, so that the teacher's small probabilities are learnt too
    (arXiv 1503.02531). A regression has no use for it."""
    unlabelled: Data | None = None
    """Further texts without labels, the split ``train`` of a data source: the teacher alone tells what is right for them."""
    names: tuple[str, ...] | None = None
    """The teacher's labels in the order of its outputs; None: those that its package or configuration names."""
    allow_code: bool = False
    """Run code that the teacher brings. Read it first."""

    def __post_init__(self) -> None:
        if not self.teacher:
            raise refused("distil.teacher", "a folder or a Hub id", self.teacher, "Name the teacher.")
        check_share("distil.weight", self.weight, closed=True)
        check_positive("distil.temperature", self.temperature)
        if not isinstance(self.unlabelled, Data | None):
            raise refused(
                "distil.unlabelled",
                "a Data or None",
                self.unlabelled,
                'Pass a data source: unlabelled=Files(train="more.csv").',
            )
