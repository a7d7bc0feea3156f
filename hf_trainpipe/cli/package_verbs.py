"""The verbs that write, verify, serve and push a package."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import BACKENDS, consent_argument, recipe_of, worker_arguments, worker_of
from hf_trainpipe.cli.parser import UsageError, Verb, busy, existing, print_result
from hf_trainpipe.cli.shown import show_package, show_pushed, show_verified
from hf_trainpipe.errors import PackageError

if TYPE_CHECKING:
    import argparse


def _package_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="RUN|PACKAGE", help="a run's folder; with --onnx a package too")
    parser.add_argument("--recipe", metavar="R", help="needed where the recipe file has classes of its own")
    parser.add_argument(
        "--onnx", action="store_true", help="add a model for ONNX Runtime on CPUs, if its answers agree"
    )
    parser.add_argument("--int8", action="store_true", help="with --onnx: one in int8 too, if it scores as well")
    parser.add_argument("--backend", choices=BACKENDS, help="with --onnx: what the handler runs by default; torch")
    consent_argument(parser)
    parser.add_argument("--json", action="store_true")


def _package(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    if (arguments.int8 or arguments.backend) and not arguments.onnx:
        raise UsageError("--int8 and --backend go with --onnx.", fix="Write --onnx --int8.")
    is_run = (path / "run.json").is_file()
    result: dict[str, object] = {"package": str(path)}
    recipe = source = None
    if is_run or not arguments.onnx:
        from hf_trainpipe.training.execute import repackage

        recipe, source = recipe_of(path, arguments.recipe)
        if arguments.onnx:
            from hf_trainpipe.package.onnx_export import require

            require()  # before the long part
        result = {"package": str(repackage(path, recipe=recipe, source=source))}
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
                allow_code=arguments.allow_code or is_run,  # of a run: what was just written from its recipe
            )
    print_result(result, as_json=arguments.json, show=show_package)
    return 0


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", metavar="PACKAGE")
    parser.add_argument("--recorded", metavar="F", help="recorded predictions; those of the run around the package")
    parser.add_argument("--clean", action="store_true", help="in a new environment of its requirements.txt alone")
    parser.add_argument("--environment", metavar="FOLDER", help="with --clean: keep the environment here")
    consent_argument(parser)
    parser.add_argument("--json", action="store_true")


def _verify(arguments: argparse.Namespace) -> int:
    package = existing(arguments.package, "package")
    if arguments.environment and not arguments.clean:
        raise UsageError("--environment goes with --clean.", fix="Write --clean --environment FOLDER.")
    from hf_trainpipe.package.verify import verify, verify_clean

    consent = {"allow_code": arguments.allow_code}
    with busy(f"verifying {package} in a fresh process"):
        if arguments.clean:
            result = verify_clean(package, recorded=arguments.recorded, folder=arguments.environment, **consent)
        else:
            result = verify(package, recorded=arguments.recorded, **consent)
    if other := result["not_run"]:
        named = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        print(
            f"note: {named} in the package are not what this version writes, and were not run: the installed runtime "
            "answered. --allow-code runs them.",
            file=sys.stderr,
        )
    print_result(result, as_json=arguments.json, show=show_verified)
    return 0 if result.get("passed", True) else PackageError.exit_code


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", metavar="PACKAGE")
    parser.add_argument("--host", default="127.0.0.1", help="another than loopback needs HF_TRAINPIPE_TOKEN")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one; 8000 by default")
    parser.add_argument("--max-body", dest="body_bytes", type=int, metavar="BYTES", help="of a request")
    parser.add_argument("--max-inputs", dest="inputs", type=int, metavar="N", help="of a request")
    before = "of a request, before tokenising"
    parser.add_argument("--max-characters", dest="characters", type=int, metavar="N", help=before)
    parser.add_argument("--max-tokens", dest="tokens", type=int, metavar="N", help="of a request")
    parser.add_argument("--queue", type=int, metavar="N", help="inputs that may wait; beyond them 429")
    parser.add_argument("--connections", type=int, metavar="N", help="at a time; for one more an idle one is closed")
    beyond = "seconds for an answer; beyond them 503"
    parser.add_argument("--deadline", dest="deadline_s", type=float, metavar="S", help=beyond)
    parser.add_argument("--batch-tokens", type=int, metavar="N", help="tokens of a batch, padding included")
    parser.add_argument("--access-log", action="store_true", help="a line of JSON a request, without its text")
    parser.add_argument("--json", action="store_true", help="say where it serves in a line of JSON on stdout")
    worker_arguments(parser)


def _serve(arguments: argparse.Namespace) -> int:
    from hf_trainpipe.serve.run import from_environment, require_extra, serve
    from hf_trainpipe.serve.settings import Limits

    require_extra()
    package = existing(arguments.package, "package")
    given = {field.name: getattr(arguments, field.name, None) for field in fields(Limits)}
    settings = from_environment(
        host=arguments.host,
        port=arguments.port,
        limits=Limits(**{name: value for name, value in given.items() if value is not None}),
        batch_tokens=arguments.batch_tokens,
        access_log=arguments.access_log,
    )
    return serve(package, settings, as_json=arguments.json, **worker_of(arguments))


def _push_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="RUN|PACKAGE")
    parser.add_argument("repo", metavar="REPO", nargs="?", help="user/name")
    parser.add_argument("--retry", action="store_true", help="continue the pushes that are not done, instead of REPO")
    parser.add_argument("--public", action="store_true", help="make a new repository public; private by default")
    parser.add_argument("--revision", help="branch to push to")
    parser.add_argument("--tag", default="auto", help="tag of the commit: v1, v2, ... by default; none: no tag")
    parser.add_argument("--pull-request", action="store_true", help="open a pull request instead")
    parser.add_argument("--message", metavar="TEXT", help="first line of the commit")
    parser.add_argument("--json", action="store_true")


def _push(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    if arguments.retry == (arguments.repo is not None):
        raise UsageError(
            "push: expected either a repository or --retry.",
            fix=f"hf-trainpipe push {path} user/name\nhf-trainpipe push {path} --retry",
        )
    from hf_trainpipe.hub.repository import push, retry

    if arguments.retry:
        done = retry(path)
        print_result({"pushed": done}, as_json=arguments.json, show=show_pushed)
        return 0
    result = push(
        path,
        arguments.repo,
        private=not arguments.public,
        revision=arguments.revision,
        tag=None if arguments.tag == "none" else arguments.tag,
        pull_request=arguments.pull_request,
        message=arguments.message,
    )
    print_result(result, as_json=arguments.json, show=show_pushed)
    return 0


PACKAGE_VERBS: dict[str, Verb] = {
    "package": Verb(
        "write the package of a run again; add ONNX models",
        "RUN|PACKAGE [--recipe R] [--onnx [--int8] [--backend B]] [--allow-code] [--json]",
        _package_arguments,
        _package,
    ),
    "verify": Verb(
        "check that a package reproduces its predictions",
        "PACKAGE [--recorded F] [--clean [--environment FOLDER]] [--allow-code] [--json]",
        _verify_arguments,
        _verify,
    ),
    "serve": Verb(
        "answer over HTTP, with a page to try it",
        "PACKAGE [--host H] [--port P] [--max-... N] [--queue N] [--connections N] [--deadline S] [--batch-tokens N]\n"
        "       [--access-log] [--json] [--device D] [--backend B] [--allow-code]",
        _serve_arguments,
        _serve,
    ),
    "push": Verb(
        "push a package to the Hub",
        "RUN|PACKAGE REPO|--retry [--public] [--revision R] [--tag T] [--pull-request] [--message TEXT] [--json]",
        _push_arguments,
        _push,
    ),
}
