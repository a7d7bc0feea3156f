"""The package of a run, written and tried before its first step: what would fail after training fails now.

It is the gate that the finished model passes too, with the weights as they are when training begins and a few texts of
the training data. Where code of a person's own travels, or spaCy's pipelines, a fresh process answers, begun before the
weights are loaded so that most of its imports run beside. Else all that travels is ours, and is loaded in this process.
What was tried on this machine is not tried again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe import runtime
from hf_trainpipe.errors import PackageError
from hf_trainpipe.model import load_config
from hf_trainpipe.package.fresh import Fresh
from hf_trainpipe.package.probe import as_lists, difference
from hf_trainpipe.package.verify import read_recorded, verify
from hf_trainpipe.package.write import requirements, versions
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.text.preprocessing import BUILT_IN, steps_to_json
from hf_trainpipe.runtime.text.words import BUILT_IN_SPLITTERS
from hf_trainpipe.training.export import code_file, record_predictions, write_package
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from hf_trainpipe.training.run import Run

__all__ = ["Trial"]

TRIED = 8
"""Examples of the training split that the package answers."""
IMPORTS = ("torch", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto")
TOLERANCE = 1e-5


class Trial:
    """Made before the weights are loaded, called after. All ranks take part.

    Args:
        run: Its data is prepared.
        source: The file of the recipe, if any.
        active: Whether there is something to try it for: a run that takes steps.
    """

    def __init__(self, run: Run, source: Any, *, active: bool = True) -> None:
        self._run = run
        self._source = source
        self._stamp = cache_root() / "trials" / (_stamp(run, source) if run.ranks.is_main else "none")
        needed = active and run.ranks.is_main and not self._stamp.exists()
        self._fresh = Fresh(imports=IMPORTS) if needed and _is_foreign(run, source) else None
        self.needed: bool = run.ranks.from_main(needed)

    def __call__(self) -> None:
        """Write the package and have the fresh process answer.

        Raises:
            PackageError: exit code 6, as the gate after the training would, on every rank.
        """
        if not self.needed:
            return
        run = self._run
        examples = run.data.train.usable[: max(TRIED, run.ranks.size)]
        outputs = run.predict("train", autocast=False, examples=examples)
        model = run.whole_model()
        failed: tuple[str, str] | None = None
        if run.ranks.is_main:
            folder = run.folder.path / "trial"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                recorded = folder / "recorded.jsonl"
                record_predictions(run, {"train": outputs}, recorded)
                package, _ = write_package(
                    run, model, folder / "package", scores={}, source=self._source, seconds=None, durable=False
                )
                if self._fresh is not None:
                    verify(package, recorded=recorded, fresh=self._fresh, allow_code=True)
                else:
                    _answer_here(package, recorded, device=run.accelerator.device)
                self._stamp.parent.mkdir(parents=True, exist_ok=True)
                self._stamp.touch()
            except PackageError as error:
                failed = error.message.replace(f"{folder}/", ""), error.fix
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        failed = run.ranks.from_main(failed)
        if failed is not None:
            raise PackageError(
                f"The package of this run would not work, so training does not begin.\n{failed[0]}", fix=failed[1]
            )

    def close(self) -> None:
        """End the process where it was not asked."""
        if self._fresh is not None:
            self._fresh.close()


def _is_foreign(run: Run, source: Any) -> bool:
    """Whether anything travels that is not ours or transformers' own."""
    steps = [getattr(step, "pipeline", None) for step in run.recipe.preprocessing]
    splitter = getattr(run.task, "splitter", None)
    uses_spacy = any(steps) or (isinstance(splitter, str) and splitter not in BUILT_IN_SPLITTERS)
    own = [step for step in run.recipe.preprocessing if type(step).__name__ not in BUILT_IN]
    return bool(own) or uses_spacy or run.recipe.model.trust_remote_code


def _answer_here(package: Path, recorded: Path, *, device: Any) -> None:
    """Load a package in this process and compare, as the fresh process does."""
    lines = read_recorded(recorded)
    inputs = [line["input"] for line in lines]
    try:
        found = as_lists(Predictor.load(package, device=device).outputs(inputs), len(inputs))
    except PackageError:
        raise
    except Exception as error:  # whatever loading and asking may meet
        raise PackageError(
            f"The package does not load ({type(error).__name__}): {error}",
            fix="Choose another model or tokenizer; `hf-trainpipe doctor` tells the versions.",
        ) from error
    gap = max((difference(row, line["output"]) for row, line in zip(found, lines, strict=True)), default=0.0)
    if gap > TOLERANCE:
        raise PackageError(
            f"The package does not answer as the model in training does: logits may differ by {TOLERANCE:g}, found {gap:.3g}.",
            fix="The model or its tokenizer does not come back as it was saved: choose another.",
        )


def _stamp(run: Run, source: Any) -> str:
    """A hash of all that travels but the weights, and of what it is tried with."""
    code = code_file(run, source)
    digest = hashlib.sha256()
    for path in sorted(Path(str(runtime.__file__)).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(b"" if code is None else code.read_bytes())
    inputs = [column.kind for column in run.task.inputs()]
    travels = [
        load_config(run.recipe.model).to_dict(),
        run.task.model_class().__name__,
        [run.task.decoder, run.task.decoder_options(run.data.labels), inputs, getattr(run.task, "splitter", None)],
        list(run.data.labels.names),
        run.data.fingerprints["tokenizer"],
        [type(run.tokenizer).__name__, run.tokenizer.special_tokens_map],
        steps_to_json(run.recipe.preprocessing),
        [run.plan.max_length, run.recipe.tokens.overflow, run.recipe.tokens.stride],
        [run.recipe.model.trust_remote_code, run.recipe.model.name if run.recipe.model.trust_remote_code else None],
        [str(run.accelerator.device.type), versions(requirements())],
    ]
    digest.update(json.dumps(travels, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]
