"""What stands in for a recorder of CUDA graphs where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable


class Again:
    """The recorded function runs again. Where it may, it runs once before, as it does while a graph is recorded."""

    def __init__(self, run: Callable[[], None], *, warm_ups: int = 1) -> None:
        self.replay = run
        if warm_ups:
            run()
