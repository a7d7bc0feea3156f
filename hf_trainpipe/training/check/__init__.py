"""``check``: all that ``train`` does at its ends, done before it, and what the run would take.

supervise    the verb's side, without torch: folder, disk, Hub, trackers; starts the rehearsal in a process of its own
rehearsal    a run in small, in a folder that goes away: data, model, steps, an evaluation, a checkpoint, the package
measure      steps and evaluations of a run, timed on examples that stand for all
foretell     from what was measured to time, memory and disk of the whole run
found        problems and notes, as they pass from one process to the other
screen       what is printed
"""
