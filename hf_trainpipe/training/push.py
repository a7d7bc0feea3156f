"""Pushes of a run to the Hub: in the background while it trains, and of the finished model."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Self

from hf_trainpipe.errors import PackageError, TrainpipeError
from hf_trainpipe.hub.push_queue import BACKGROUND, OUTBOX
from hf_trainpipe.hub.repository import RECORDED, push, retry
from hf_trainpipe.package.layout import list_files
from hf_trainpipe.sidecar.parent import Sidecar
from hf_trainpipe.training.merging import packaged_model
from hf_trainpipe.training.packaging import write_package
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.secrets import refuse_secrets, scrub

if TYPE_CHECKING:
    from hf_trainpipe.package.card import CardFacts
    from hf_trainpipe.recipe import Hub
    from hf_trainpipe.training.monitor import TrainingLog
    from hf_trainpipe.training.result import Result
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import Setup


class BackgroundPushes:
    """While open, a process of its own pushes what the recipe wants pushed before the end. All ranks open it.

    It can neither slow nor end the run; if it cannot be started, that is a warning.
    """

    def __init__(self, run: Run, log: TrainingLog) -> None:
        self.run = run
        self.log = log
        self._process: Sidecar | None = None

    def __enter__(self) -> Self:
        run, hub = self.run, self.run.recipe.hub
        takes_steps = not run.options.package_only
        if takes_steps and hub is not None and (hub.when != "end" or hub.checkpoints):
            model = packaged_model(run) if hub.when != "end" else None
            if run.ranks.is_main:
                facts = self._template(model) if model is not None else None
                if facts is not None or hub.checkpoints:
                    self._start(hub, facts)
        return self

    def _start(self, hub: Hub, facts: CardFacts | None) -> None:
        """Start the process; without facts there is no template, so only checkpoints are mirrored."""
        outbox = self.run.folder.path / OUTBOX
        spec = {
            "repo": hub.repo,
            "private": hub.private,
            "when": hub.when if facts is not None else "end",
            "checkpoints": hub.checkpoints,
            "select": self.run.recipe.selected_metric,
            "facts": asdict(facts) if facts is not None else {},
        }
        process = Sidecar()
        try:
            outbox.mkdir(exist_ok=True)
            write_json(outbox / BACKGROUND, spec)
            run = str(self.run.folder.path.resolve())
            process.start("hf_trainpipe.hub.background_push_process", [run], log=outbox / "background-push.log")
        except OSError as error:
            self.run.console.say(f"warning: nothing is pushed while it trains ({error})")
            return
        self._process = process
        self.log.sidecars.append(process)

    def _template(self, model: Any) -> CardFacts | None:
        """Write the package that those of checkpoints are made from; None, and a warning, if that fails."""
        place = self.run.folder.path / OUTBOX / "template"
        try:
            facts = write_package(self.run, model, place, scores={}, seconds=None)
            refuse_secrets(place, list_files(place)[0], what="package")
        except (OSError, PackageError) as error:
            shutil.rmtree(place, ignore_errors=True)
            self.run.console.say(f"warning: no model is pushed while it trains: {error}")
            return None
        return facts

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is None:
            return
        if kind is not None:
            self._process.end()  # it pushes the newest checkpoint and ends
            return
        self._process.end("stop", timeout=20.0, kill=True)  # the queue keeps what is not pushed by then
        shutil.rmtree(self.run.folder.path / OUTBOX / "template", ignore_errors=True)


def push_result(setup: Setup, result: Result) -> Result:
    """Push the package of a complete run, and what else waits in its push queue; rank 0 only.

    Nothing is raised: the run is complete whatever the Hub does. The outcome is in ``result.push`` and in result.json.
    """
    hub, done = setup.recipe.hub, result.push
    if not setup.ranks.is_main or setup.options.package_only:
        return result
    if hub is None or (done.get("state") == "done" and done.get("repo") == hub.repo):
        return result
    outcome: dict[str, Any]
    try:
        outcome = {"repo": hub.repo}
        size = sum(file.stat().st_size for file in result.package.rglob("*") if file.is_file())
        with setup.console.working(f"pushing {size / 2**20:,.1f} MiB to {hub.repo}"):
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
