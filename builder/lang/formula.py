"""Formulas (`=2 * width`): expressions over a definition's args, checked when read and worked out within bounds."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import DEFAULT, BuilderError, Fault, Origin, Path, nearest
from builder.lang.arithmetic import FUNCTIONS
from builder.lang.interpret import Interpreter, LangError
from builder.lang.syntax import CONSTRUCTS, Source, constant_problem, construct, position

__all__ = ["Formula", "FormulaError", "LangError", "parse_formula"]
