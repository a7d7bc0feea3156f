"""Ranks on a cluster: real processes under threads in place of a cluster's workers; Dask's own in one test."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hf_trainpipe.cli.launch_on import launch_on
from hf_trainpipe.cli.parser import UsageError
from hf_trainpipe.errors import Interrupted, TrainpipeError
from hf_trainpipe.launchers import rank
from hf_trainpipe.launchers.job import Cluster, Job, carry_out, rank_environment
from hf_trainpipe.utils.ranks import leave_code, left_code

TELL = "import os; open(f'told-{os.environ[\"RANK\"]}', 'w').write(' '.join(os.environ[n] for n in "
TELL += "('WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'ACCELERATE_USE_CPU')))"


class Threads(Cluster):
    """A worker a thread."""

    workers = 2

    def available(self) -> int:
        return self.workers

    def run(self, ranks: int, desk: Path) -> None:
        with ThreadPoolExecutor(ranks) as pool:
            for number in range(ranks):
                meet = ("127.0.0.1", 1)
                environment = rank_environment(self.job, number=number, ranks=ranks, local=(number, ranks), meet=meet)
                given = (self.job.command, environment, str(self.job.folder), str(desk))
                pool.submit(rank.run, *given, tells=number == 0)


def job(folder: Path, code: str, *, at_least: int = 2) -> Job:
    return Job(command=("-S", "-c", code), ranks=2, at_least=at_least, folder=folder)


def test_each_rank_knows_its_place_and_no_credential_crosses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", "/somewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    given = job(tmp_path, TELL)
    assert carry_out(Threads(given)) == 0
    assert [(tmp_path / f"told-{number}").read_text() for number in (0, 1)] == [
        "2 0 127.0.0.1 true",
        "2 1 127.0.0.1 true",
    ]
    assert not {"HF_TOKEN", "MLFLOW_TRACKING_URI"} & {*given.environment()}
    assert given.environment()["HF_HOME"] == "/somewhere"
    assert not list(tmp_path.glob(".hf-trainpipe-launch-*"))


def test_what_rank_0_prints_comes_here_and_its_exit_code_is_the_launchers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import os, sys; print('said by', os.environ['RANK']); sys.exit(75)"
    assert carry_out(Threads(job(tmp_path, code))) == 75
    assert capsys.readouterr().err == "said by 0\n"


def test_a_rank_that_is_killed_is_lost_and_the_rest_go_on_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os; os.environ['RANK'] == '1' and os.kill(os.getpid(), 9); open('on-' + os.environ['WORLD_SIZE'], 'w')"
    )
    with pytest.raises(Interrupted, match="lost: rank 1 of 2") as ended:
        carry_out(Threads(job(tmp_path, code)))
    assert ended.value.exit_code == 75
    assert not (tmp_path / "on-1").exists()
    assert carry_out(Threads(job(tmp_path, code, at_least=1))) == 0
    assert (tmp_path / "on-1").exists()
    assert "continuing on 1" in capsys.readouterr().err


def test_a_rank_that_waits_for_one_that_failed_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_trainpipe.launchers.job.GRACE_SECONDS", 0.2)
    code = "import os, time; os._exit(2) if os.environ['RANK'] == '1' else time.sleep(60)"
    assert carry_out(Threads(job(tmp_path, code))) == 2
    code = (
        "import os, time; alone = os.environ['WORLD_SIZE'] == '1'\n"
        "os.environ['RANK'] == '1' and os.kill(os.getpid(), 9); alone or time.sleep(60)"
    )
    with pytest.raises(Interrupted, match="lost: rank 1 of 2"):
        carry_out(Threads(job(tmp_path, code)))
    assert carry_out(Threads(job(tmp_path, code, at_least=1))) == 0


def test_a_signal_goes_to_all_ranks(tmp_path: Path) -> None:
    code = (
        "import os, signal, time, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\n"
        "open('ready-' + os.environ['RANK'], 'w').close(); time.sleep(60)"
    )

    def send() -> None:
        while len(list(tmp_path.glob("ready-*"))) < 2:
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    assert carry_out(Threads(job(tmp_path, code))) == 75
    sender.join()


def test_a_code_or_a_signal_that_is_not_whole_yet_says_nothing(tmp_path: Path) -> None:
    code, asked = tmp_path / "rank-0", tmp_path / rank.SIGNALS
    assert left_code(code) is None
    code.touch()  # killed between creating and writing
    assert left_code(code) is None
    leave_code(code, -9)
    assert left_code(code) == -9
    asked.write_text("15\n1")  # of a second 15
    assert rank.signals(tmp_path) == [15]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank-0", "signal"]


def test_too_few_workers_are_said(tmp_path: Path) -> None:
    cluster = Threads(job(tmp_path, TELL))
    cluster.workers = 1
    with pytest.raises(TrainpipeError, match="2 ranks were asked for; the cluster has workers for 1"):
        carry_out(cluster)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["--on", "dask", "--ranks", "2"], "expected RECIPE.py or -m"),
        (["--on", "dask", "--ranks", "2", "--at-least", "3", "r.py"], "expected 1 <= --at-least <= --ranks"),
        (["--on", "slurm", "r.py"], "invalid choice: 'slurm'"),
    ],
)
def test_wrong_options_are_said(command: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        launch_on(command)


def test_dask_holds_each_rank_to_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="dask and distributed are not installed")
    import dask

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tell.py").write_text(TELL)
    often = {"distributed.client.scheduler-info-interval": "1ms"}  # a busy machine meets this at two seconds too
    with dask.config.set(often):
        assert launch_on(["--on", "dask", "--ranks", "2", "tell.py"]) == 0
    assert [(tmp_path / f"told-{number}").read_text().split()[:2] for number in (0, 1)] == [["2", "0"], ["2", "1"]]
    monkeypatch.setattr("hf_trainpipe.launchers.on_dask.CONNECT_SECONDS", 0.5)
    with pytest.raises(TrainpipeError, match="no scheduler answers at tcp:"):
        launch_on(["--on", "dask", "--address", "tcp://127.0.0.1:9", "tell.py"])


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hf_trainpipe.errors import MissingExtra

    for name, module in (("spark", "pyspark.sql"), ("dask", "distributed"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtra) as told:
            launch_on(["--on", name, "recipe.py"])
        assert f".[{name}]" in told.value.fix
