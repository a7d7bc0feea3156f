"""The verb that tells whether the texts of a log are still like those that a package was tried on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import READING, WORKER, reading, worker_of
from hf_trainpipe.cli.parser import Argument, UsageError, existing, existing_file, print_result, taken, verb
from hf_trainpipe.errors import DRIFTED
from hf_trainpipe.utils.tables import facts, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from hf_trainpipe.watch.watching import Watched

_SHOWN, _LONGEST = 5, 100


@verb(
    "watch",
    "tell whether the texts of a log are still like those that a package was tried on",
    "PACKAGE",
    Argument(
        "--input F", "the log: any file that training reads; - is lines of stdin; without it: where the test stands"
    ),
    Argument("--state FOLDER", "of the test that goes on; watch/ beside the package by default", type=Path),
    Argument("--window N", "texts that are tested at a time; 200 by default", type=int),
    Argument("--false-alarms RATE", "how likely an alarm without a drift may be; 0.05 by default", type=float),
    Argument("--horizon N", "windows that this holds for, all of them together; 365 by default", type=int),
    Argument("--reset", "begin a new test, after an alarm was looked into"),
    Argument("--make-profile", "instead: put a profile of these texts into the package, in place of its own"),
    Argument("--html FILE", "write a page too", type=Path),
    Argument("--mask-texts", "tell how long texts are instead of what they say"),
    *READING,
    *WORKER,
    "--json",
)
def watch(arguments: argparse.Namespace) -> int:
    package = existing(arguments.package, "package")
    if arguments.input not in (None, "-"):
        existing_file(arguments.input, "file")
    if arguments.input is None and (arguments.make_profile or arguments.reset):
        raise UsageError(
            "watch: --make-profile and --reset go with --input.",
            fix=f"hf-trainpipe watch {package} --make-profile --input texts.csv",
        )
    promised = _promised(arguments)
    from hf_trainpipe.data.readers_base import ReadOptions

    options = ReadOptions(**reading(arguments))
    if arguments.make_profile:
        if promised or arguments.reset or arguments.html or arguments.state:
            raise UsageError(
                "watch: --make-profile writes a profile and tests nothing; it does not go with options of the test.",
                fix=f"hf-trainpipe watch {package} --make-profile --input {arguments.input}",
            )
        from hf_trainpipe.watch.packaged import add_profile

        made = add_profile(package, arguments.input, column=arguments.column, reading=options, **worker_of(arguments))
        print_result(made, arguments, _shown_profile)
        return 0
    from hf_trainpipe.watch.watching import watch as look

    found = look(
        package,
        arguments.input,
        promised=promised,
        reading=options,
        **taken(arguments, "state", "reset", "column"),
        **worker_of(arguments),
    )
    if arguments.html is not None:
        from hf_trainpipe.report.page import save
        from hf_trainpipe.watch.page import page

        save(page(found, mask_texts=arguments.mask_texts), arguments.html)
    from hf_trainpipe.watch.told import verdict

    told = {"verdict": verdict(found), **found.to_json()}
    if arguments.mask_texts:
        told["moved"] = [{**one, "text": None} for one in told["moved"]]
    told["html"] = None if arguments.html is None else str(arguments.html)
    print_result(told, arguments, lambda _: _shown(found, page=told["html"], mask_texts=arguments.mask_texts))
    return DRIFTED if found.drifted else 0


def _promised(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was said of windows and false alarms."""
    said = {
        name: value
        for name, value in taken(arguments, "window", "false_alarms", "horizon").items()
        if value is not None
    }
    for name, least in (("window", 20), ("horizon", 1)):
        if name in said and said[name] < least:
            raise UsageError(
                f"watch: --{name}: expected {least} or more, found {said[name]}.", fix=f"Write --{name} {least}."
            )
    if "false_alarms" in said and not 0 < said["false_alarms"] < 1:
        raise UsageError(
            f"watch: --false-alarms: expected a share in (0, 1), found {said['false_alarms']:g}.",
            fix="Write --false-alarms 0.05.",
        )
    return said


def _shown_profile(made: Mapping[str, Any]) -> str:
    about = made["about"]
    rows: list[tuple[str, object]] = [
        ("texts", f"{made['texts']:,} of {made['source']}, measured by {made['backend']}"),
        ("signals", ", ".join(made["signals"])),
        ("tokens", f"{about['tokens']:.1f} a text"),
    ]
    if "confidence" in about:
        rows.append(("confidence", f"{about['confidence']:.3f}"))
    return f"profile written into {made['package']}: numbers, no text\n{facts(rows)}"


def _shown(found: Watched, *, page: str | None, mask_texts: bool) -> str:
    from hf_trainpipe.watch import told

    lines = [told.verdict(found), f"{told.read_line(found)}; state in {found.state}"]
    lines += found.notes
    lines += [f"left out  {count:,} {reason}" for reason, count in found.left_out.items()]
    head = ["signal", "evidence", f"would be seen within 3 windows of {found.windows.promise.window:,}"]
    lines += ["", table(head, told.signal_rows(found)), "", f"{told.promise(found)}."]
    if found.moved and found.drifted:
        lines += ["", "texts that moved it"]
        for name in dict.fromkeys(one.mover.signal for one in found.moved):
            for one in [one for one in found.moved if one.mover.signal == name][:_SHOWN]:
                lines.append(f"  {told.about_text(one)}")
                if one.text is not None and not mask_texts:
                    text = " ".join(one.text.split())
                    lines.append(f"      {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}")
    if page is not None:
        lines += ["", f"page      {page}"]
    return "\n".join(lines)
