"""What stages share that use the run or the package of another one; and options of verbs as words."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from hf_trainpipe.pipelines.stage import Place, Stage


def switches(**given: bool) -> tuple[str, ...]:
    """Options without a value: ``no_model=True`` is ``--no-model``."""
    return tuple(f"--{name.replace('_', '-')}" for name, is_on in given.items() if is_on)


def values(**given: Any) -> tuple[str, ...]:
    """Options with a value; None is left out."""
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None)
    return tuple(word for pair in pairs for word in pair)


def repeated(option: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """An option once for each value."""
    return tuple(word for value in given for word in (option, value))


@dataclass(frozen=True)
class OfRun(Stage):
    """A stage that uses the run or the package of another one."""

    of: str
    """The stage whose run it uses: one that trains, or one that used it before; or the folder of a run or a package, with a ``/``."""
    _: KW_ONLY

    def takes_from(self) -> tuple[str, ...]:
        return () if "/" in self.of else (self.of,)

    def run_of(self, pipeline: Place) -> str:
        return self.of if "/" in self.of else pipeline.run_of(self.of)

    def package_of(self, pipeline: Place) -> str:
        """The folder of the package; of a path, what is there."""
        return self.of if "/" in self.of else f"{self.run_of(pipeline)}/package"

    def hands_on(self, pipeline: Place) -> tuple[str, ...]:
        return (self.of,) if "/" in self.of else pipeline.stage(self.of).hands_on(pipeline)

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        return (*self.hands_on(pipeline), *super().reads(pipeline))
