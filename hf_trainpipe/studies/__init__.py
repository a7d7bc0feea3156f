"""Verbs that make several runs, each an ordinary one in a process of its own.

runs        start a run, follow it, end it, read how it ended
space       what a search may change: ``from hf_trainpipe.studies import Choice, Integer, LogUniform, Space, Uniform``
tune        the search, by: trials (its ledger), proposals (what a trial gets), workers (its runs), contract (what it is),
            study (from the first check to the page), outcome and tune_page (what it leaves)
"""

from __future__ import annotations

from hf_trainpipe.studies.space import Choice as Choice
from hf_trainpipe.studies.space import Integer as Integer
from hf_trainpipe.studies.space import LogUniform as LogUniform
from hf_trainpipe.studies.space import Space as Space
from hf_trainpipe.studies.space import Uniform as Uniform
