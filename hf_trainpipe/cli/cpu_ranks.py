"""``accelerate launch`` that starts several processes on a CPU; ``hf-trainpipe launch`` runs it.

accelerate's launcher starts only one where it is asked for several on a CPU (``--cpu --num_processes 2``, or a
configuration with ``distributed_type: MULTI_CPU``), and does not say so. Only ``--multi_gpu`` makes ranks; with
ACCELERATE_USE_CPU they compute on the CPU.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

from hf_trainpipe.utils.processes import end_with_parent

FOREIGN = ("use_deepspeed", "use_fsdp", "use_megatron_lm", "multi_gpu", "tpu", "mpirun_hostfile")
"""Options with which accelerate's launcher starts several processes by itself."""


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
    resolved = _resolved(launch_command_parser().parse_args(command))
    if not _are_cpu_ranks(resolved):
        launch_command(arguments)
        return
    resolved.cpu, resolved.multi_gpu = False, True
    if resolved.main_process_port is None and resolved.num_machines <= 1:
        resolved.main_process_port = 0  # any free one
    os.environ["ACCELERATE_USE_CPU"] = "true"
    multi_gpu_launcher(resolved)


def _resolved(arguments: Any) -> Any:
    """The arguments with what a configuration and the machine add; without the warnings, which come again."""
    from accelerate.commands.launch import _validate_launch_command

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return _validate_launch_command(arguments)[0]
    finally:
        logging.disable(before)


def _are_cpu_ranks(resolved: Any) -> bool:
    import torch

    if (resolved.num_processes or 1) < 2 or (not resolved.cpu and any(getattr(resolved, way) for way in FOREIGN)):
        return False
    return bool(resolved.cpu or resolved.use_cpu or not torch.accelerator.is_available())


if __name__ == "__main__":
    end_with_parent()
    main(sys.argv[1:])
