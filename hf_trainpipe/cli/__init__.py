"""The command line: ``hf-trainpipe VERB ...``, ``accelerate launch -m hf_trainpipe VERB ...``.

This module dispatches and turns errors into one screen and an exit code (see
:mod:`hf_trainpipe.errors`); the verbs are in :mod:`hf_trainpipe.cli.verbs`. Nothing heavy is
imported before a verb needs it.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.errors import render
from hf_trainpipe.tracking.console import fitted, forms_of_a_verb, tell_error
from hf_trainpipe.utils.gc import postpone_gc, resume_gc
from hf_trainpipe.utils.processes import end_with_parent
from hf_trainpipe.utils.ranks import EXIT_FILE, leave_code
from hf_trainpipe.utils.secrets import scrub
from hf_trainpipe.utils.wording import adapt_message, messages_shown_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_trainpipe.recipe import Recipe

__all__ = ["main", "run"]


def run(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Arguments after the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    from hf_trainpipe.cli.dispatch import dispatch

    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: dispatch(arguments))


def main(recipe: Callable[[], Recipe], argv: Sequence[str] | None = None) -> None:
    """Train with a recipe function: the last line of a recipe file.

        if __name__ == "__main__":
            main(recipe)

    makes ``accelerate launch recipes/sst2.py --seed 3`` the same as
    ``accelerate launch -m hf_trainpipe train recipes/sst2.py --seed 3``.

    Raises:
        SystemExit: with the exit code, unless it is 0.
    """
    from hf_trainpipe.cli.dispatch import train_function
    from hf_trainpipe.utils.user_file import LOADED

    if recipe.__module__.startswith(LOADED):
        # The call is not below `if __name__ == "__main__"`, and a verb is loading the file.
        return
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = guarded(lambda: train_function(recipe, arguments))
    if code:
        raise SystemExit(code)


def guarded(action: Callable[[], int]) -> int:
    """Run an action; errors become text on stderr and an exit code."""
    end_with_parent()
    postpone_gc()
    try:
        with messages_shown_in("shell"), forms_of_a_verb():
            code = _guarded(action)
    finally:
        resume_gc()
    if (file := os.environ.get(EXIT_FILE)) and os.environ.get("LOCAL_RANK", "0") == "0":  # one a launcher
        leave_code(Path(file), code)
    return code


def _guarded(action: Callable[[], int]) -> int:
    try:
        code = action()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader has gone (`| head`). Python flushes stdout once more when it ends: send that to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        message, fix = getattr(error, "message", None), getattr(error, "fix", None)
        if isinstance(message, str) and isinstance(fix, str):
            # A TrainpipeError, or an error of the runtime that travels in packages.
            message, fix = adapt_message(message), adapt_message(fix)
            code = int(getattr(error, "exit_code", 2))
            if not tell_error(message, fix, exit_code=code):
                _say(render(message, fix))
            return code
        print(scrub(traceback.format_exc()), file=sys.stderr)
        print(
            "This is a bug in hf-trainpipe, not in your input. Please report it with the lines above "
            "and the output of `hf-trainpipe doctor`.",
            file=sys.stderr,
        )
        return 1


def _say(text: str) -> None:
    from hf_trainpipe.cli.parser import is_main_process

    if is_main_process():
        print(fitted(text, sys.stderr), file=sys.stderr)
