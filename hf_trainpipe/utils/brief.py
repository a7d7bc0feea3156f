"""What messages say of something long; the runtime, which travels without this folder, has it."""

from __future__ import annotations

from hf_trainpipe.runtime.brief import first_line as first_line
from hf_trainpipe.runtime.brief import listed as listed
from hf_trainpipe.runtime.brief import one_line as one_line
