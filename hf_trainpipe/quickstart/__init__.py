"""Synthetic support messages for the quickstart, so that a first run needs no download."""

from hf_trainpipe.quickstart.messages import INTENTS, SupportMessages

__all__ = ["INTENTS", "SupportMessages"]
