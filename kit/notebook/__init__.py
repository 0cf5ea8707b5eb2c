"""Notebooks as values: read, strip, and find their signature by `ast`, without running anything."""

from kit.notebook.cells import read_notebook, strip_notebook
from kit.notebook.lint import Problem, lint_notebook
from kit.notebook.signature import read_stage

__all__ = ["Problem", "lint_notebook", "read_notebook", "read_stage", "strip_notebook"]
