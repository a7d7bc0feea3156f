"""ingest: files read and cleaned, one after the other or several at once; each text once; splits cut; shards; the manifest.

What a killed ingest has done lies in ``FOLDER/.work``; the same call continues there. The manifest is written last.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_trainpipe.data.shards import FORMAT, MANIFEST, fingerprint, read_manifest
from hf_trainpipe.data.sources import SPLITS, Files
from hf_trainpipe.errors import DataError, MissingExtra, RunLocked
from hf_trainpipe.ingest.cut import cut
from hf_trainpipe.ingest.engines import kept_by_dask, kept_by_duckdb
from hf_trainpipe.ingest.settings import Ingest
from hf_trainpipe.ingest.stage import Origin, Staged, identity, stage
from hf_trainpipe.ingest.written import write
from hf_trainpipe.utils.atomic import TEMPORARY, fsync_tree, write_json
from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.processes import BEGUN_BY, end_with_parent

WORK = ".work"
PROCESS_BYTES = 350 << 20
"""Memory of a process that reads files."""
Say = Callable[[str], Any]


def ingest(settings: Ingest, folder: Path, *, replace: bool = False, working: Say = nullcontext) -> dict[str, Any]:
    """Read, clean and cut the rows of a source into the shards of a folder; the same call continues a killed one.

    Args:
        replace: Write the folder again where it holds other rows; else that is an error.
        working: Around what takes long, with what it is.

    Returns:
        The manifest.

    Raises:
        DataError: with file and line; the folder holds something else.
        RunLocked: another process writes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        origins = _origins(settings)
        asked = {"settings": settings.told(), "origins": list(map(_told, origins))}
        is_known = all(origin.path is not None for origin in origins)  # whether a database changed is not
        _check_folder(folder, asked, replace=replace, is_known=is_known)
        if (folder / MANIFEST).is_file():
            return read_manifest(folder)[0]
        work = folder / WORK
        _same_work(work, asked)
        parts, staged, client = work / "parts", [], None
        with ExitStack() as open_until_end:
            if settings.engine == "dask":
                client = open_until_end.enter_context(_client(settings))
            with working(f"reading {len(origins):,} files"):
                staged = _staged(origins, settings, parts, client)
            files = [parts / f"{origin.number:06d}.parquet" for origin in origins]
            kept = work / "kept"
            if not (work / "kept.done").is_file():
                with working(f"each text once, of {sum(one.rows for one in staged):,} rows"):
                    _find_kept(files, settings, work, kept, client)
                (work / "kept.done").touch()
        with working("writing shards"):
            codes = cut(kept, staged, settings, work / "codes.bin")
            _remove_shards(folder)
            shards, columns, counts, listed = write(
                files, staged, codes, folder, rows_per_shard=settings.rows_per_shard
            )
            splits = {name: sum(shard.rows for shard in shards if shard.split == name) for name in SPLITS}
            _check_splits(splits, settings)
            found = {
                "format": FORMAT,
                "fingerprint": fingerprint(columns, shards),
                "columns": columns,
                "splits": {name: rows for name, rows in splits.items() if rows},
                "read": sum(one.rows for one in staged),
                "dropped": {"rows": {why: count for why, count in counts.items() if count}, "file": listed.file,
                            "sha256": listed.sha256},
                "settings": settings.told(),
                "sources": [{"file": o.file, "split": o.split, "rows": o.rows, "bytes": o.size, "sha256": o.sha256} for o in staged],
                "shards": [shard._asdict() for shard in shards],
            }  # fmt: skip
            fsync_tree(folder)
            write_json(folder / "asked.json", asked)
            write_json(folder / MANIFEST, found)
        shutil.rmtree(work, ignore_errors=True)
        return found


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise RunLocked(
            f"{folder}: another process writes it.", fix="Wait until it is done, or name another folder."
        ) from None


def _origins(settings: Ingest) -> list[Origin]:
    """All files in their order, those of test first; what lies elsewhere is fetched."""
    from hf_trainpipe.data.credentials import shown_address
    from hf_trainpipe.data.readers import expand

    source, found = settings.source, list[Origin]()
    for split, said in settings.given():
        if isinstance(source, Files):
            for path, shown in expand(source.patterns(said), source.folder()):
                if not path.is_file():
                    raise DataError(
                        f"{shown}: expected a file, found {'a folder' if path.is_dir() else 'nothing'}.",
                        fix=f"Name files, or a pattern such as '{shown.rstrip('/')}/*.csv'.",
                        file=shown,
                    )
                found.append(Origin(len(found), split, shown, path, source.reading(split, path, shown)))
        else:
            (query,) = said
            shown = shown_address(source.url)  # type: ignore[attr-defined]
            found.append(Origin(len(found), split, f"{shown} {split}", None, None, query))
    return found


def _told(origin: Origin) -> list[Any]:
    """What decides about the rows of a file, and which file it is."""
    options = None if origin.options is None else asdict(origin.options)
    return [origin.shown, origin.split, *identity(origin), origin.query, options]


