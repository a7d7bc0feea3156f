"""Processes that need not import torch once more: forked from one that has, for tests whose point is not the start.

A fresh interpreter takes four seconds of a core to import what a training needs, and the suite begins some four hundred.
:func:`start` begins two processes that import it once and wait: one as bare as the export gate's (it has not seen
hf_trainpipe), and one with the whole of hf_trainpipe. :class:`Popen` is ``subprocess.Popen``, except that

    python -m hf_trainpipe VERB ...      is forked from the second (``launch``, whose workers are its children, is not)
    python -m hf_trainpipe serve ...     is forked from the first
    python -m accelerate.commands.launch is forked from the second, and so are its workers
    python -m tests.training.X ...       is forked from the second, and so is tests.tracking.X
    python scripts/bench/X.py ...        is forked from the second
    python -I -B .../probe.py ...        is forked from the first
    python -X warm [-I] [-B] -c CODE     is forked from the first (of itself, Python does not know the option and does without)

with the arguments, environment, directory, cores and files of the process that it stands for. It is a process of its own
all the same: it can be killed, has its own id, and leaves by its own exit code. Everything else, and whatever asks for an
environment that libraries read while they are imported, begins as always. Tests of the start itself ask for the fixture
``real_processes``.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[1]
BENCHMARKS = str(REPOSITORY / "scripts/bench") + os.sep
SERVERS = BENCHMARKS + "serve"
LAUNCH = "accelerate.commands.launch"
OF_TESTS = ("tests.training.", "tests.tracking.")
LIBRARIES = (
    "torch", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert", "transformers.models.bert.tokenization_bert",
)  # fmt: skip
TRAINING = (
    "accelerate", "datasets", "pandas", "torch.distributed", "hf_trainpipe", "matplotlib.figure", "matplotlib.backends.backend_svg",
    "scipy.special", "jinja2",
)  # fmt: skip
LEFT_OUT = ("hf_trainpipe.serve", "hf_trainpipe.package.probe", "hf_trainpipe.tracking.mlflow_model")
READ_AT_IMPORT = ("OMP_", "MKL_")
"""Beginnings of names of the environment that a process which has imported torch cannot heed any more."""
READ_AT_IMPORT_OF_ALL = (
    *READ_AT_IMPORT, "PYTHON", "OPENBLAS_", "CUDA_", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "HOME", "XDG_", "HF_HOME", "HF_HUB",
    "HF_ENDPOINT", "HF_DATASETS", "HF_TOKEN", "TRANSFORMERS_", "TORCH_", "PYTORCH_",
)  # fmt: skip
HEEDED = (
    "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "HF_DATASETS_CACHE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_TOKEN",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING",
)  # fmt: skip
"""Names of that kind that a forked process heeds, or that change no result."""
VARIABLE = "HF_TRAINPIPE_TESTS_WARM"
SECONDS = "HF_TRAINPIPE_TESTS_SECONDS"
"""Names a file, if set, to which each forked process adds its seconds of a core: in its own code, in the system's."""
_BARE, _WHOLE = "bare", "whole"
_waiting: list[tuple[dict[str, str], dict[str, str]]] = []
"""Pairs of waiting processes: name to the path of its socket, and the environment that they have. None: all begin as always."""
_Plain: Any = subprocess.Popen


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Begin a process that waits, with sockets in ``folder``, and imports when it is first asked.

    It ends when the pipe to this process is closed. The processes of this one's tests find it by the environment.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process, places = _begin(folder, environment)
    os.environ[VARIABLE] = json.dumps({"places": places, "environment": environment})
    return process


