"""Imports all that a trial needs and does nothing: the process that workers are forked from has this, no threads."""

import builder.pipeline
import builder.sweep.trial
import builder.training.watch  # noqa: F401
from builder.sweep.search import optuna

optuna()
