"""Ranks as tasks of Ray, one a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.launchers import rank
from hf_trainpipe.launchers.job import Cluster, Job, extra, local_ranks, rank_environment


def _host() -> tuple[str, tuple[str, int]]:
    """On a worker: its node, and where the ranks may meet there."""
    import ray

    return ray.get_runtime_context().get_node_id(), rank.free_address()


class OnRay(Cluster):
    """A Ray cluster at an address (``auto``, ``ray://HOST:10001``), or one on this machine.

    The ranks get the bundles of a placement group, so that all of them start or none. Ray prints what they print.

    Raises:
        MissingExtra: the extra ``ray`` is not installed.
        TrainpipeError: Ray does not start, or does not answer.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        with extra("ray", needs="ray"):
            import ray
        self._ray: Any = ray
        own = {"num_cpus": job.ranks, "include_dashboard": False} if job.address is None else {"address": job.address}
        try:
            ray.init(log_to_driver=True, logging_level="ERROR", **own)
        except Exception as error:  # of many kinds
            raise TrainpipeError(
                f"launch --on ray: Ray does not start: {str(error)[:300]}",
                fix="`ray start --head` tells more; an address that runs already is named with --address.",
            ) from error

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def available(self) -> int:
        return int(self._ray.available_resources().get("GPU" if self.job.gpu else "CPU", 0))

    def run(self, ranks: int, desk: Path) -> None:
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        needs = {"CPU": 1.0, **({"GPU": 1.0} if self.job.gpu else {})}
        group = placement_group([needs] * ranks)
        self._ray.get(group.ready())

        def on(number: int, function: Any, *given: Any) -> Any:
            where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
            options = {"num_cpus": 1, "num_gpus": int(self.job.gpu), "max_retries": 0, "scheduling_strategy": where}
            return self._ray.remote(function).options(**options).remote(*given)

        try:
            places = self._ray.get([on(number, _host) for number in range(ranks)])
            running = []
            for number, local in enumerate(local_ranks([host for host, _ in places])):
                environment = rank_environment(self.job, number=number, ranks=ranks, local=local, meet=places[0][1])
                running.append(on(number, rank.run, *self.given(environment, desk)))
            while running:  # a task whose worker died is ready too, with an error; its rank left no code
                _, running = self._ray.wait(running, num_returns=1)
        finally:
            remove_placement_group(group)