@contextlib.contextmanager
def waits_with(environment: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile this process's tests begin those with such an environment warm, too: one that libraries read at their import."""
    if not _waiting:
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    process, places = _begin(folder, environment)
    _waiting.append((places, dict(environment)))
    try:
        yield
    finally:
        _waiting.remove((places, dict(environment)))
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        shutil.rmtree(folder)


def _begin(folder: Path, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    places = {kind: str(folder / kind) for kind in (_BARE, _WHOLE)}
    listeners = {kind: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for kind in places}
    for kind, listener in listeners.items():
        listener.bind(places[kind])
        listener.listen(64)
    files = [listener.fileno() for listener in listeners.values()]
    process = _Plain(
        [sys.executable, "-I", "-B", str(Path(__file__).resolve()), json.dumps(places), *map(str, files)],
        env=environment, cwd=folder, stdin=subprocess.PIPE, pass_fds=files, start_new_session=True,
    )  # fmt: skip
    for listener in listeners.values():
        listener.close()
    return process, places


def join() -> None:
    """From now on processes begin warm in this one, where :func:`start` was called here or by who began it."""
    if told := json.loads(os.environ.get(VARIABLE, "{}")):
        _waiting.append((told["places"], told["environment"]))
    subprocess.Popen = Popen  # type: ignore[misc]


def waits() -> bool:
    """Whether there is a process to fork from."""
    return bool(_waiting)


def differs() -> list[str]:
    """Names of the environment that keep this process's children from beginning warm: a library set them when it was imported."""
    if not _waiting:
        return []
    mine, its = (
        _read(found, READ_AT_IMPORT_OF_ALL) for found in ({**os.environ, "HF_HUB_OFFLINE": "1"}, _waiting[0][1])
    )
    return sorted(name for name in {*mine, *its} if mine.get(name) != its.get(name))


class Popen(_Plain):  # type: ignore[misc]
    """``subprocess.Popen`` that forks a waiting process where one stands for the command."""

    _status: socket.socket | None = None

    def _execute_child(self, *positional: Any) -> None:
        names = list(inspect.signature(_Plain._execute_child).parameters)[1:]
        asked = dict(zip(names, positional, strict=True))
        found = _stands_for(asked)
        if found is None:
            super()._execute_child(*positional)
            return
        place, request = found
        ends = ("p2cread", "c2pwrite", "errwrite")
        files = [number if asked[name] == -1 else asked[name] for number, name in enumerate(ends)] + request["pass_fds"]
        body = json.dumps(request).encode()
        try:
            self._status = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._status.connect(place)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            self._status.sendmsg([len(body).to_bytes(4, "big")], rights)
            self._status.sendall(body)
            self.pid = int.from_bytes(_receive(self._status, 4), "big")
            self._child_created = True
        finally:
            pipes = (*ends[:1], "p2cwrite", "c2pread", *ends[1:2], "errread", *ends[2:])
            self._close_pipe_fds(*(asked[name] for name in pipes))

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(wait_flags)  # type: ignore[no-any-return]
        if wait_flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        try:
            found = int.from_bytes(_receive(self._status, 4), "big")
        except (EOFError, OSError):
            found = signal.SIGKILL
        self._status.close()
        return self.pid, found

    def _internal_poll(self, *args: Any, **named: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(*args, **named)  # type: ignore[no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                if self.returncode is None:
                    pid, found = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(found)
            finally:
                self._waitpid_lock.release()
        return self.returncode  # type: ignore[no-any-return]


def _stands_for(asked: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The socket of the waiting process that a command is forked from, if any, and what it is asked."""
    args = asked["args"]
    if not _waiting or asked["shell"] or asked["preexec_fn"] or isinstance(args, (str, bytes, os.PathLike)):
        return None
    words = [os.fspath(part) for part in args]
    if words[1:2] == ["-u"]:  # as torch's agent begins the ranks
        del words[1]
    directory, code = os.fspath(asked["cwd"] or os.getcwd()), None
    match words:
        case [sys.executable, "-m", "hf_trainpipe", verb, *_] if verb != "launch":
            kind, argv, path = _BARE if verb == "serve" else _WHOLE, words[2:], directory
        case [sys.executable, "-m", module, *_] if module.startswith(OF_TESTS) or module == LAUNCH:
            kind, argv, path = _WHOLE, words[2:], directory
        case [sys.executable, str(script), *_] if script.startswith(BENCHMARKS) and not script.startswith(SERVERS):
            kind, argv, path = _WHOLE, words[1:], BENCHMARKS.rstrip(os.sep)
        case [sys.executable, "-I", "-B", str(script), *_] if script.endswith("/probe.py"):
            kind, argv, path = _BARE, words[3:], None
        case [sys.executable, "-X", "warm", *flags, "-c", code] if {*flags} <= {"-I", "-B"}:
            kind, argv, path = _BARE, ["-c"], None if "-I" in flags else directory
        case _:
            return None
    environment = dict(os.environ if asked["env"] is None else asked["env"])
    compared = READ_AT_IMPORT if path is None else READ_AT_IMPORT_OF_ALL
    needed = _read(environment, compared)
    place = next((places[kind] for places, has in _waiting if _read(has, compared) == needed), None)
    if place is None:
        return None
    further = environment.get("PYTHONPATH", "").split(os.pathsep)
    return place, {
        "argv": argv,
        "code": code,
        "paths": [] if path is None else [path, *filter(None, further)],
        "cwd": directory,
        "env": environment,
        "warnings": list(filter(None, environment.get("PYTHONWARNINGS", "").split(","))),
        "cores": sorted(os.sched_getaffinity(0)),
        "session": bool(asked["start_new_session"]),
        "pass_fds": list(asked["pass_fds"]),
    }


def _read(environment: Mapping[str, str], beginnings: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(beginnings) and name not in HEEDED}


def main(places: dict[str, str], bare: socket.socket, whole: socket.socket) -> None:
    """The life of both waiting processes."""
    _waiting.append((places, dict(os.environ)))
    if 0 in select.select([bare, whole, 0], [], [])[0]:
        return
    gc.disable()
    subprocess.Popen = Popen  # type: ignore[misc]  before torch's agent, which begins the ranks, takes its name
    import_libraries()
    if os.fork() == 0:
        bare.close()
        _serve_whole(whole)
        os._exit(0)
    whole.close()
    _serve(bare)


def _serve_whole(listener: socket.socket) -> None:
    if 0 in select.select([listener, 0], [], [])[0]:
        return
    sys.path.insert(0, str(REPOSITORY))
    import_training()
    sys.path.remove(str(REPOSITORY))
    _serve(listener)


def import_libraries() -> None:
    """Import what every process of a training needs of others."""
    for name in LIBRARIES:
        importlib.import_module(name)


def import_training() -> None:
    """Import the whole of hf_trainpipe, and what it imports while it trains."""
    for name in TRAINING:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(sys.modules["hf_trainpipe"].__path__, "hf_trainpipe."):
        if not module.name.startswith(LEFT_OUT) and not module.name.endswith(("process", "__main__")):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)


def _serve(listener: socket.socket) -> None:
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors are not waited for
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            os._exit(0)  # who began this is gone
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _monitor(connection)
        connection.close()


def _monitor(connection: socket.socket) -> NoReturn:
    """The parent of one process: tells its id and how it ended. It ends when nobody listens, as a parent would."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_LEN(16 * array.array("i").itemsize))
        files = array.array("i")
        files.frombytes(ancillary[0][2])
        request = json.loads(_receive(connection, int.from_bytes(head, "big")))
        pid = os.fork()
        if pid == 0:
            _become(request, files)
        for file in (0, 1, 2, *files):
            os.close(file)
        connection.sendall(pid.to_bytes(4, "big"))
        alive = os.pidfd_open(pid)
        ready, _, _ = select.select([connection, alive], [], [])
        if alive in ready:
            _, found, used = os.wait4(pid, 0)
            if file := os.environ.get(SECONDS):
                with open(file, "a") as stream:
                    print(f"{used.ru_utime:.2f} {used.ru_stime:.2f}", *request["argv"], file=stream)
            connection.sendall(found.to_bytes(4, "big"))
    finally:
        os._exit(0)


def _become(request: dict[str, Any], files: Sequence[int]) -> NoReturn:
    """Be the process that was asked for."""
    code: Any = 1
    try:
        passed = [fcntl.fcntl(file, fcntl.F_DUPFD, 512) for file in files[3:]]  # out of the way of what is closed
        for number, file in enumerate(files[:3]):
            os.dup2(file, number)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in passed:
                with contextlib.suppress(OSError):  # that of the listing itself
                    os.close(int(name))
        for file, number in zip(passed, request["pass_fds"], strict=True):
            os.dup2(file, number)
            os.close(file)
        if request["session"]:
            os.setsid()
        os.sched_setaffinity(0, request["cores"])
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        gc.enable()
        if cache := request["env"].get("HF_DATASETS_CACHE"):
            sys.modules["datasets"].config.HF_DATASETS_CACHE = Path(cache)
        ends = [io.FileIO(number, mode, closefd=False) for number, mode in enumerate(("r", "w", "w"))]
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(ends[0]), "utf-8", "surrogateescape")
        sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.BufferedWriter(ends[1]), "utf-8", "surrogateescape")
        sys.stderr = sys.__stderr__ = io.TextIOWrapper(
            io.BufferedWriter(ends[2]), "utf-8", "backslashreplace", line_buffering=True
        )
        warnings._processoptions(request["warnings"])  # type: ignore[attr-defined]
        sys.argv = request["argv"]
        sys.path[:0] = request["paths"]
        if request["code"] is not None:
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(request["code"], "<string>", "exec"), vars(sys.modules["__main__"]))
        elif sys.argv[0].endswith(".py"):
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as asked:
        code = asked.code
    except BaseException:
        traceback.print_exc()
    finally:
        if code is None or isinstance(code, int):
            code = code or 0
        else:
            print(code, file=sys.stderr)
            code = 1
        for end in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                end()
        os._exit(code & 255)


def _receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise EOFError
        received += part
    return received


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), *(socket.socket(fileno=int(file)) for file in sys.argv[2:4]))