def _check_folder(folder: Path, asked: dict[str, Any], *, replace: bool, is_known: bool) -> None:
    """A folder that is complete stays as it is, unless it was made of something else and may be replaced."""
    if (folder / MANIFEST).is_file():
        try:
            before = json.loads((folder / "asked.json").read_bytes())
        except (OSError, ValueError):
            before = None
        if before == json.loads(json.dumps(asked)) and (is_known or not replace):
            return
        if not replace:
            raise DataError(
                f"{folder}: it holds what another ingest wrote: other files, changed ones, or other settings.",
                fix="Name another folder, or write this one again with --replace.",
                file=str(folder),
            )
        (folder / MANIFEST).unlink()
        return
    known = {WORK, ".lock", "asked.json", "dropped.parquet"}
    others = sorted(path.name for path in folder.iterdir() if path.name not in known and not _is_ours(path.name))
    if others:
        raise DataError(
            f"{folder}: expected a new folder, found {listed(others, 5)} in it.",
            fix="Name a folder of its own: nothing is overwritten.",
            file=str(folder),
        )


def _is_ours(name: str) -> bool:
    return name.startswith(TEMPORARY) or (name.endswith(".parquet") and name.startswith(tuple(f"{s}-" for s in SPLITS)))


def _remove_shards(folder: Path) -> None:
    """What an earlier, killed call wrote."""
    for path in folder.iterdir():
        if path.is_file() and _is_ours(path.name):
            path.unlink()


def _same_work(work: Path, asked: dict[str, Any]) -> None:
    """Keep what was done for the same files and settings; begin anew for others."""
    told = json.loads(json.dumps(asked))
    try:
        if json.loads((work / "asked.json").read_bytes()) == told:
            return
    except (OSError, ValueError):
        pass
    shutil.rmtree(work, ignore_errors=True)
    (work / "parts").mkdir(parents=True)
    write_json(work / "asked.json", told, durable=False)


def _staged(origins: Sequence[Origin], settings: Ingest, parts: Path, client: Any) -> list[Staged]:
    """What is known of every file; those whose rows are not there yet are read."""
    found = {origin.number: _record(origin, parts) for origin in origins}
    missing = [origin for origin in origins if found[origin.number] is None]
    if client is not None:
        made = client.gather(client.map(stage, missing, settings=settings, folder=parts.absolute(), pure=False))
    else:
        count = settings.processes or min(len(os.sched_getaffinity(0)), max(1, settings.memory // PROCESS_BYTES - 1))
        made = _in_processes(missing, settings, parts, min(count, len(missing)))
    found.update(zip((origin.number for origin in missing), made, strict=True))
    return [one for one in found.values() if one is not None]


def _record(origin: Origin, parts: Path) -> Staged | None:
    """The record of a file whose rows are there."""
    try:
        staged = Staged(**json.loads((parts / f"{origin.number:06d}.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return staged if (parts / f"{origin.number:06d}.parquet").is_file() else None


def _in_processes(origins: Sequence[Origin], settings: Ingest, parts: Path, count: int) -> list[Staged]:
    if count <= 1:
        return [stage(origin, settings, parts) for origin in origins]
    context = multiprocessing.get_context("spawn")  # Arrow has threads
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        jobs = [pool.submit(stage, origin, settings, parts) for origin in origins]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin(parent: int) -> None:
    """A process that reads files ends with the one that began it."""
    os.environ[BEGUN_BY] = str(parent)
    end_with_parent()


@contextmanager
def _client(settings: Ingest) -> Iterator[Any]:
    """The cluster that was named, or one of this machine's processes."""
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra(f"engine dask needs Dask: {error}.", fix="pip install 'hf-trainpipe[dask]'") from None
    logging.getLogger("distributed.shuffle").setLevel(logging.ERROR)  # each shuffle is a warning there
    if settings.cluster is not None:
        try:
            client = distributed.Client(settings.cluster, timeout=30)
        except (OSError, ValueError) as error:
            raise DataError(
                f"ingest.cluster: {settings.cluster}: no scheduler answers: {error}.", fix="Start one: dask scheduler."
            ) from None
        with client:
            yield client
        return
    count = settings.processes or len(os.sched_getaffinity(0))
    with (
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=settings.memory // count,
            dashboard_address="127.0.0.1:0",  # of what its scheduler serves beside a dashboard; 8787 may be another's
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def _find_kept(files: Sequence[Path], settings: Ingest, work: Path, kept: Path, client: Any) -> None:
    import pyarrow

    pyarrow.default_memory_pool().release_unused()
    temporary = work / "engine"
    for folder in (kept, temporary):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    if settings.engine == "dask":
        kept_by_dask([file.absolute() for file in files], settings, kept.absolute(), client)
    else:
        kept_by_duckdb(files, settings, kept, temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def _check_splits(splits: dict[str, int], settings: Ingest) -> None:
    asked = {split for split, _ in settings.given()} | set(settings.fractions())
    for name in sorted(asked, key=SPLITS.index):
        if not splits[name]:
            raise DataError(
                f"split {name!r}: no row is left of it.",
                fix="Choose another fraction or seed, add rows, or drop less: --min-chars, --max-chars, --unique.",
            )
