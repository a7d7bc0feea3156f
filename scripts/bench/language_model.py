"""B21: a small language model from random weights, compared with a plain loop of torch over the same model.

    python scripts/bench/language_model.py --data-dir ../shared/data

The model, data and steps of recipes/shakespeare.py: GPT-2 of 4 layers, 4 heads, 128 wide, blocks of 64 characters, 12 a step, without
dropout. `ours` is the training loop itself; `plain` draws the same blocks, calls transformers' model with labels, clips and takes an
AdamW step, without logging, checkpoints or a schedule. The first 20 steps are not counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import own_side
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, parse, ratio, spread

SIDES = ("ours", "plain")
UNCOUNTED = 20
RECIPE = Path(__file__).resolve().parents[2] / "recipes/shakespeare.py"


def recipe_of(options: Any) -> Any:
    from hf_trainpipe import Frame, replace
    from hf_trainpipe.recipe_file import load

    recipe = load(f"{RECIPE}:files")[0]
    if options.smoke:
        import pandas

        from hf_trainpipe.testing import tiny_rows

        data: Any = Frame(train=pandas.DataFrame(tiny_rows(200, seed=1))[["text"]], validation=0.1)
    else:
        data = replace(recipe.data, root=str(options.data_dir / "tinyshakespeare"))
    return replace(recipe, data=data, budget=replace(recipe.budget, max_steps=options.steps + UNCOUNTED, epochs=100))


class Clock:
    """Times steps behind the first ones."""

    def __init__(self) -> None:
        self.steps = self.tokens = 0
        self.wall = self.cpu = 0.0

    def step(self, tokens: int) -> None:
        self.steps += 1
        if self.steps == UNCOUNTED:
            self.wall, self.cpu = time.perf_counter(), time.process_time()
        elif self.steps > UNCOUNTED:
            self.tokens += tokens

    def row(self, loss: float) -> Row:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"tokens_per_second": self.tokens / wall, "tokens_per_cpu_second": self.tokens / cpu, "loss": loss}


def measured(options: Any) -> Row:
    """One side, in this process."""
    import torch

    from hf_trainpipe import RunOptions
    from hf_trainpipe.training.loop import train
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import set_up

    clock = Clock()
    with (
        tempfile.TemporaryDirectory() as folder,
        set_up(recipe_of(options), RunOptions(), run_dir=Path(folder) / "run") as found,
    ):
        if options.side == "ours":
            for report in train(Run(found)):
                clock.step(report.tokens)
                loss = float(report.loss_sum) / report.count
            return clock.row(loss)
        from transformers import AutoModelForCausalLM

        run = Run(found)
        model = AutoModelForCausalLM.from_pretrained(found.recipe.model.name, dtype=torch.float32).train()
        optim = found.recipe.optim
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=optim.peak_lr, betas=optim.betas, weight_decay=0.1, fused=True
        )
        stream = found.data.train.features.input
        ids = torch.from_numpy(stream["input_ids"].astype("int64"))
        for step in range(options.steps + UNCOUNTED):
            blocks = [
                slice(int(stream.starts[one]), int(stream.starts[one + 1])) for one in run.feed.order.global_batch(step)
            ]
            size = max(block.stop - block.start for block in blocks)
            rows = torch.stack([ids[block] for block in blocks if block.stop - block.start == size])
            out = model(input_ids=rows, labels=rows, use_cache=False)
            out.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            clock.step(rows.numel())
        return clock.row(out.loss.item())


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    [(case, sides)] = runs.items()
    ratios = {
        f"ours / plain, {name}": ratio(sides, "ours", "plain", key)
        for key, name in (("tokens_per_second", "wall"), ("tokens_per_cpu_second", "CPU"))
    }
    rows = [
        (
            side,
            spread([one["tokens_per_second"] for one in found]).text(",.0f"),
            spread([one["tokens_per_cpu_second"] for one in found]).text(",.0f"),
        )
        for side, found in sides.items()
        if found
    ]
    rows += [(name, said.text(), "") for name, said in ratios.items() if said is not None]
    return ratios, [Table(case, ("side", "tokens/s", "a CPU second"), rows)]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="language-model.json", repeats=3)
    parser.add_argument("--steps", type=int, default=200, help="steps that are counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help="measure this side in this process, and print it")
    options = parse(parser, argv)
    if options.smoke:
        options.steps = 2
    if options.side is not None:
        print(json.dumps(measured(options)))
        return

    def measure(case: str, side: str) -> Row:
        command = [sys.executable, __file__, "--side", side, "--steps", str(options.steps)]
        command += ["--smoke"] if options.smoke else ["--data-dir", str(options.data_dir)]
        return own_side(command, side, threads=options.threads)

    compare(
        options, ["shakespeare"], lambda _: SIDES, measure, summary, benchmark="B21", title="a language model from random weights",
        doc=__doc__, settings={"steps": options.steps, "threads": options.threads},
    )  # fmt: skip


if __name__ == "__main__":
    main()
