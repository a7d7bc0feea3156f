"""The result of a finished run: scores, package, push."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_trainpipe.baselines.beside import FILE
from hf_trainpipe.metrics.score_details import screen
from hf_trainpipe.package.in_words import beside_baselines
from hf_trainpipe.report import forecast
from hf_trainpipe.utils.tables import html
from hf_trainpipe.utils.wording import adapt_message, current_place


@dataclass(frozen=True, repr=False)
class Result:
    """Scores, the package, and how the run went."""

    run_dir: Path
    package: Path
    select: str
    scores: dict[str, dict[str, dict[str, Any]]]
    """Split to metric to value, low, high, confidence and n."""
    steps: int
    best_step: int
    seconds: float
    """Wall-clock time of the attempt that finished the run."""
    verified: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    """Split to the details of its scores: each label, confusions, worst errors with their texts, warnings."""
    push: dict[str, Any] = field(default_factory=dict)
    """If the recipe names a repository: ``state`` ("done" or "failed"), ``repo``, and ``commit``, ``tag``, ``url``,
    or ``error`` and ``fix``. A push that failed stays queued."""

    packaged: bool = True
    """False: validation alone was scored (``--validation-only``), and there is no package yet."""

    def to_json(self) -> dict[str, Any]:
        """For programs; paths as text. ``packaged`` only where it is false."""
        told = {**vars(self), "run_dir": str(self.run_dir), "package": str(self.package)}
        return {name: value for name, value in told.items() if name != "packaged" or not value}

    @classmethod
    def from_json(cls, document: dict[str, Any], *, run_dir: Path) -> Result:
        """Read what :meth:`to_json` wrote; the run's directory may have moved. Fields of later versions are ignored."""
        known = {item.name for item in fields(cls)}
        kept = {name: value for name, value in document.items() if name in known}
        return cls(**{**kept, "run_dir": run_dir, "package": run_dir / "package"})

    def summary(self) -> str:
        """For a person: scores with intervals, where the package is and what to do next."""
        shown = [
            (f"{split} {name}", score["value"], score.get("low"), score.get("high"))
            for split, scores in self.scores.items()
            for name, score in scores.items()
        ]
        width = max((len(name) for name, *_ in shown), default=0)
        lines = [f"weights of step {self.best_step:,} of {self.steps:,}, {self.seconds:,.0f} s"]
        for name, value, low, high in shown:
            interval = "" if low is None or high is None else f"  [{low:.4f}, {high:.4f}]"
            lines.append(f"  {name:<{width}}  {_number(value)}{interval}")
        if self.report:
            split = "test" if "test" in self.report else next(iter(self.report))
            lines += [*screen(split, self.report[split]), ""]
        if verdict := self._beside_baselines():
            lines += [f"{verdict}.", ""]
        if self.verified:
            lines.append(
                f"verified  {self.verified['n']} recorded predictions, largest difference "
                f"{self.verified['max_abs_diff']:.1e}"
            )
        if (foretold := forecast.line(self.run_dir)) is not None:
            lines.append(f"forecast  {foretold}")
        if (self.run_dir / "report.html").is_file():
            lines.append(f"report    {self.run_dir / 'report.html'}")
        if not self.packaged:
            lines.append("no package, test unseen: the same command without --validation-only makes one")
            return adapt_message("\n".join(lines))
        lines.append(f"package   {self.package}")
        if self.push.get("state") == "done":
            version = f", {self.push['tag']}" if self.push.get("tag") else ""
            lines.append(f"pushed    {self.push['repo']}{version}, commit {str(self.push['commit'])[:12]}")
        elif self.push:
            lines.append(f"not pushed to {self.push['repo']}; `hf-trainpipe push {self.run_dir} --retry` tries again")
        if current_place() == "shell":
            lines.append(f"next      hf-trainpipe predict {self.package} --input texts.txt --output answers.csv")
        else:
            lines.append(f'next      hf_trainpipe.load("{self.package}").predict(["a text"])')
        return adapt_message("\n".join(lines))

    def _beside_baselines(self) -> str:
        """Whether it beats the baselines of its data, where it was held against them."""
        try:
            return beside_baselines(json.loads((self.run_dir / FILE).read_text(encoding="utf-8")))
        except (KeyError, OSError, ValueError):
            return ""

    def __repr__(self) -> str:
        split, scores = next(iter(self.scores.items()), ("", {}))
        name = self.select if self.select in scores else next(iter(scores), None)
        shown = f"{split} {name} {_number(scores[name]['value'])}, " if name is not None else ""
        return f"Result({str(self.run_dir)!r}: {shown}weights of step {self.best_step:,} of {self.steps:,})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = [
            [split, name, _number(score["value"]), _number(score.get("low")), _number(score.get("high"))]
            for split, scores in self.scores.items()
            for name, score in scores.items()
        ]
        return f"<code>{escape(repr(self))}</code>" + html(["split", "metric", "value", "low", "high"], rows)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
