"""Write and try the package before the first step, so that what would fail after training fails now.

It is the check that the finished model must pass too, with untrained weights and a few texts of the training data. If
the package brings code of its own or needs spaCy or NLTK, a fresh process answers; it is started before the weights are loaded,
so that its imports run at the same time. Else the package is loaded in this process. A package that was tried on this
machine is not tried again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe import runtime
from hf_trainpipe.errors import PackageError
from hf_trainpipe.model.names import load_config
from hf_trainpipe.package.fresh import FreshProcess
from hf_trainpipe.package.probe import gaps
from hf_trainpipe.package.verify import TOLERANCE, read_recorded, verify
from hf_trainpipe.package.write import requirements, versions
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.tasks.registry import travelling
from hf_trainpipe.runtime.text.preprocessing import steps_to_json
from hf_trainpipe.training.merging import check_adapter, packaged_model, saved_adapter
from hf_trainpipe.training.packaging import code_file, has_own_code, write_package
from hf_trainpipe.training.recording import record_predictions
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from hf_trainpipe.model.adapter import Adapter
    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import Setup

TRIED = 8
"""Examples of the training split that the package answers."""
IMPORTS = ("torch", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto")


class Trial:
    """Made before the weights are loaded; its check comes after. All ranks take part.

    Args:
        remembers: Whether a package that passes is remembered, and one that passed before is not tried again.
    """

    def __init__(self, setup: Setup, *, remembers: bool = True) -> None:
        is_main = setup.ranks.is_main
        self._stamp, self._remembers = cache_root() / "trials" / (_stamp(setup) if is_main else "none"), remembers
        self.passed_before = setup.ranks.from_main(self._stamp.exists)
        self.needed = not setup.options.package_only and not (remembers and self.passed_before)
        self._fresh = FreshProcess(imports=IMPORTS) if is_main and self.needed and _is_foreign(setup) else None

    def check(self, run: Run) -> None:
        """Write the package of the untrained model and compare its answers with the model's.

        Raises:
            PackageError: exit code 6, as the gate after the training would, on every rank.
        """
        if not self.needed:
            return
        with run.console.working("trying the package in a fresh process"):
            examples = run.data.train.usable[: max(TRIED, run.ranks.size)]
            model, adapter = packaged_model(run), saved_adapter(run)
            outputs = run.predict("train", autocast=False, examples=examples, model=model)
            failed = run.ranks.from_main(lambda: self._failure(run, model, outputs, adapter))
        if failed is not None:
            raise PackageError(
                f"The package of this run would not work, so training does not begin.\n{failed[0]}", fix=failed[1]
            )

    def _failure(self, run: Run, model: Any, outputs: Outputs, adapter: Adapter | None) -> tuple[str, str] | None:
        """What would fail after the training, as a message and a fix; a package that works is remembered."""
        folder = run.folder.path / "trial"
        package, recorded = folder / "package", folder / "recorded.jsonl"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            record_predictions(run, {"train": outputs}, recorded, model=model)
            write_package(run, model, package, scores={}, seconds=None, adapter=adapter, durable=False)
            if self._fresh is not None:
                verify(package, recorded=recorded, fresh=self._fresh, allow_code=True)
            else:
                _answer_here(package, recorded, device=run.accelerator.device)
            if adapter is not None:
                check_adapter(run, package, recorded)
        except PackageError as error:
            return error.message.replace(f"{folder}/", ""), error.fix
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self._remembers:
            self._stamp.parent.mkdir(parents=True, exist_ok=True)
            self._stamp.touch()
        return None

    def close(self) -> None:
        """End the fresh process if it was not used."""
        if self._fresh is not None:
            self._fresh.close()


def _is_foreign(setup: Setup) -> bool:
    """Whether the package brings code of the recipe's or the model's own, or needs spaCy or NLTK."""
    uses_library = any(step.needs for step in setup.recipe.preprocessing) or bool(setup.task.pipelines)
    return has_own_code(setup) or uses_library or setup.recipe.model.trust_remote_code


def _answer_here(package: Path, recorded: Path, *, device: Any) -> None:
    """Load a package in this process and compare, as the fresh process does."""
    try:
        gap = max(gaps(Predictor.load(package, device=device, precision="fp32"), read_recorded(recorded)))
    except PackageError:
        raise
    except Exception as error:  # any error of loading or answering
        raise PackageError(
            f"The package does not load ({type(error).__name__}): {error}",
            fix="Choose another model or tokenizer; `hf-trainpipe doctor` tells the versions.",
        ) from error
    if gap > TOLERANCE:
        raise PackageError(
            f"The package does not answer as the model in training does: logits may differ by {TOLERANCE:g}, found {gap:.3g}.",
            fix="The model or its tokenizer does not come back as it was saved: choose another.",
        )


def _stamp(setup: Setup) -> str:
    """A hash of all that is in the package but the weights, and of what it is tried with."""
    code = code_file(setup)
    digest = hashlib.sha256()
    for path in sorted(Path(str(runtime.__file__)).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(b"" if code is None else code.read_bytes())
    travels = [
        load_config(setup.recipe.model).to_dict(),
        setup.task.model_class().__name__,
        travelling(setup.task).to_json(),
        setup.data.fingerprints["tokenizer"],
        [type(setup.tokenizer).__name__, setup.tokenizer.special_tokens_map],
        steps_to_json(setup.recipe.preprocessing),
        [setup.plan.max_length, setup.recipe.tokens.overflow, setup.recipe.tokens.stride],
        [
            setup.recipe.model.trust_remote_code,
            setup.recipe.model.name if setup.recipe.model.trust_remote_code else None,
        ],
        [str(setup.ranks.accelerator.device.type), versions(requirements())],
        [] if setup.recipe.model.lora is None else [repr(setup.recipe.model.lora)],
    ]
    digest.update(json.dumps(travels, sort_keys=True, default=str).encode())
    digest.update(setup.data.fingerprints.get("preprocessing", "").encode())
    return digest.hexdigest()[:32]
