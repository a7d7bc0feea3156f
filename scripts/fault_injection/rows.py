"""The fault matrix, rows 1 to 34: the fault, how it is injected, and the expected result."""

from __future__ import annotations

from . import environment, signals, training_faults
from .row import Check, Row, both, tests

KILLS = "checkpoint/test_kills.py"
STORE = "checkpoint/test_store.py"
LOCK = "checkpoint/test_lock.py"
HUB = "hub/test_repository.py"
SYSTEM_CALLS = f"{KILLS}::test_a_kill_at_any_system_call_leaves_a_valid_checkpoint"
OPERATIONS = f"{KILLS}::test_a_process_that_ends_at_any_file_operation_leaves_a_valid_checkpoint"
REFUSES = f"{KILLS}::test_a_disk_that_refuses_leaves_a_valid_checkpoint"
DAMAGE = f"{STORE}::test_damage_is_found_put_into_quarantine_and_passed_over"


def _row(number: int, fault: str, how: str, expected: str, check: Check) -> Row:
    return Row(number, fault, how, expected, check)


SAVES = [
    _row(1, "kill at every write, fsync, rename, mkdir, unlink of a save", f"strace KILL, audit hook: {KILLS}",
         "old or new checkpoint valid", tests(SYSTEM_CALLS, OPERATIONS)),
    _row(2, "kill between rename and the parent's fsync", f"strace KILL at each fsync and rename: {KILLS}",
         "at least one valid", tests(SYSTEM_CALLS)),
    _row(3, "kill during rotation", f"strace KILL at each unlink, rmdir: {KILLS}", "at least one valid",
         tests(SYSTEM_CALLS, f"{KILLS}::test_a_process_that_ends_twice_is_resumable_as_well")),
    _row(4, "kill -9 at random instants, x20", "SIGKILL to all processes of a run; the same command",
         "bit-identical end", signals.random_kills),
    _row(5, "kill after best and before its save", "SIGKILL when Evaluator.evaluate returns", "best consistent",
         signals.killed_after_best),
    _row(6, "kill twice, also during the resume", "SIGKILL in TrainingLog.log_step, Store.latest, Checkpointing.restore",
         "idempotent", signals.killed_twice),
    _row(7, "disk full", f"strace ENOSPC and a full tmpfs: {KILLS}, {STORE}; a tmpfs filled during a real run",
         "the save is skipped, the run continues",
         both(tests(REFUSES, "-k=ENOSPC"), tests(f"{STORE}::test_a_full_disk_costs_the_new_checkpoint_only"),
              environment.disk_full)),
    _row(8, "EIO on write, fsync, rename", f"strace EIO: {KILLS}; {STORE}", "loud, an old one valid",
         both(tests(REFUSES, "-k=EIO"),
              tests(f"{STORE}::test_failed_saves_are_reported_and_counted_and_the_run_continues"))),
    _row(9, "read-only directory", f"strace EROFS: {KILLS}; a read-only tmpfs: {STORE}, and a real run",
         "fails at the start",
         both(tests(REFUSES, "-k=EROFS"),
              tests(f"{STORE}::test_a_read_only_directory_is_refused_at_the_start_and_can_be_read"),
              environment.read_only)),
]  # fmt: skip

DAMAGED = [
    _row(10, "truncated weights", f"each file cut or grown by a byte: {STORE}", "falls back, says why",
         tests(DAMAGE, "-k=truncated or grown")),
    _row(11, "flipped byte in each file", f"first, middle, last byte: {STORE}", "falls back, says why",
         tests(DAMAGE, "-k=byte")),
    _row(12, "file missing or empty", f"deleted, emptied, a folder, a dangling link: {STORE}", "falls back, says why",
         tests(DAMAGE, "-k=missing or empty or folder or link")),
    _row(13, "manifest corrupt", f"every second byte of it flipped: {STORE}", "quarantine",
         tests(f"{STORE}::test_any_flipped_bit_of_a_manifest_is_found", f"{STORE}::test_none_valid_is_an_error_of_its_own_and_stays_one")),
    _row(14, "manifest of a newer schema, of another run", f"rewritten: {STORE}", "refused",
         tests(f"{STORE}::test_a_newer_schema_is_refused_and_kept",
               f"{STORE}::test_a_checkpoint_of_another_run_is_refused_with_both_names",
               f"{STORE}::test_a_checkpoint_under_the_name_of_another_step_is_damaged")),
]  # fmt: skip

