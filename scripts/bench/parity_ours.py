"""One training of this project for parity.py, in its own process, with the chosen dropout and head.

    python scripts/bench/parity_ours.py --dropout torch --head trainer -- train recipes/stsb.py:files --seed 3 ...

What follows ``--`` is the command line of hf-trainpipe.

    --dropout fast      masks as the project draws them on a CPU
    --dropout torch     masks by torch.nn.Dropout and by torch's own generator, also in attention
    --head own          the head that the project draws from the seed
    --head trainer      the head that transformers.Trainer begins with at this seed: the same numbers for the same labels
"""

from __future__ import annotations

import argparse
import sys
from typing import Any


def use_torch_dropout() -> None:
    from hf_trainpipe.engine.cpu import dropout

    dropout.use_fast_dropout = lambda model: None


def use_trainers_head(sorted_names: list[str]) -> None:
    """Draw the head as ``set_seed(seed)`` and ``from_pretrained`` do, and put its rows in the order of our labels."""
    import torch
    import transformers

    from hf_trainpipe.training import run

    seed_everything, build_model = run.seed_everything, run.build_model

    def seed(*key: int) -> None:
        seed_everything(*key)
        if key[1:] == run.HEAD:
            transformers.set_seed(key[0])

    def build(model: Any, task: Any, **options: Any) -> Any:
        built = build_model(model, task, **options)
        if names := task.label_names:
            assert sorted(names) == sorted_names, (names, sorted_names)
            order = torch.tensor([sorted_names.index(name) for name in names])
            with torch.no_grad():
                for parameter in built.classifier.parameters():
                    parameter.copy_(parameter[order].clone())
        return built

    run.seed_everything, run.build_model = seed, build


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dropout", choices=("fast", "torch"), default="fast")
    parser.add_argument("--head", choices=("own", "trainer"), default="own")
    parser.add_argument("--labels", default="", help="the labels as the other side orders them, separated by commas")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.dropout == "torch":
        use_torch_dropout()
    if options.head == "trainer":
        use_trainers_head([name for name in options.labels.split(",") if name])
    from hf_trainpipe.cli import run
    from hf_trainpipe.training import export

    # The package is not asked again in a process of its own: that changes no score and takes a fifth of the time.
    export.verify = lambda package, **_: {}
    return run(options.command[1:])


if __name__ == "__main__":
    sys.exit(main())
