"""Data sets of the Hub: pinned to a commit at first use, then read from the cache without network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.utils.brief import first_line
from hf_trainpipe.utils.cache import COMMIT, pin, pinned
from hf_trainpipe.utils.hub_errors import FINAL, is_hub_error, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset, IterableDataset

    from hf_trainpipe.data.sources import HubData

TIMEOUT_SECONDS = 5.0


def pinned_commit(repo: str, *, config: str | None, revision: str | None) -> str:
    """The commit of a revision: itself, the pinned one, the Hub's, or the cached one.

    Raises:
        DataError: the Hub knows no such repository or revision, or cannot be reached with nothing cached.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    key = f"{repo}@{revision or 'main'}"
    if (known := pinned(key)) is not None:
        return known
    commit = _ask_hub(repo, config=config, revision=revision)
    pin(key, commit)
    return commit


def _ask_hub(repo: str, *, config: str | None, revision: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(repo, revision=revision, timeout=TIMEOUT_SECONDS).sha
    except Exception as error:
        if not is_hub_error(error):
            raise
        refused = unreachable(repo, error, revision=revision)
        if refused.data["reason"] in FINAL:
            raise refused from None
        # Without an answer of the Hub: the newest cached commit.
        found = None if revision not in (None, "main") else cached_folder(repo, config=config, commit=None)
        if found is None:
            raise refused from None
        return found.name
    assert commit is not None
    return str(commit)


def unreachable(repo: str, error: Exception, *, revision: str | None = None) -> DataError:
    """The error of a data set that is neither available from the Hub nor cached, with the reason."""
    reason = reason_of(error, repo=repo, revision=revision, kind="data set")
    field = "data.revision" if reason.kind == "no-revision" else "data.repo"
    fix = reason.fix.replace(
        "name a folder made by save_pretrained.", "use files of your own: data=Files(train='train.csv', ...)."
    )
    if reason.kind in ("network", "offline", "timeout"):
        fix += "\nOr fill the cache: run once on a machine with network and HF_HOME on a shared folder."
    return DataError(f"{field}: {repo!r} cannot be loaded: {reason.said}.", fix=fix, reason=reason.kind)


def cached_folder(repo: str, *, config: str | None, commit: str | None) -> Path | None:
    """The folder of prepared Arrow files in the cache of ``datasets``: cache/user___name/config/version/commit."""
    from datasets import config as settings
    from datasets.naming import camelcase_to_snakecase

    *owner, name = repo.split("/")
    base = Path(settings.HF_DATASETS_CACHE) / "___".join([*owner, camelcase_to_snakecase(name)])
    if not base.is_dir():
        return None
    configs = {entry.name for entry in base.iterdir() if entry.is_dir()}
    chosen = config or ("default" if "default" in configs or len(configs) != 1 else next(iter(configs)))
    prepared = [
        info.parent
        for info in base.glob(f"{chosen}/*/*/dataset_info.json")
        if (commit is None and COMMIT.fullmatch(info.parent.name)) or info.parent.name == commit
    ]
    return max(prepared, key=lambda folder: (folder.stat().st_mtime, folder.name), default=None)


def cached_commit(repo: str, *, config: str | None, revision: str | None) -> str | None:
    """The commit that training would use without a network, if it is cached, else None."""
    commit = revision if revision and COMMIT.fullmatch(revision) else pinned(f"{repo}@{revision or 'main'}")
    if commit is None and revision not in (None, "main"):
        return None
    folder = cached_folder(repo, config=config, commit=commit)
    return None if folder is None else folder.name


def load_hub(data: HubData, wanted: Mapping[str, str], *, commit: str) -> dict[str, Dataset]:
    """Load splits at a commit.

    Args:
        data: Whether rows are streamed instead of downloaded, and the most rows of each split.
        wanted: Our name of a split to the Hub's, which may be sliced: ``train[:1000]``.

    Raises:
        DataError: not reachable and not cached; no such configuration; no such split.
    """
    repo, take = data.repo, data.take
    folder = None if data.streaming else cached_folder(repo, config=data.config, commit=commit)
    if folder is not None:
        from datasets import Dataset, DatasetInfo
        from datasets.arrow_reader import ArrowReader

        info = DatasetInfo.from_directory(str(folder))
        _check_splits(repo, wanted, list(info.splits))
        reader = ArrowReader(str(folder), info)
        loaded = {
            split: Dataset(**{"info": info, **reader.read(info.dataset_name, name, info.splits.values())})
            for split, name in wanted.items()
        }
    else:
        builder = _builder(repo, config=data.config, commit=commit)
        if data.streaming:
            loaded = _stream(data, builder, wanted)
        else:
            try:
                builder.download_and_prepare()
            except Exception as error:
                if not is_hub_error(error):
                    raise
                raise unreachable(repo, error) from None
            _check_splits(repo, wanted, list(builder.info.splits))
            loaded = {split: builder.as_dataset(split=name) for split, name in wanted.items()}
    return {
        split: dataset if take is None or len(dataset) <= take else dataset.select(range(take))
        for split, dataset in loaded.items()
    }


def _builder(repo: str, *, config: str | None, commit: str) -> Any:
    from datasets import DownloadConfig, load_dataset_builder

    try:
        builder = load_dataset_builder(repo, config, revision=commit, download_config=DownloadConfig(max_retries=1))
    except ValueError as error:
        if "BuilderConfig" in str(error) or "Config name is missing" in str(error):
            raise DataError(
                f"data.config: {repo!r} has no configuration {config!r}. {first_line(error)}",
                fix="Set data.config to one of these.",
            ) from None
        raise
    except Exception as error:
        if not is_hub_error(error):
            raise
        raise unreachable(repo, error) from None
    if builder.hash != commit:
        raise DataError(
            f"data.repo: expected commit {commit} of {repo!r}, and the Hub cannot be reached; "
            f"the cache has {builder.hash}.",
            fix=f"Connect to the network, or set data.revision={builder.hash!r}.",
        )
    return builder


def _check_splits(repo: str, wanted: Mapping[str, str], known: list[str]) -> None:
    for split, said in wanted.items():
        for name in re.findall(r"(?:^|\+)\s*([^\[+]+)", said):
            if name not in known:
                raise DataError(
                    f"data.{split}: {repo!r} has no split {name!r}. There are: {', '.join(known)}.",
                    fix=f"Set data.{split} to one of these, or to a fraction of train such as 0.1."
                    f"{closest(name, known)}",
                )


def _stream(data: HubData, builder: Any, wanted: Mapping[str, str]) -> dict[str, Dataset]:
    from datasets import Dataset

    streams = builder.as_streaming_dataset()
    _check_splits(data.repo, wanted, list(streams))
    result = {}
    for split, name in wanted.items():
        most = data.window if data.take is None and split == "train" else data.take
        stream = streams[name] if most is None else streams[name].take(most)
        rows = list(stream)
        if not rows:
            raise DataError(f"data.{split}: {data.repo!r} gave no rows.", fix="Check the split on the data set's page.")
        result[split] = Dataset.from_list(rows, features=stream.features)
    return result


def open_stream(repo: str, split: str, *, config: str | None, commit: str) -> IterableDataset:
    """A split as a stream, from its first row."""
    streams = _builder(repo, config=config, commit=commit).as_streaming_dataset()
    stream: IterableDataset = streams[split]
    return stream
