"""The text of the quickstart: written by a grammar in this package, so that a first run needs no download."""

from hf_trainpipe.quickstart.messages import INTENTS, SupportMessages

__all__ = ["INTENTS", "SupportMessages"]
