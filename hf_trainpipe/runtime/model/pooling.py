"""One vector of a text from those of its tokens, and encoders with a linear layer over it.

An encoder of transformers comes with a head of its own: of BERT a layer and a tanh over the first token, which pretraining hardly
uses. What an encoder knows of a text often lies in the mean of its tokens instead, where similarity was trained, say. The models
here are transformers' encoder, a dropout and one linear layer; everything that works on transformers' models works on them.

Two texts may be read apart, as such models were trained: each has its vector, and the linear layer reads :func:`compared`.

Legend: B features of a batch, L tokens of the longest, H size of a vector, C outputs.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch

Pooling = Literal["cls", "mean", "max"]
POOLINGS: tuple[Pooling, ...] = ("cls", "mean", "max")

OF_CONFIG = "classifier_pooling"
"""Field of the configurations whose own heads pool as they are told (ModernBERT), by the same names."""
_DROPOUTS = ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob", "dropout", "resid_pdrop")
"""Fields of configurations that say the dropout of a head, the first that is there; its own before the encoder's."""


def pooled(hidden_BLH: torch.Tensor, mask_BL: torch.Tensor | None, pooling: Pooling) -> torch.Tensor:
    """[B, H]: of each feature the vector of its first token, or the mean or the largest numbers of those of its tokens.

    Padding counts for nothing; where there is no token, mean and max are 0.

    Args:
        hidden_BLH: Padding on the right.
        mask_BL: 1 where there is a token, else 0; None: everywhere.
    """
    if pooling == "cls":
        return hidden_BLH[:, 0]
    if mask_BL is None:
        mask_BL = hidden_BLH.new_ones(hidden_BLH.shape[:2])
    mask_BL = mask_BL.to(hidden_BLH.dtype)
    if pooling == "mean":
        return (hidden_BLH * mask_BL[:, :, None]).sum(dim=1) / mask_BL.sum(dim=1, keepdim=True).clamp(min=1.0)
    # Below every number of a token, and far from infinite: a feature without tokens has a gradient of 0, not of NaN.
    largest_BH = (hidden_BLH - (1.0 - mask_BL[:, :, None]) * 1e9).amax(dim=1)
    return largest_BH * mask_BL.amax(dim=1, keepdim=True)


def compared(first_BH: torch.Tensor, second_BH: torch.Tensor) -> torch.Tensor:
    """[B, 4 H]: two vectors, their absolute difference and their product, each vector at the length of the square root of H: the
    mean of the product is then their cosine, and the four are of one size."""
    import torch

    size = first_BH.shape[1] ** 0.5
    first_BH, second_BH = (size * torch.nn.functional.normalize(side, dim=1) for side in (first_BH, second_BH))
    return torch.cat([first_BH, second_BH, (first_BH - second_BH).abs(), first_BH * second_BH], dim=1)


class AutoModelWithPooling:
    """Loads an encoder with a linear layer over a pooled vector, as ``AutoModelForSequenceClassification`` loads one with its own
    head. Where that head pools as it is told, it is that one: the files are then those of plain transformers."""

    pooling: ClassVar[Pooling]
    apart: ClassVar[bool] = False
    """Whether it reads two texts, each by itself."""

    @classmethod
    def from_pretrained(cls, name: str, *, config: Any = None, **options: Any) -> Any:
        """The model of a folder or of the Hub; arguments as transformers'."""
        from transformers import AutoConfig

        if config is None:
            loading = ("local_files_only", "trust_remote_code", "revision")
            config = AutoConfig.from_pretrained(name, **{key: options[key] for key in loading if key in options})
        model_class = cls._class_of(config, trust_remote_code=bool(options.get("trust_remote_code")))
        if model_class.__module__ != "transformers.models.auto.modeling_auto":
            options.pop("trust_remote_code", None)  # the class is known already
        return model_class.from_pretrained(name, config=config, **options)

    @classmethod
    def from_config(cls, config: Any, *, trust_remote_code: bool = False) -> Any:
        """The model with weights that are newly drawn."""
        model_class = cls._class_of(config, trust_remote_code=trust_remote_code)
        if model_class.__module__ == "transformers.models.auto.modeling_auto":
            return model_class.from_config(config, trust_remote_code=trust_remote_code)
        return model_class._from_config(config)

    @classmethod
    def _class_of(cls, config: Any, *, trust_remote_code: bool) -> Any:
        import torch
        from transformers import AutoModel, AutoModelForSequenceClassification

        if not cls.apart and cls.pooling in ("cls", "mean") and hasattr(config, OF_CONFIG):
            setattr(config, OF_CONFIG, cls.pooling)
            return AutoModelForSequenceClassification
        if getattr(config, "is_encoder_decoder", False):
            raise RecipeError(
                f"task.pooling: a {config.model_type} has a decoder, whose own head reads its last token; found {cls.pooling!r}.",
                fix="Leave task.pooling out, or name a model that is an encoder alone.",
            )
        with torch.device("meta"):
            encoder: Any = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
        return with_pooling(type(encoder), cls.pooling, apart=cls.apart)  # type: ignore[arg-type]


