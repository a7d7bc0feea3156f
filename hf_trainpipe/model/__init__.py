"""The model and the tokenizer of a recipe: resolved, checked and loaded.

names      folders and Hub ids; the commit that a name means
tokenizer  the tokenizer, held against the model's embedding
lengths    how many tokens one input may hold
fitting    both for a recipe, before its data is read
facts      what a configuration tells without weights
weights    the weights, and what of them is missing or does not fit
proof      what is tried with texts and weights: the longest text, padding, the share of unknown tokens
head       whether the labels of a head that comes with the weights are the task's
"""

from __future__ import annotations

from hf_trainpipe.model.facts import ModelFacts, model_facts
from hf_trainpipe.model.fitting import Fitting, fit
from hf_trainpipe.model.lengths import max_length
from hf_trainpipe.model.names import load_config, pin_model
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.model.weights import build_model

__all__ = [
    "Fitting",
    "ModelFacts",
    "build_model",
    "fit",
    "load_config",
    "load_tokenizer",
    "max_length",
    "model_facts",
    "pin_model",
]
