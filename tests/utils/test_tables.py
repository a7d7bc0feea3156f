from __future__ import annotations

from hf_trainpipe.utils.tables import Table, facts, html, table


def test_columns_fit_the_width() -> None:
    rows = [["1", "a long text that does not fit " * 5, "0.5"], ["12", "short", "-"]]
    lines = table(["row", "text", "score"], rows, width=40).splitlines()

    assert all(len(line) <= 40 for line in lines)
    assert lines[1].startswith("  1  a long text")
    assert "…" in lines[1]
    assert lines[2].startswith(" 12  short")


def test_wide_characters_and_line_ends_keep_columns_straight() -> None:
    first, second, third = table(["text", "n"], [["日本語", "1"], ["a\nb\x1b[31m", "2"]]).splitlines()
    assert (first, second, third) == ("text      n", "日本語    1", "a b [31m  2")


def test_a_table_in_parts_has_one_head() -> None:
    part = Table(["name", "n"], width=30)
    assert list(part.lines([["a" * 10, "1"]])) == ["name        n", "aaaaaaaaaa  1"]
    assert list(part.lines([["b" * 20, "2"]])) == ["bbbbbbbbb…  2"]


def test_long_facts_go_on_below() -> None:
    assert facts([("a", "one two three four five six"), ("long", 3)], width=26) == (
        "a     one two three four\n      five six\nlong  3"
    )


def test_html_is_escaped() -> None:
    assert "<td>&lt;b&gt;</td>" in html(["x"], [["<b>"]])
