"""The log of an alias: who holds it, who lost a race, what a roll-back restores. No package is read."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hf_trainpipe.errors import DataError
from hf_trainpipe.promotion.alias import Alias, Held, Log, Record, is_alias, open_alias
from hf_trainpipe.promotion.folder_store import FolderStore


def held(name: str) -> Held:
    return Held(digest=name * 8, reference=f"packages/{name}", name=name)


def takes(alias: Alias, name: str, *, seen: int | None = None) -> Record:
    """What ``promote`` writes: promoted, unless the champion is another one than was seen."""

    def make(log: Log) -> Record:
        kind = "promoted" if seen in (None, log.turn) else "raced"
        return Record(number=0, kind=kind, package=held(name), over=log.turn or None, test="t", key=f"{name} {seen}")

    return alias.append(make)


def test_of_racing_promotions_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    aliases = [open_alias(str(tmp_path / "reviews")) for _ in range(8)]
    takes(aliases[0], "first")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda pair: takes(pair[1], f"c{pair[0]}", seen=1), enumerate(aliases)))
    assert sorted(one.number for one in made) == list(range(2, 10)), "each has a number of its own"
    assert [one.kind for one in made].count("promoted") == 1
    log = aliases[3].read()
    assert log.turn == next(one.number for one in made if one.kind == "promoted")
    assert len(log.gates("t")) == 9, "whoever lost has used the test rows too"
    pointer = json.loads((tmp_path / "reviews" / "alias.json").read_text())
    assert pointer["champion"]["record"] == log.turn, "what others look at follows the log"


def test_rolling_back_goes_to_the_champion_before_and_not_to_what_was_rolled_back(tmp_path: Path) -> None:
    alias = open_alias(str(tmp_path / "reviews"))
    for name in "abc":
        takes(alias, name)
    assert alias.roll_back().package.name == "b"
    assert alias.roll_back().package.name == "a", "c is what was rolled back"
    with pytest.raises(DataError, match="found nothing before"):
        alias.roll_back()
    assert alias.roll_back(to=3).package.name == "c"
    assert [one.kind for one in alias.read().records[3:]] == ["rolled back"] * 3
    with pytest.raises(DataError, match="found record 9"):
        alias.roll_back(to=9)
    (tmp_path / "reviews" / "log" / "000002.json").unlink()
    with pytest.raises(DataError, match="without a gap, found 1, 3, 4, 5, 6"):
        alias.read()


def test_a_roll_back_does_not_undo_a_promotion_that_it_did_not_see(tmp_path: Path) -> None:
    alias = open_alias(str(tmp_path / "reviews"))
    for name in "ab":
        takes(alias, name)

    class Late(FolderStore):
        """Somebody else promotes between the look and the record."""

        def append(self, number: int, record: object) -> bool:
            takes(alias, "c")
            return False

    with pytest.raises(DataError, match="changed hands meanwhile: record 3 holds it now, not 2"):
        Alias(Late(tmp_path / "reviews")).roll_back()
    assert alias.read().champion.package.name == "c"  # type: ignore[union-attr]


def test_other_folders_and_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(DataError, match="found other files in it"):
        open_alias(str(tmp_path / "run"))
    assert not is_alias(str(tmp_path / "run"))
    assert is_alias("hub:user/reviews")
    alias = open_alias(str(tmp_path / "reviews"))
    with pytest.raises(DataError, match="nobody holds this alias yet"):
        alias.current()
    takes(alias, "a")
    assert is_alias(str(tmp_path / "reviews"))
    with pytest.raises(DataError, match="names packages/a, which is not there"):
        alias.current()
    record = tmp_path / "reviews" / "log" / "000001.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "package": 3}))
    with pytest.raises(DataError, match="record 1: expected a record of an alias"):
        alias.read()


def test_a_refused_challenger_is_one_until_the_next_record() -> None:
    first = Record(number=1, kind="promoted", package=held("a"))
    refused = replace(first, number=2, kind="refused", package=held("b"))
    assert Log((first, refused)).challenger is refused
    assert Log((first, refused)).champion is first
    assert Log((first, refused, replace(refused, number=3, kind="promoted"))).challenger is None