RANKS = [
    _row(15, "SIGTERM at a random step", "to a worker; to hf-trainpipe launch", "exit 75, exact resume",
         signals.stopped_by_signal),
    _row(16, "SIGTERM to one of two ranks", "kill -TERM of rank 1's process", "both save the same step",
         signals.one_of_two),
    _row(17, "SIGUSR1", "to hf-trainpipe launch, two ranks", "forwarded, exit 75, exact resume", signals.user_signal),
    _row(18, "signal during a save, twice", "two SIGTERM when a save's folder appears", "one valid save",
         signals.signal_in_a_save),
    _row(19, "a rank killed", "kill -9 of rank 1, of rank 0", "all end in < 10 s", signals.rank_killed),
    _row(20, "a rank stopped", "SIGSTOP, HF_TRAINPIPE_TIMEOUT=10", "ends inside the timeout, names the rank",
         signals.rank_stopped),
    _row(21, "a rank slow", "rank 1 sleeps 0.2 s a step", "warned of", training_faults.rank_slow),
    _row(22, "ranks 1 -> 2 -> 1", "SIGTERM, then another number of ranks", "same example sets", training_faults.ranks_change),
    _row(23, "indivisible batch", "15 examples, 1 example a step on two ranks", "same sets, or refused",
         training_faults.indivisible),
    _row(24, "two processes, one directory, also an orphan", f"a second train; {LOCK}", "the second exits",
         both(tests(f"{LOCK}::test_an_orphan_is_an_owner_too"), environment.two_owners)),
]  # fmt: skip

NUMBERS = [
    _row(25, "NaN once, always, on one rank", "the loss of micro-batches x NaN", "skipped; stops", training_faults.not_finite),
    _row(26, "spike x100", "the loss of one step x 100", "warned of", training_faults.spike),
    _row(27, "out of memory at step 8", "torch.OutOfMemoryError in loss_sum, on one rank, on one of two",
         "same global batch", training_faults.out_of_memory),
]  # fmt: skip

OUTSIDE = [
    _row(28, "tracker that hangs, answers 500, is slow", "servers and trackers: tracking/test_follower.py, test_neptune.py",
         "the run is not touched, ledger whole (the 1 % is not measured here)",
         tests("tracking/test_follower.py::test_broken_trackers_touch_neither_the_run_nor_each_other",
               "tracking/test_neptune.py::test_a_server_that_goes_away_and_a_run_that_is_resumed")),
    _row(29, "Hub 401, 429, 503, cut in the middle", f"a Hub that misbehaves: {HUB}, hub/test_upload.py", "retried, exit 5, resumable",
         tests("hub/test_upload.py::test_faults_that_pass_are_retried", f"{HUB}::test_refused_token",
               f"{HUB}::test_hub_that_stays_down_leaves_nothing_visible",
               f"{HUB}::test_killed_in_the_middle_and_retried_ends_whole",
               "hub/test_upload.py::test_stopped_at_any_request_it_shows_the_old_model_or_the_new_and_continues",
               "hub/test_upload.py::test_another_push_at_any_request_of_it_stays_whole_as_well",
               "training/test_hub_runs.py::test_a_push_that_fails_does_not_fail_the_run_and_is_retried_later",
               "training/test_hub_runs.py::test_a_hub_that_hangs_does_not_disturb_the_training")),
    _row(30, "crash after logging past the checkpoint", "tracking/test_ledger.py, test_follower.py",
         "no duplicate point",
         tests("tracking/test_ledger.py::test_resume_repeats_the_steps_after_the_checkpoint",
               "tracking/test_ledger.py::test_any_torn_end_is_cut_to_whole_lines",
               "tracking/test_follower.py::test_a_resumed_run_sends_nothing_twice")),
    _row(31, "data content, length or order changed", "train.csv of a killed run edited", "refused with the field",
         environment.data_changed),
    _row(32, "library or commit changed", "another version's metadata on PYTHONPATH; a new commit", "warned of",
         environment.versions_changed),
    _row(33, "clock jumps, equal mtimes", f"times set by hand: {STORE}", "ordered by step",
         tests(f"{STORE}::test_checkpoints_are_ordered_by_step_not_by_time")),
    _row(34, "run directory moved", f"renamed, copied: {STORE}", "works",
         tests(f"{STORE}::test_a_moved_directory_works",
               f"{STORE}::test_a_change_of_the_working_directory_does_not_matter")),
]  # fmt: skip

ROWS = [*SAVES, *DAMAGED, *RANKS, *NUMBERS, *OUTSIDE]
