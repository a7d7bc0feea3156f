"""The adapter and the head of a model alone, as a folder that plain ``peft.PeftModel.from_pretrained`` loads."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.lora import ADAPTER, config_of, is_of_adapter, quantise_as_trained
from hf_trainpipe.model.weights import build_model

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.base import Task

_KINDS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}
"""End of a model's class to peft's kind of task; of others it has none, and takes the model as it is."""


@dataclass(frozen=True)
class Adapter:
    """What trained, with peft's names and configuration."""

    config: Any
    """``peft.LoraConfig``, with the layers listed one by one, and the modules that were trained whole."""
    tensors: Mapping[str, torch.Tensor]
    """On the CPU."""

    @classmethod
    def of(cls, model: Any, base: Pretrained) -> Adapter:
        """Of a model with adapters, as it is now.

        Args:
            base: The model that it was made from, pinned.

        Raises:
            RecipeError: a parameter that is trained whole belongs to no module, which peft cannot save.
        """
        trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        whole = [name for name in trained if not is_of_adapter(name)]
        if loose := [name for name in whole if "." not in name]:
            raise RecipeError(
                f"model.lora.save_adapter: peft saves modules, and {loose[0]} is a parameter of the model itself.",
                fix="Leave model.lora.save_adapter at False: the package holds the merged weights.",
            )
        inner = "" if model.base_model is model else f"{model.base_model_prefix}."
        modules = {_module_of(name, inner=inner) for name in whole}
        adapted = {name.partition(".lora_")[0] for name in trained if is_of_adapter(name)}
        config = copy.deepcopy(config_of(model))
        config.target_modules = sorted(adapted)
        config.modules_to_save = sorted(modules) or None
        config.task_type = next((kind for end, kind in _KINDS.items() if type(model).__name__.endswith(end)), None)
        # A folder of this machine means nothing on another one, and may name its user.
        name = Path(base.name).expanduser()
        config.base_model_name_or_path = name.name if name.is_absolute() else base.name
        config.revision = base.revision
        config.inference_mode = True
        tensors = {
            f"base_model.model.{name.replace(f'.{ADAPTER}', '') if is_of_adapter(name) else name}": tensor
            for name, tensor in trained.items()
        }
        return cls(config, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})

    def write(self, folder: Path) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors``."""
        from safetensors.torch import save_file

        folder.mkdir()
        self.config.save_pretrained(folder)
        save_file(dict(self.tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _module_of(parameter: str, *, inner: str) -> str:
    """The module that peft saves for a parameter: the whole head, or inside of the encoder the module that has it."""
    in_encoder = bool(inner) and parameter.startswith(inner)
    return parameter.rpartition(".")[0] if in_encoder or not inner else parameter.partition(".")[0]


def load_with_peft(folder: Path, base: Pretrained, task: Task, *, say: Callable[[str], None]) -> Any:
    """The base as transformers loads it, in few bits if it was, with an adapter folder put on it by peft alone; on the CPU, to
    evaluate.

    torch's generator is left as it was: what is drawn here is replaced by the folder's.
    """
    import peft
    import torch

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers by an older name
        plain = build_model(replace(base, lora=None), task, say=say)
        if base.lora is not None and base.lora.base_bits is not None:
            whole = json.loads((folder / "adapter_config.json").read_bytes())["modules_to_save"] or ()
            quantise_as_trained(plain, base.lora.base_bits, whole=whole)
        return peft.PeftModel.from_pretrained(plain, str(folder)).get_base_model().eval()
