"""The verbs that write, verify, serve and push a package."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import ANSWERER, recipe_of, worker_of
from hf_trainpipe.cli.parser import Argument, UsageError, busy, existing, print_result, taken, verb
from hf_trainpipe.cli.shown import show_package, show_pushed, show_verified
from hf_trainpipe.cli.study_options import CROSSVAL
from hf_trainpipe.errors import PackageError
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.serve.following import Follow


@verb(
    "package",
    "write the package of a run again; add models for ONNX Runtime or TensorFlow",
    Argument("RUN|PACKAGE", "a run's folder; with --onnx or --tensorflow a package too", dest="path"),
    "--recipe R",
    Argument("--onnx", "add a model for ONNX Runtime on CPUs, if its answers agree"),
    Argument("--int8", "with --onnx: one in int8 too, if it scores as well"),
    Argument("--backend torch|onnx|onnx-int8", "with --onnx: what the handler runs by default; torch"),
    Argument("--tensorflow", "add a SavedModel, written in an environment of its own, if its answers agree"),
    CROSSVAL,
    Argument("--litert", "with --tensorflow: a file for LiteRT too, a signature for each of some lengths"),
    "--allow-code",
    "--json",
)
def package(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    if (arguments.int8 or arguments.backend) and not arguments.onnx:
        raise UsageError("--int8 and --backend go with --onnx.", fix="Write --onnx --int8.")
    if arguments.litert and not arguments.tensorflow:
        raise UsageError("--litert goes with --tensorflow.", fix="Write --tensorflow --litert.")
    is_run = (path / "run.json").is_file()
    if arguments.crossval is not None and not is_run:
        raise UsageError(
            f"package: --crossval belongs to a run, and {path} is a package.",
            fix="Name the folder of its run: what is chosen is scored again.",
        )
    if is_run:
        keep_models(path, arguments)
    result: dict[str, object] = {"package": str(path)}
    recipe = source = None
    allow_code = arguments.allow_code or is_run  # of a run: what was just written from its recipe
    if is_run or not (arguments.onnx or arguments.tensorflow):
        from hf_trainpipe.training.execute import repackage

        recipe, source = recipe_of(path, arguments.recipe)
        if arguments.onnx or arguments.tensorflow:  # before the long part
            from hf_trainpipe.package.onnx_export import require

            require()
        if arguments.tensorflow:
            from hf_trainpipe.package.saved_model.environment import find

            find()
        result = {"package": str(repackage(path, recipe=recipe, source=source, crossval=arguments.crossval))}
    elif arguments.int8:
        recipe, source = recipe_of(path, arguments.recipe)
    if arguments.onnx:
        from hf_trainpipe.package.onnx import add
        from hf_trainpipe.utils.resources import use_paths_of_run

        with busy("writing ONNX models and comparing their answers"), use_paths_of_run(path, source):
            result = add(
                str(result["package"]),
                int8=arguments.int8,
                recipe=recipe,
                default=arguments.backend,
                allow_code=allow_code,
            )
    if arguments.tensorflow:
        from hf_trainpipe.package.saved_model.add import add as add_saved_model

        with busy("writing a SavedModel and comparing its answers"):
            result |= add_saved_model(str(result["package"]), litert=arguments.litert, allow_code=allow_code)
    print_result(result, arguments, show_package)
    return 0


def keep_models(run: Path, arguments: argparse.Namespace) -> None:
    """Ask for the further models of a run's package too, since it is written again before some are added; where none are, say
    what is not written again."""
    from hf_trainpipe.package.further_models import models_in
    from hf_trainpipe.package.layout import find_package, read_manifest

    try:
        manifest = read_manifest(find_package(run))
    except PackageError:  # there is none yet, or one that is written again because of that
        return
    there = models_in(manifest)
    if arguments.onnx or arguments.tensorflow:
        for name in there:
            setattr(arguments, name, True)
        if arguments.backend is None and arguments.onnx:
            arguments.backend = manifest["backend"]
    elif there:
        options = " ".join(f"--{name}" for name in there)
        print(f"note: models that the package had are not written again; hf-trainpipe package {run} {options} adds them",
              file=sys.stderr)  # fmt: skip


@verb(
    "verify",
    "check that a package reproduces its predictions",
    "PACKAGE",
    Argument("--recorded F", "recorded predictions; those of the run around the package"),
    Argument("--clean", "in a new environment of its requirements.txt alone"),
    Argument("--environment FOLDER", "with --clean: keep the environment here"),
    "--allow-code",
    "--json",
)
def verify(arguments: argparse.Namespace) -> int:
    package = existing(arguments.package, "package")
    if arguments.environment and not arguments.clean:
        raise UsageError("--environment goes with --clean.", fix="Write --clean --environment FOLDER.")
    from hf_trainpipe.package.verify import verify, verify_clean

    chosen = taken(arguments, "recorded", "allow_code")
    with busy(f"verifying {package} in a fresh process"):
        if arguments.clean:
            result = verify_clean(package, folder=arguments.environment, **chosen)
        else:
            result = verify(package, **chosen)
    if other := result["not_run"]:
        print(
            f"note: {listed(other, 3)} in the package are not what this version writes, and were not run: the installed runtime "
            "answered. --allow-code runs them.",
            file=sys.stderr,
        )
    print_result(result, arguments, show_verified)
    return 0 if result.get("passed", True) else PackageError.exit_code


@verb(
    "serve",
    "answer over HTTP, with a page to try it; of an alias whatever holds it",
    Argument(
        "PACKAGE|ALIAS", "the folder of a package or a run; an alias is followed (docs/promote.md)", dest="package"
    ),
    Argument("--host H", "another than loopback needs HF_TRAINPIPE_TOKEN", default="127.0.0.1"),
    Argument("--port P", "0: any free one; 8000 by default", type=int, default=8000),
    Argument("--max-body BYTES", "of a request", dest="body_bytes", type=int),
    Argument("--max-inputs N", "of a request", dest="inputs", type=int),
    Argument("--max-characters N", "of a request, before tokenising", dest="characters", type=int),
    Argument("--max-tokens N", "of a request", dest="tokens", type=int),
    Argument("--queue N", "inputs that may wait; beyond them 429", type=int),
    Argument("--connections N", "at a time; for one more an idle one is closed", type=int),
    Argument("--deadline S", "seconds for an answer; beyond them 503", dest="deadline_s", type=float),
    Argument("--batch-tokens N", "tokens of a batch, padding included", type=int),
    Argument("--watch FOLDER", "tell drifts of the texts by /metrics; the folder keeps numbers of them", type=Path),
    Argument("--watch-share SHARE", "of the texts that are measured; 0.1 by default", type=float, default=0.1),
    Argument("--watch-texts", "keep the texts that moved an alarm, in that folder"),
    Argument("--access-log", "a line of JSON a request, without its text"),
    Argument("--every S", "seconds between two looks at an alias", default=5.0, type=float),
    Argument("--json", "say where it serves in a line of JSON on stdout"),
    *ANSWERER,
)
def serve(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.serve.run import from_environment, require_extra, serve
    from hf_trainpipe.serve.settings import Limits, Watching

    require_extra()
    follow = _followed(arguments)
    package = None if follow is not None else existing(arguments.package, "package")
    limits = taken(arguments, *(field.name for field in fields(Limits) if field.name in arguments))
    settings = from_environment(
        limits=Limits(**{name: value for name, value in limits.items() if value is not None}),
        watching=None
        if arguments.watch is None
        else Watching(folder=arguments.watch, share=arguments.watch_share, keeps_texts=arguments.watch_texts),
        **taken(arguments, "host", "port", "batch_tokens", "access_log"),
    )
    return serve(package, settings, as_json=arguments.json, follow=follow, **worker_of(arguments))


def _followed(arguments: argparse.Namespace) -> Follow | None:
    """The alias that is named in place of a package."""
    from hf_trainpipe.promotion.alias import is_alias, open_alias
    from hf_trainpipe.serve.following import Follow

    if not is_alias(arguments.package):
        return None
    if not arguments.every > 0:
        raise UsageError(
            f"serve: --every: expected seconds above 0, found {arguments.every:g}.", fix="Write --every 5."
        )
    alias = open_alias(arguments.package)
    return Follow(name=str(alias), turn=lambda: alias.read().turn, current=alias.current, every_s=arguments.every)


@verb(
    "push",
    "push a package to the Hub",
    Argument("RUN|PACKAGE", dest="path"),
    Argument("[REPO]", "user/name"),
    Argument("--retry", "continue the pushes that are not done, instead of REPO"),
    Argument("--public", "make a new repository public; private by default"),
    Argument("--revision R", "branch to push to"),
    Argument("--tag T", "tag of the commit: v1, v2, ... by default; none: no tag", default="auto"),
    Argument("--pull-request", "open a pull request instead"),
    Argument("--message TEXT", "first line of the commit"),
    "--json",
)
def push(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    if arguments.retry == (arguments.repo is not None):
        raise UsageError(
            "push: expected either a repository or --retry.",
            fix=f"hf-trainpipe push {path} user/name\nhf-trainpipe push {path} --retry",
        )
    from hf_trainpipe.hub.repository import push, retry

    if arguments.retry:
        with busy("pushing what waits"):
            pushed = retry(path)
        print_result({"pushed": pushed}, arguments, show_pushed)
        return 0
    with busy(f"pushing {path} to {arguments.repo}"):
        result = push(
            path,
            arguments.repo,
            private=not arguments.public,
            tag=None if arguments.tag == "none" else arguments.tag,
            **taken(arguments, "revision", "pull_request", "message"),
        )
    print_result(result, arguments, show_pushed)
    return 0
