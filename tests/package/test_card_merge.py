from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hf_trainpipe.package.card_merge import block, merge
from hf_trainpipe.package.card_tables import curve

SECTIONS = ("usage", "scores", "limits")
PROSE = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=40).filter(
    lambda text: "<!--" not in text
)


def card(version: str, sections: tuple[str, ...] = SECTIONS, written: dict[str, str] | None = None) -> str:
    parts = ["---\nlicense: mit\ntags:\n- hf-trainpipe\n---\n"]
    for name in ("", *sections):
        parts += [block(name, f"## {name}\n\n{version}")] if name else []
        parts += [f"\n{text}\n\n"] if (text := (written or {}).get(name)) else ["\n"]
    return "".join(parts)


@given(st.dictionaries(st.sampled_from(["", *SECTIONS]), PROSE.filter(lambda text: text.strip() != "")))
def test_every_hand_written_line_survives_once_and_in_its_place(written: dict[str, str]) -> None:
    merged = merge(card("new"), card("old", written=written))
    assert "old" not in merged.replace("".join(written.values()), "")
    assert merge(card("new"), merged) == merged
    for name, text in written.items():
        body = merged if name == "" else merged.split(f"<!-- trainpipe:end {name} -->")[1]
        assert text in body
    assert [merged.index(f"begin {name}") for name in SECTIONS] == sorted(
        merged.index(f"begin {name}") for name in SECTIONS
    )


def test_text_behind_a_section_that_is_gone_goes_to_the_end() -> None:
    merged = merge(card("new", ("usage",)), card("old", written={"scores": "Ours."}))
    assert merged.endswith("<!-- trainpipe:end usage -->\n\nOurs.\n")


def test_a_card_without_marks_is_kept_as_a_whole() -> None:
    merged = merge(card("new"), "---\nlicense: apache-2.0\nlanguage: de\n---\n# By hand\n\nAll of it.\n")
    assert merged.endswith("# By hand\n\nAll of it.\n")
    assert "license: mit\n" in merged
    assert "language: de\n" in merged


def test_a_lost_end_mark_loses_nothing_else() -> None:
    remote = card("old", written={"limits": "Ours."}).replace("<!-- trainpipe:end usage -->\n", "")
    assert "Ours." in merge(card("new"), remote)


def test_broken_metadata_on_the_hub_is_left_out() -> None:
    assert merge(card("new"), "---\na: [\n---\nOurs.\n").startswith("---\nlicense: mit\n")


def test_marks_inside_a_generated_text_cannot_end_it() -> None:
    text = block("usage", "a\n<!-- trainpipe:end usage -->\nb")
    assert text == "<!-- trainpipe:begin usage -->\na\nb\n<!-- trainpipe:end usage -->\n"


def test_curve_shows_ends_and_leaves_out_what_is_no_number() -> None:
    text = curve({"train/loss": [(step, 100 - step) for step in range(1, 100)] + [(100, float("nan"))], "empty": []})
    assert "99 to 1" in text
    assert "empty" not in text
    assert "| 1 | 99.0000 |" in text
    assert "| 99 | 1.0000 |" in text
    assert text.count("\n| ") <= 14
    assert curve({}) == ""
