"""Whether a tracker could be told of a run from here: its library, its credentials, its server; nothing is sent."""

from __future__ import annotations

import importlib.util
import re
import threading

from hf_trainpipe.errors import RecipeError, TrainpipeError
from hf_trainpipe.recipe import Tracker
from hf_trainpipe.tracking.base import KINDS, LIBRARIES, describe, missing
from hf_trainpipe.utils.brief import first_line


def obstacle(tracker: Tracker, *, seconds: float) -> TrainpipeError | None:
    """What stands between a run and its tracker; None where nothing does.

    Args:
        seconds: That its server may take to answer anything at all.
    """
    kind = type(tracker).__name__
    try:
        describe(tracker)
    except RecipeError as error:
        return error
    if KINDS.get(kind) == type(tracker).__module__ and importlib.util.find_spec(LIBRARIES[kind]) is None:
        return missing(kind)
    there = tracker.destination()
    if there.lacks is not None:
        return RecipeError(f"{kind}: expected {there.lacks} in the environment, found none.", fix=there.fix)
    if there.address is not None and (why := unreachable(there.address, seconds=seconds)) is not None:
        shown = re.sub(r"//[^/@]*@", "//", there.address)
        return TrainpipeError(
            f"{kind}: expected an answer from {shown} within {seconds:g} s, found {why}.",
            fix="Correct the address, or the network. A run would go on without it: `hf-trainpipe track sync RUN` sends it later.",
        )
    return None


def unreachable(address: str, *, seconds: float) -> str | None:
    """Why nobody answers at an address, in a few words; None where somebody does, whatever is said."""
    found: list[str | None] = ["no answer"]

    def ask() -> None:
        import httpx

        try:
            httpx.get(address, timeout=seconds, follow_redirects=False)
            found[0] = None
        except httpx.TimeoutException:
            pass
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            found[0] = first_line(error).rstrip(".")

    thread = threading.Thread(target=ask, daemon=True)  # names are resolved without a limit of time
    thread.start()
    thread.join(seconds + 1.0)
    return found[0]
