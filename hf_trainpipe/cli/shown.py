"""Results of the verbs for people: short lines and tables that fit the terminal. ``--json`` is for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.tables import facts, table

Found = Mapping[str, Any]


def score_rows(scores: Mapping[str, Found]) -> list[list[str]]:
    """Metric, value, interval and number of examples, a row each."""
    rows = []
    for name, score in scores.items():
        low, high, confidence = score.get("low"), score.get("high"), score.get("confidence") or 0.95
        interval = "" if low is None or high is None else f"{low:.4f} to {high:.4f} ({confidence:.0%})"
        rows.append([name, _number(score.get("value")), interval, f"{score.get('n', 0):,}"])
    return rows


def show_evaluation(found: Found) -> str:
    """Scores with their intervals; of a file also which columns were read and what was left out."""
    lines = []
    if "file" in found:
        lines.append(
            f"{found['file']}: {found['n']:,} of {found['rows']:,} rows scored; "
            f"input {' and '.join(map(repr, found['columns']))}, gold {found['label']!r}"
        )
        lines += [f"left out  {count:,} {reason}" for reason, count in found["left_out"].items()]
        if unknown := found["unknown_labels"]:
            shown = listed([f"{name} ({count:,})" for name, count in unknown.items()], 8)
            lines.append(f"labels that the package does not have: {shown}")
    else:
        lines.append(f"{found['split']}: {found['n']:,} examples")
    if "precision" in found:
        lines.append(f"computed in {found['precision']}")
    return "\n".join([*lines, "", table(["metric", "value", "interval", "n"], score_rows(found["scores"]))])


def show_verified(found: Found) -> str:
    """What was compared, a row a backend."""
    verdict = "passed" if found.get("passed") else "not passed"
    rows = [["torch", *_figures(found)], *([name, *_figures(item)] for name, item in found.get("backends", {}).items())]
    return f"{verdict}, in a fresh process (Python {found.get('python')})\n\n" + table(
        ["backend", "answers compared", "largest difference", "allowed"], rows
    )


def _figures(found: Found) -> list[str]:
    gap, allowed = found.get("max_abs_diff"), found.get("tolerance")
    return [
        f"{found.get('n', 0):,}",
        "-" if gap is None else f"{gap:.1e}",
        "-" if allowed is None else f"{allowed:.1e}",
    ]


def show_package(found: Found) -> str:
    """Where the package is, and the gates of its further backends."""
    lines = [f"package  {found['package']}"]
    if backends := found.get("backends"):
        rows = []
        for name, item in backends.items():
            lost = item.get("points_lost")
            scored = "" if lost is None else f"{item['metric']} {item['value']:.4f}, {lost:+.2f} points lost"
            rows.append([name, *_figures(item), scored])
        lines += ["", table(["backend", "inputs compared", "largest difference", "allowed", "score"], rows)]
    if written := found.get("tensorflow"):
        rows = [
            [name, *_figures(written[name]), f"{written[name]['shapes_max_abs_diff']:.2g}"]
            for name in ("saved_model", "litert")
            if name in written
        ]
        header = ["TensorFlow", "inputs compared", "largest difference", "allowed", "at other shapes"]
        lines += ["", table(header, rows), "Its loader is in the package's README.md."]
    if verified := found.get("verified"):
        lines += ["", show_verified(verified)]
    return "\n".join(lines)


def show_pushed(found: Found) -> str:
    """Where a push went, or each of those that were waiting."""
    if "pushed" in found:
        return "\n\n".join(show_pushed(item) for item in found["pushed"]) or "no push is waiting"
    size = found.get("bytes")
    rows: list[tuple[str, object]] = [
        ("repository", f"{found['repo']}{' (private)' if found.get('private') else ''}"),
        ("state", found.get("state")),
        ("revision", found.get("revision") or "main"),
        ("commit", found.get("commit")),
        ("tag", found.get("tag")),
        ("files", f"{len(found.get('files', ()))}" + ("" if size is None else f", {size / 2**20:,.1f} MiB")),
        ("removed", ", ".join(found.get("removed") or ())),
        ("left out", ", ".join(found.get("left_out") or ())),
        ("url", found.get("url")),
    ]
    return facts((name, value) for name, value in rows if value)


def show_sync(found: Found) -> str:
    """What each tracker was sent."""
    rows = []
    for tracker in found["trackers"]:
        where = tracker["error"] or tracker["address"] or tracker["destination"] or ""
        rows.append([tracker["kind"], f"{tracker['num_sent']:,}", f"{tracker['num_left']:,}", where])
    verdict = "complete" if found["complete"] else "not complete: the same command sends the rest later"
    shown = [table(["tracker", "sent", "left", "where"], rows)] if rows else []
    return "\n".join([*found["messages"], *shown, verdict])


def show_exported(found: Found) -> str:
    """Where the table is."""
    return f"{found['file']}: {found['points']:,} points of {found['names']:,} metrics"


def show_imported(found: Found) -> str:
    """The runs that were made, a row each."""
    rows = [
        [
            run["name"],
            f"{run['points']:,}",
            f"{run['left_out']:,}",
            run["run"] if run["new"] else f"{run['run']} (was there)",
        ]
        for run in found["runs"]
    ]
    first = found["runs"][0]["run"]
    shown = table(["run", "points", "left out", "folder"], rows)
    return f"{shown}\n\nnext  hf-trainpipe track sync {first} --to mlflow"


def show_machine(found: Found) -> str:
    """What ``doctor`` found: the machine, then versions."""
    yes = {True: "yes", False: "no"}
    rows: list[tuple[str, object]] = [
        ("hf_trainpipe", found["hf_trainpipe"]),
        ("python", f"{found['python']} on {found['system']}"),
        ("devices", ", ".join(found["devices"]) or "none: torch cannot be imported"),
        ("cpus", f"{found['cpus']}; torch uses {found['torch_threads']} threads"),
        *(("free space", f"{gib:,.1f} GiB in {folder}") for folder, gib in found["free_gib"].items()),
        ("Hub's cache", f"{found['hub_cache']}{' (offline)' if found['hub_offline'] else ''}"),
        ("HF_TOKEN set", yes[found["hub_token_in_environment"]]),
        ("NEPTUNE_API_TOKEN set", yes[found["neptune_token_in_environment"]]),
        ("spaCy pipelines", ", ".join(f"{n} {v}" for n, v in found["spacy_pipelines"].items()) or "none"),
    ]
    if found["omp_num_threads"] is not None:
        rows.append(("omp_num_threads", found["omp_num_threads"]))
    versions = [[name, version or "not installed"] for name, version in found["versions"].items()]
    return f"{facts(rows)}\n\n{table(['package', 'version'], versions)}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
