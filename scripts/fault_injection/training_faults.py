"""Rows of slow ranks, changed numbers of ranks, bad losses, and out of memory: 21 to 23, 25 to 27."""

from __future__ import annotations

import re
import signal

from .lab import Lab
from .process import Ended, expect

EXAMPLES = 200


def _find(pattern: str, done: Ended) -> str:
    found = re.search(pattern, done.stderr)
    expect(found, f"exit {done.code} and no line {pattern!r}: {done.last}")
    assert found is not None
    return found.group()


def rank_slow(lab: Lab) -> str:
    """Row 21."""
    done = lab.train(lab.name("slow"), ranks=2, FAULT="sleep", ON="1")
    expect(done.code == 0, f"exit {done.code}: {done.last}")
    return f"exit 0; '{_find(r'warning: rank 1 is slow[^;,]*', done)}'"


def ranks_change(lab: Lab) -> str:
    """Row 22: stopped on one rank, stopped on two, completed on one."""
    run = lab.name("ranks")
    for ranks, step in ((1, 7), (2, 15)):
        process = lab.start(run, ranks=ranks, start="verb", PACE="60", HF_TRAINPIPE_TRACE="1")
        process.wait_for_output(rf"step +{step}/")
        process.send(signal.SIGTERM)
        done = process.end(timeout=60)
        expect(done.code == 75, f"{ranks} rank(s): exit {done.code}: {done.last}")
        # A batch may be traced without being trained on; the next attempt traces it again.
        _keep_trace(lab, run, ranks, lab.steps(run)[-1])
    done = lab.train(run, HF_TRAINPIPE_TRACE="1")
    expect(done.code == 0, f"exit {done.code}: {done.last}")
    ours, theirs = lab.examples(run), lab.examples(lab.uninterrupted())
    differing = [step for step in theirs if ours.get(step) != theirs[step]]
    expect(not differing and ours.keys() == theirs.keys(), f"steps with other examples: {differing}")
    half = len(ours) // 2
    for steps in (range(1, half + 1), range(half + 1, 2 * half + 1)):
        ids = sorted(one for step in steps for one in ours[step])
        expect(ids == list(range(EXAMPLES)), "not every example once in an epoch")
    return f"all {len(ours)} steps have the examples of one rank; each of {EXAMPLES} once an epoch"


def _keep_trace(lab: Lab, run: str, ranks: int, last: int) -> None:
    for rank in range(ranks):
        file = lab.folder / run / f"trace-rank{rank}.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if int(re.findall(r'"step": (\d+)', line)[0]) <= last))


def indivisible(lab: Lab) -> str:
    """Row 23: 15 examples on two ranks are the same examples; one example cannot be shared and is refused."""
    runs = []
    for ranks in (1, 2):
        run = lab.name("odd")
        done = lab.train(run, "--budget.examples-per-step", "15", "--budget.max-steps", "6",
                         ranks=ranks, HF_TRAINPIPE_TRACE="1")  # fmt: skip
        expect(done.code == 0, f"15 examples on {ranks} rank(s): exit {done.code}: {done.last}")
        runs.append(lab.examples(run))
    expect(runs[0] == runs[1], "15 examples a step on two ranks are not those on one")
    run = lab.name("odd")
    done = lab.start(run, "--budget.examples-per-step", "1", ranks=2, start="verb").end()
    expect(done.code == 2, f"1 example on two ranks: exit {done.code}: {done.last}")
    return (
        f"15 on two ranks: same sets as on one; 1 on two ranks: exit 2, '{_find('1 examples cannot be shared', done)}'"
    )


def not_finite(lab: Lab) -> str:
    """Row 25: once, always, on one of two ranks."""
    once = lab.name("nan")
    done = lab.train(once, FAULT="nan", FROM="3", TO="3")
    expect(done.code == 0, f"once: exit {done.code}: {done.last}")
    _find("step 3: the gradient is not finite; no rank updated", done)
    expect(lab.state(once)["updates"] == 25, f"once: {lab.state(once)['updates']} updates")
    always = lab.name("nan")
    done = lab.train(always, FAULT="nan", FROM="6")
    expect(done.code == 4, f"always: exit {done.code}: {done.last}")
    expect(not (lab.folder / always / "package").exists(), "always: a package was written")
    expect(max(lab.steps(always)) <= 8, f"always: checkpoints {lab.steps(always)}")
    pair = lab.name("nan")
    done = lab.train(pair, ranks=2, FAULT="nan", FROM="3", TO="3", ON="1")
    expect(done.code == 0, f"one rank: exit {done.code}: {done.last}")
    _find("step 3: the gradient is not finite; no rank updated", done)
    expect(lab.state(pair)["updates"] == 25, f"one rank: {lab.state(pair)['updates']} updates")
    return "once: step skipped, exit 0; always: exit 4, no package; on rank 1 of 2: skipped on both, exit 0"


def spike(lab: Lab) -> str:
    """Row 26."""
    done = lab.train(lab.name("spike"), FAULT="spike", FROM="12", TO="12")
    expect(done.code == 0, f"exit {done.code}: {done.last}")
    warning = _find(r"warning: step 12: the loss is \d+ times", done)
    return f"exit 0; '{warning}'"


def out_of_memory(lab: Lab) -> str:
    """Row 27: from the 8th step on large micro-batches do not fit; alone, and on one of two ranks."""
    seen = []
    for ranks, on in ((1, "0"), (2, "1")):
        run = lab.name("memory")
        done = lab.train(run, ranks=ranks, FAULT="oom", FROM="8", FITS="100", ON=on, HF_TRAINPIPE_TRACE="1")
        expect(done.code == 0, f"{ranks} rank(s): exit {done.code}: {done.last}")
        expect(lab.state(run)["updates"] == 26, f"{lab.state(run)['updates']} updates")
        expect(lab.examples(run) == lab.examples(lab.uninterrupted()), "other examples than without the fault")
        _find("step 8: out of memory", done)
        seen.append(f"{ranks} rank(s): {lab.state(run)['micro_batch_tokens']} tokens a micro-batch at the end")
    return f"{'; '.join(seen)}; exit 0, same examples at every step"
