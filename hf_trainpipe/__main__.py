"""``python -m hf_trainpipe`` and ``accelerate launch -m hf_trainpipe``: the command line."""

from __future__ import annotations

import sys

from hf_trainpipe.cli import run

if __name__ == "__main__":
    sys.exit(run())
