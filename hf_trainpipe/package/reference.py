"""The model that a package was made from, for scores that compare with it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from hf_trainpipe.data.reference import with_reference
from hf_trainpipe.errors import PackageError
from hf_trainpipe.recipe import Pretrained
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from typing import Any

    import torch

    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.features import Features


def referred(predictor: Predictor, features: Features, task: Task, *, model: Any, split: str) -> Features:
    """Features with what the model of the recipe makes of them, in fp32: from disk, where the run or an earlier evaluation has
    computed it.

    Args:
        model: The recipe's.

    Raises:
        PackageError: the recipe does not say, or began with random weights.
        RecipeError: its model cannot be loaded.
    """
    from hf_trainpipe.model.lora import base_fingerprint
    from hf_trainpipe.model.names import pin_model

    if not isinstance(model, Pretrained):
        raise PackageError(
            "Its scores compare with the model that training began with, and the recipe names none that can be loaded.",
            fix="Give the run's recipe: --recipe FILE.",
            exit_code=2,
        )
    plain = pin_model(model)
    if (
        plain.lora is None or plain.lora.base_bits is None
    ):  # one in few bits is made with its adapters, which change nothing yet
        plain = replace(plain, lora=None)

    @cache
    def loaded() -> torch.nn.Module:
        from hf_trainpipe.model.weights import build_model
        from hf_trainpipe.runtime.model.unpad import unpad

        model = build_model(plain, task, say=lambda _: None).to(predictor.device)
        unpad(model)
        return model

    def compute(some: Features) -> Features:
        from hf_trainpipe.runtime.model.exact import exact_products

        with exact_products():
            return task.precompute(loaded(), some)

    return with_reference(
        features,
        task,
        compute=compute,
        weights=base_fingerprint(plain),
        precision="fp32",
        root=cache_root(),
        split=split,
        say=lambda _: None,
    )
