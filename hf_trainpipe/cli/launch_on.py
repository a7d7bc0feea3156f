"""``launch --on spark|dask|ray``: the ranks on a cluster's workers (:mod:`hf_trainpipe.launchers`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_trainpipe.cli.parser import Parser, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hf_trainpipe.launchers.job import Cluster

USAGE = "--on spark|dask|ray [--ranks N] [--address A] [--at-least N] [--gpu] RECIPE.py ... | -m hf_trainpipe train RECIPE ..."


def is_asked(command: Sequence[str]) -> bool:
    """Whether the arguments of ``launch`` begin with ``--on``; anything else is accelerate's."""
    return bool(command) and command[0].partition("=")[0] == "--on"


def _parser() -> Parser:
    parser = Parser(prog="hf-trainpipe launch", usage=f"hf-trainpipe launch {USAGE}", allow_abbrev=False)
    parser.add_argument("--on", choices=("spark", "dask", "ray"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--address")
    parser.add_argument("--at-least", type=int)
    parser.add_argument("--gpu", action="store_true")
    return parser


def _split(command: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Our own options, and what follows the interpreter: from ``-m``, or from the first Python file, on."""
    for place, given in enumerate(command):
        if given == "-m" or given.endswith(".py"):
            return list(command[:place]), tuple(command[place:])
    raise UsageError(
        "launch --on: expected RECIPE.py or -m hf_trainpipe train RECIPE, found neither.",
        fix=f"hf-trainpipe launch {USAGE}",
    )


def launch_on(command: Sequence[str]) -> int:
    """Run a command's ranks on a cluster; its exit code.

    Raises:
        UsageError: the arguments are wrong.
        TrainpipeError: the library is not installed, or the cluster does not answer.
        Interrupted: workers were lost; the run can be resumed.
    """
    own, ranks_command = _split(command)
    arguments = _parser().parse_args(own)
    at_least = arguments.ranks if arguments.at_least is None else arguments.at_least
    if not 1 <= at_least <= arguments.ranks:
        raise UsageError(
            f"launch: expected 1 <= --at-least <= --ranks, found --at-least {at_least} and --ranks {arguments.ranks}.",
            fix="Write --ranks 4 --at-least 2.",
        )
    from hf_trainpipe.launchers.job import Job, carry_out

    job = Job(
        command=ranks_command,
        ranks=arguments.ranks,
        at_least=at_least,
        address=arguments.address,
        gpu=arguments.gpu,
    )
    return carry_out(_cluster(arguments)(job))


def _cluster(arguments: argparse.Namespace) -> type[Cluster]:
    if arguments.on == "spark":
        from hf_trainpipe.launchers.on_spark import OnSpark

        return OnSpark
    if arguments.on == "dask":
        from hf_trainpipe.launchers.on_dask import OnDask

        return OnDask
    from hf_trainpipe.launchers.on_ray import OnRay

    return OnRay
