"""Admission control, before anything is computed: requests are accepted by their size and by the space in the queue.

The queue has two lanes: large requests do not take the space of small ones. One client gets three quarters of a lane
at most.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hf_trainpipe.serve.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_trainpipe.serve.settings import Limits

_SMALL = 1 / 16
"""Of the queue: inputs that a small request has at most."""
_SMALL_CHARACTERS = 1 / 20
"""Of the characters that a request may have."""
_CLIENT = 3 / 4
"""Of a lane."""
_LANE_REQUESTS = 10
"""Largest requests, in characters, that a lane holds."""


class _Lane:
    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self.characters: Counter[str] = Counter()


class Admission:
    """Counts what is queued. Used on the event loop only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes = (_Lane(), _Lane())

    @property
    def waiting(self) -> int:
        """Inputs that are accepted and not answered yet."""
        return sum(lane.inputs.total() for lane in self._lanes)

    def check_inputs(self, inputs: Sequence[Any]) -> None:
        """Refuse more inputs, or more words, than a request may have; does not read them.

        Raises:
            Refusal: 413.
        """
        if len(inputs) > self._limits.inputs:
            raise too_much("inputs", f"{self._limits.inputs}", len(inputs), "Send several requests.")
        found = [item.get("words") for item in inputs if isinstance(item, dict)]
        words = sum(len(one) for one in found if isinstance(one, list | tuple))
        if words > self._limits.tokens:  # each has a token at least
            raise too_much("tokens", f"{self._limits.tokens} tokens", words)

    def check_characters(self, characters: int) -> None:
        """Refuse longer texts than a request may have.

        Raises:
            Refusal: 413.
        """
        if characters > self._limits.characters:
            raise too_much("characters", f"{self._limits.characters} characters", characters)

    def is_large(self, inputs: int, characters: int) -> bool:
        """Whether a request goes to the lane of large ones."""
        limits = self._limits
        return inputs > max(1, _SMALL * limits.queue) or characters > max(1, _SMALL_CHARACTERS * limits.characters)

    @contextmanager
    def admit(self, client: str, inputs: int, characters: int) -> Iterator[None]:
        """Reserve space for a request while it is worked on. An empty lane accepts any request.

        Raises:
            Refusal: 429.
        """
        lane = self._lanes[self.is_large(inputs, characters)]
        self._check_space(lane.inputs, client, inputs, self._limits.queue, "inputs")
        self._check_space(lane.characters, client, characters, _LANE_REQUESTS * self._limits.characters, "characters")
        lane.inputs[client] += inputs
        lane.characters[client] += characters
        try:
            yield
        finally:
            lane.inputs[client] -= inputs
            lane.characters[client] -= characters
            if not lane.inputs[client]:
                del lane.inputs[client], lane.characters[client]

    def _check_space(self, lane: Counter[str], client: str, more: int, space: int, what: str) -> None:
        everybody, own = lane.total(), lane[client]
        share = int(_CLIENT * space)
        if everybody and everybody + more > space:
            message = f"{everybody} {what} are queued already, of {space} at most."
        elif own and own + more > share:
            message = f"{own} {what} of this client are queued already, of {share} at most."
        else:
            return
        raise Refusal(429, "queue", message, "Try again, later and less often.", headers={"Retry-After": "1"})


def too_much(reason: str, most: str, found: int, fix: str = "Send shorter texts, or several requests.") -> Refusal:
    """The refusal of a request that is too large: 413."""
    return Refusal(413, reason, f"inputs: expected at most {most}, found {found}.", fix)
