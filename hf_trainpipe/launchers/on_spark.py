"""Ranks by Spark's TorchDistributor: on this machine in its local mode, on executors as the tasks of a barrier."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import MissingExtra, TrainpipeError
from hf_trainpipe.launchers import rank
from hf_trainpipe.launchers.job import Cluster, Job, extra


class OnSpark(Cluster):
    """Spark at the address of a master (``spark://HOST:7077``, ``yarn``, ``local[2]``), or TorchDistributor's local mode.

    Raises:
        MissingExtra: pyspark or Java is not there.
        TrainpipeError: Spark does not start.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        with extra("spark", needs="pyspark"):
            from pyspark.sql import SparkSession
        if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            raise MissingExtra(
                "launch --on spark needs Java 17 or newer, found none.",
                fix="Install it (apt-get install default-jre-headless), or set JAVA_HOME.",
            )
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # executors on this machine would take another Python
        builder = SparkSession.builder.appName("hf-trainpipe").config("spark.ui.enabled", "false")
        builder = builder.config("spark.ui.showConsoleProgress", "false")
        builder = builder.master(job.address or f"local[{job.ranks}]")
        try:
            self._spark: Any = builder.getOrCreate()
        except Exception as error:  # of Java
            raise TrainpipeError(
                f"launch --on spark: Spark does not start: {str(error)[:300]}", fix="Look at the master's address."
            ) from error
        self._spark.sparkContext.setLogLevel("OFF")

    def __exit__(self, *error: object) -> None:
        self._spark.stop()

    def available(self) -> int:
        if self.job.address is None:
            return self.job.ranks
        return int(self._spark.sparkContext.defaultParallelism)

    def run(self, ranks: int, desk: Path) -> None:
        from pyspark.ml.torch.distributor import TorchDistributor

        logging.getLogger("TorchDistributor").setLevel(logging.ERROR)
        distributor = TorchDistributor(num_processes=ranks, local_mode=self.job.address is None, use_gpu=self.job.gpu)
        try:
            distributor.run(rank.run, *self.given(self.job.environment(), desk))
        except Exception as error:  # of torchrun or of Java; what the ranks left says what was
            if not any(desk.glob("rank-*")):
                raise TrainpipeError(
                    f"launch --on spark: no rank could be started: {str(error)[-800:]}",
                    fix=f"Executors need this project and the folder {self.job.folder}.",
                ) from error
