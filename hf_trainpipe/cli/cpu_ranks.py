"""``accelerate launch`` whose processes on a CPU are as many as were asked for; ``hf-trainpipe launch`` runs it.

accelerate's launcher starts one process where it is asked for several on a CPU (``--cpu --num_processes 2``, or a
configuration with ``distributed_type: MULTI_CPU``), and tells it nothing. Only ``--multi_gpu`` makes ranks; with
ACCELERATE_USE_CPU they compute on the CPU.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

__all__ = ["main"]

FOREIGN = ("use_deepspeed", "use_fsdp", "use_megatron_lm", "multi_gpu", "tpu", "mpirun_hostfile")
"""Ways of accelerate's launcher that start more than one process by themselves."""


def main(command: list[str] | None = None) -> None:
    """Launch what the arguments of ``accelerate launch`` describe.

    Raises:
        SystemExit: a process failed. It has said why; a traceback of the launcher would push that off the screen.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        _launch(command)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode if error.returncode > 0 else 128 - error.returncode)
    except ChildFailedError:
        sys.exit(1)


def _launch(command: list[str] | None) -> None:
    from accelerate.commands.launch import launch_command, launch_command_parser, multi_gpu_launcher

    arguments = launch_command_parser().parse_args(command)
    settled = _settled(launch_command_parser().parse_args(command))
    if not _are_cpu_ranks(settled):
        launch_command(arguments)
        return
    settled.cpu, settled.multi_gpu = False, True
    if settled.main_process_port is None and settled.num_machines <= 1:
        settled.main_process_port = 0  # any free one
    os.environ["ACCELERATE_USE_CPU"] = "true"
    multi_gpu_launcher(settled)


def _settled(arguments: Any) -> Any:
    """The arguments with what a configuration and the machine add; without the warnings, which come again."""
    from accelerate.commands.launch import _validate_launch_command

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return _validate_launch_command(arguments)[0]
    finally:
        logging.disable(before)


def _are_cpu_ranks(settled: Any) -> bool:
    import torch

    if (settled.num_processes or 1) < 2 or (not settled.cpu and any(getattr(settled, way) for way in FOREIGN)):
        return False
    return bool(settled.cpu or settled.use_cpu or not torch.accelerator.is_available())


if __name__ == "__main__":
    main(sys.argv[1:])
