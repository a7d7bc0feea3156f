"""Where the recipe names a repository: pushing behind the training, and the push of the finished model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hf_trainpipe.checkpoint.atomic import write_json
from hf_trainpipe.errors import PackageError, TrainpipeError
from hf_trainpipe.hub.background_push import BackgroundPush
from hf_trainpipe.hub.push_queue import OUTBOX
from hf_trainpipe.hub.repository import RECORDED, push, retry
from hf_trainpipe.package.layout import list_files
from hf_trainpipe.training.export import write_package
from hf_trainpipe.training.monitor import selected
from hf_trainpipe.utils.secrets import refuse_secrets, scrub

if TYPE_CHECKING:
    from hf_trainpipe.package.card import CardFacts
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.training.monitor import Monitor
    from hf_trainpipe.training.result import Result
    from hf_trainpipe.training.run import Run

__all__ = ["Pushes", "publish"]


class Pushes:
    """While open, a process of its own pushes what the recipe wants pushed before the end. All ranks open it.

    It can neither slow nor end the run; where it cannot even be started, that is a warning.
    """

    def __init__(self, run: Run, monitor: Monitor, *, source: Any, active: bool = True) -> None:
        self.run = run
        self.monitor = monitor
        self.source = source
        self.active = active

    def __enter__(self) -> Self:
        run, hub = self.run, self.run.recipe.hub
        if self.active and hub is not None and (hub.when != "end" or hub.checkpoints):
            model = run.whole_model() if hub.when != "end" else None
            if run.ranks.is_main:
                facts = self._template(model) if model is not None else None
                if facts is not None or hub.checkpoints:
                    self.monitor.background_push = BackgroundPush(
                        run.folder.path, hub, select=selected(run), facts=facts
                    )
        return self

    def _template(self, model: Any) -> CardFacts | None:
        """Write the package that those of checkpoints are made from; None, and a warning, where that cannot be."""
        place = self.run.folder.path / OUTBOX / "template"
        try:
            _, facts = write_package(self.run, model, place, scores={}, source=self.source, seconds=None)
            refuse_secrets(place, list_files(place)[0], what="package")
        except (OSError, PackageError) as error:
            shutil.rmtree(place, ignore_errors=True)
            self.run.console.say(f"warning: no model is pushed while it trains: {error}")
            return None
        return facts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        background_push = self.monitor.background_push
        if background_push is None:
            return
        if error is not None:
            background_push.leave()
            return
        background_push.stop()
        shutil.rmtree(self.run.folder.path / OUTBOX / "template", ignore_errors=True)


def publish(recipe: Recipe, result: Result) -> Result:
    """Push the package of a complete run, and whatever else waits in its outbox; rank 0 only.

    Nothing is raised: the run is complete whatever the Hub does. What came of it is in ``result.push``, and in
    result.json.
    """
    hub = recipe.hub
    done = result.push
    if hub is None or (done.get("state") == "done" and done.get("repo") == hub.repo):
        return result
    outcome: dict[str, Any]
    try:
        outcome = {"repo": hub.repo}
        sent = push(result.run_dir, hub.repo, private=hub.private, tag=hub.tag)
        outcome = {name: sent[name] for name in RECORDED}
        retry(result.run_dir)
    except TrainpipeError as error:
        outcome |= {"state": "failed", "error": scrub(error.message), "fix": error.fix}
    except Exception as error:  # a fault of ours or of the client's is no reason to lose the result
        again = f"hf-trainpipe push {result.run_dir} --retry"
        what = scrub(f"{type(error).__name__}: {error}")
        outcome |= {"state": "failed", "error": what, "fix": f"This command tries again:\n{again}"}
    result = replace(result, push=outcome)
    try:
        write_json(result.run_dir / "result.json", result.to_json())
    except OSError as error:
        result = replace(result, push={**outcome, "unrecorded": str(error)})
    return result