class AutoModelWithClsPooling(AutoModelWithPooling):
    pooling = "cls"


class AutoModelWithMeanPooling(AutoModelWithPooling):
    pooling = "mean"


class AutoModelWithMaxPooling(AutoModelWithPooling):
    pooling = "max"


AUTO: dict[str, type[AutoModelWithPooling]] = {
    kind.pooling: kind for kind in (AutoModelWithClsPooling, AutoModelWithMeanPooling, AutoModelWithMaxPooling)
}
"""The loader of each way to pool."""
APART: dict[str, type[AutoModelWithPooling]] = {
    pooling: type(f"{kind.__name__}OfPairs", (kind,), {"apart": True}) for pooling, kind in AUTO.items()
}
"""The same for two texts that are read apart."""


@cache
def with_pooling(encoder: type[Any], pooling: Pooling, *, apart: bool = False) -> type[Any]:
    """The class of an encoder with a linear layer over its pooled vector, such as ``BertForMeanPooling`` of ``BertModel``; of two
    vectors ``BertForMeanPoolingOfPairs``, which reads a text beside itself where it gets no second one.

    Its weights are ``PREFIX.*``, as in all of the architecture's models, and ``head.weight`` and ``head.bias``: names that no head of
    transformers has, so that nothing takes them for its own.
    """
    import torch
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    family: Any = next(cls for cls in encoder.__mro__[1:] if issubclass(cls, PreTrainedModel))
    prefix: str = encoder.base_model_prefix
    options = {"add_pooling_layer": False} if _takes(encoder.__init__, "add_pooling_layer") else {}

    types = _takes(encoder.forward, "token_type_ids")

    def __init__(self: Any, config: Any) -> None:
        family.__init__(self, config)
        self.num_labels = config.num_labels
        setattr(self, prefix, encoder(config, **options))
        self.dropout = torch.nn.Dropout(_dropout_of(config))
        size = config.get_text_config().hidden_size
        self.head = torch.nn.Linear(4 * size if apart else size, config.num_labels)
        self.post_init()

    def vector(self: Any, ids: torch.Tensor, mask: torch.Tensor | None, **inputs: Any) -> torch.Tensor:
        hidden_BLH = getattr(self, prefix)(input_ids=ids, attention_mask=mask, **inputs)[0].float()
        return pooled(hidden_BLH, mask, pooling)

    def logits(self: Any, read: torch.Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.head(self.dropout(read)))

    def with_types(
        self: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        return logits(self, vector(self, input_ids, attention_mask, token_type_ids=token_type_ids))

    def without_types(
        self: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        return logits(self, vector(self, input_ids, attention_mask))

    def of_pairs(
        self: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pair_input_ids: torch.Tensor | None = None,
        pair_attention_mask: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        first_BH = vector(self, input_ids, attention_mask)
        second_BH = first_BH if pair_input_ids is None else vector(self, pair_input_ids, pair_attention_mask)
        return logits(self, compared(first_BH, second_BH))

    name = f"{encoder.__name__.removesuffix('Model')}For{pooling.capitalize()}Pooling{'OfPairs' if apart else ''}"
    forward = of_pairs if apart else with_types if types else without_types
    # In the architecture's module: transformers looks there whether its attention may be replaced.
    return type(name, (family,), {"__init__": __init__, "forward": forward, "__module__": encoder.__module__})


def _takes(function: Any, name: str) -> bool:
    return name in inspect.signature(function).parameters


def _dropout_of(config: Any) -> float:
    found = (getattr(config, name, None) for name in _DROPOUTS)
    return float(next((share for share in found if isinstance(share, float | int)), 0.0))
