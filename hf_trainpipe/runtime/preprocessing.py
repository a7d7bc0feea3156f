"""What a recipe's own steps import: ``from hf_trainpipe.runtime.preprocessing import Edit, Preprocessor``.

Recipe files travel in packages, so this name stays, whatever moves behind it.
"""

from __future__ import annotations

from .text.preprocessing import *  # noqa: F403  its __all__ is the list
from .text.preprocessing import __all__ as __all__
