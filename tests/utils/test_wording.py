"""Messages in a shell, in Python and in a notebook."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.cli import guarded
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.utils.wording import adapt_message, current_place, messages_shown_in, reads_a_file

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("shell", "python"),
    [
        (
            "continue with it: --allow-change optim.peak_lr",
            'continue with it: RunOptions(allow_change={"optim.peak_lr"})',
        ),
        ("--allow-change seed --allow-change budget.epochs", 'RunOptions(allow_change={"seed", "budget.epochs"})'),
        ("or start another run: --run-dir OTHER", 'or start another run: run_dir="OTHER"'),
        ("Check --run-dir, or leave --resume at auto.", "Check run_dir, or leave resume at auto."),
        ("from the beginning with --resume never.", 'from the beginning with RunOptions(resume="never").'),
        ("expected a run (--resume must), found none", 'expected a run (RunOptions(resume="must")), found none'),
        ("--resume-from hub:user/name@COMMIT", 'RunOptions(resume_from="hub:user/name@COMMIT")'),
        ("Choose with --column NAME --column NAME.", 'Choose with column=("NAME", "NAME").'),
        ("Name the delimiter: --delimiter ';'.", "Name the delimiter: delimiter=';'."),
        ("allow it with --allow-code.", "allow it with allow_code=True."),
        ("`hf-trainpipe push RUN --retry --run-dir x` goes on", "`hf-trainpipe push RUN --retry --run-dir x` goes on"),
        ("longer: --extend --budget.epochs MORE", "longer: RunOptions(extend=True) budget.epochs=MORE"),
        ("a lower --optim.peak-lr helps", "a lower optim.peak_lr helps"),
        ("--output-format csv, --format-x", "--output-format csv, --format-x"),
    ],
)
def test_options_become_arguments(shell: str, python: str) -> None:
    assert adapt_message(shell) == python
    with messages_shown_in("shell"):
        assert adapt_message(shell) == shell
    error = TrainpipeError("wrong", fix=shell)
    assert str(error) == f"wrong\n{python}"
    assert error.fix == shell


def test_a_notebook_has_shell_lines_with_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        pass

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))  # type: ignore[arg-type]
    assert current_place() == "notebook"
    assert adapt_message("`hf-trainpipe push x` sends it") == "`!hf-trainpipe push x` sends it"


def test_a_verb_speaks_to_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        assert current_place() == "shell"
        raise TrainpipeError("wrong", fix="--run-dir OTHER")

    act: Callable[[], int] = action
    assert guarded(act) == 2
    assert capsys.readouterr().err == "error: wrong\n\n  --run-dir OTHER\n"
    assert current_place() == "python"


def test_a_verb_that_reads_a_file_names_its_own_options() -> None:
    text = "Set data.format to one of csv, tsv, or data.quoting='none', or data.delimiter=';'; data.formats and data.extra='ignore' are others."
    with messages_shown_in("shell"):
        assert adapt_message(text) == text
        reads_a_file()
        assert adapt_message(text) == (
            "Set --format to one of csv, tsv, or --quoting none, or --delimiter ';'; data.formats and data.extra='ignore' are others."
        )
    with messages_shown_in("shell"):
        assert adapt_message(text) == text
