"""The verb that gives an alias back to who held it before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_trainpipe.cli.parser import Argument, print_result, verb
from hf_trainpipe.cli.promote_verb import ALIAS

if TYPE_CHECKING:
    import argparse


@verb(
    "rollback",
    "give an alias back to the champion before, or show its history",
    ALIAS,
    Argument("--to N", "to the package of this record instead", type=int),
    Argument("--show", "only show who holds it, and what happened to it"),
    "--json",
)
def rollback(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.promotion.alias import open_alias
    from hf_trainpipe.promotion.promote import shown

    alias = open_alias(arguments.alias)
    if arguments.show:
        log = alias.read()
        found = {"alias": str(alias), "turn": log.turn, "records": [one.to_json() for one in log.records]}
        print_result(found, arguments, lambda _: shown(log, alias))
        return 0
    record = alias.roll_back(to=arguments.to)
    told = {"alias": str(alias), **record.to_json()}
    print_result(
        told, arguments, lambda _: f"rolled back {alias} is held by {record.package.name} again: {record.told}"
    )
    return 0
