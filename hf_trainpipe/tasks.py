"""What a recipe file needs to write a task of its own; the tasks themselves lie in the runtime, which travels."""

from __future__ import annotations

from hf_trainpipe.runtime.tasks import *  # noqa: F403  its __all__ is the list
from hf_trainpipe.runtime.tasks import __all__ as __all__
