"""Ranks on the workers of a Dask cluster: one task a rank, held to one worker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.launchers import rank
from hf_trainpipe.launchers.job import Cluster, Job, extra, local_ranks, rank_environment

CONNECT_SECONDS = 30
"""What a scheduler may take to answer."""


class OnDask(Cluster):
    """A Dask cluster at an address, or one of as many processes as ranks on this machine.

    Raises:
        MissingExtra: the extra ``dask`` is not installed.
        TrainpipeError: nothing answers at the address.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        with extra("dask", needs="dask and distributed"):
            from distributed import Client, LocalCluster
        self._own: Any = None
        if job.address is None:
            self._own = LocalCluster(
                n_workers=job.ranks,
                threads_per_worker=1,
                memory_limit=0,
                silence_logs=50,
                dashboard_address="127.0.0.1:0",  # what its scheduler serves beside a dashboard; 8787 may be another's
                scheduler_kwargs={"dashboard": False},
            )
        try:
            self._client: Any = Client(self._own or job.address, set_as_default=False, timeout=CONNECT_SECONDS)
        except OSError as error:
            raise TrainpipeError(
                f"launch --on dask: no scheduler answers at {job.address}: {error}.",
                fix="Name one that runs: dask scheduler prints its address.",
            ) from error

    def __exit__(self, *error: object) -> None:
        self._client.close()
        if self._own is not None:
            self._own.close()

    def available(self) -> int:
        if self._own is not None and not self._workers():  # a nanny is starting them again
            self._client.wait_for_workers(1)
        return len(self._workers())

    def _workers(self) -> dict[str, str]:
        """Host of each worker, by its address. ``Client.scheduler_info`` would not do: what a client asks every two seconds, without the
        workers, may take the place of what it was asked for."""
        from distributed.comm import get_address_host

        return {address: str(get_address_host(address)) for address in sorted(self._client.nthreads())}

    def run(self, ranks: int, desk: Path) -> None:
        hosts = dict(list(self._workers().items())[:ranks])
        held = {"allow_other_workers": False, "pure": False, "retries": 0}
        meet = self._client.submit(rank.free_address, workers=[next(iter(hosts))], **held).result()
        running = {}
        for number, (address, local) in enumerate(zip(hosts, local_ranks(list(hosts.values())), strict=True)):
            environment = rank_environment(self.job, number=number, ranks=ranks, local=local, meet=meet)
            given = self.given(environment, desk)
            tells = number == 0 and self._own is None  # else it prints where this process does
            running[address] = self._client.submit(rank.run, *given, tells=tells, workers=[address], **held)
        while running:
            time.sleep(rank.POLL_SECONDS)
            there = self._workers()
            for address, future in list(running.items()):
                if future.status == "error":
                    raise TrainpipeError(
                        f"launch --on dask: the worker {address} could not start its rank: {future.exception()!r}.",
                        fix=f"Workers need this project and the folder {self.job.folder}.",
                    )
                if future.done() or address not in there:
                    future.cancel()
                    del running[address]
