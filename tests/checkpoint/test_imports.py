from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_checkpoints_can_be_listed_without_torch():
    code = (
        "import sys, hf_trainpipe.checkpoint\n"
        "heavy = {'torch', 'safetensors', 'numpy', 'transformers', 'accelerate', 'datasets'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_nothing_is_pickled():
    package = Path(__file__).parents[2] / "hf_trainpipe" / "checkpoint"
    for path in package.glob("*.py"):
        text = path.read_text()
        for word in ("torch.load", "torch.save", "import pickle", "import joblib", "marshal"):
            assert word not in text, path
