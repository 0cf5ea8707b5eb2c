"""Lazy stand-ins for imports that are slow and nearly never used.

`jsonschema` (imported by nbformat) imports `rfc3987_syntax` where JupyterLab is installed, and `rfc3987_syntax` 1.1.0
compiles some 35 grammars at import: 1–2.7 s of CPU for a check of IRI formats that no notebook asks for. The stand-in
imports the real module at its first use and then is it. (jsonschema 4.26.0 `_format.py` binds `is_valid_syntax` at import,
so the name itself must be lazy, too.) `tests/test_standins.py` fails when the real import has become cheap.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any

SLOW = "rfc3987_syntax"


class _StandIn(types.ModuleType):
    """Is the real module from the first use on."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # what import machinery and inspect probe for must not wake the real one
        return getattr(_import_real(), name)

    def is_valid_syntax(self, *arguments: Any, **named: Any) -> Any:
        """As rfc3987_syntax.is_valid_syntax."""
        return _import_real().is_valid_syntax(*arguments, **named)


def install() -> bool:
    """Put the stand-in where the module is installed and not imported yet; the same again does nothing.

    Returns:
        True if the stand-in is in place.
    """
    present = sys.modules.get(SLOW)
    if present is not None:
        return isinstance(present, _StandIn)
    spec = importlib.util.find_spec(SLOW)
    if spec is None:
        return False
    module = _StandIn(SLOW)
    module.__spec__ = spec
    module.__path__ = list(spec.submodule_search_locations or [])
    sys.modules[SLOW] = module
    return True


def _import_real() -> types.ModuleType:
    if isinstance(sys.modules.get(SLOW), _StandIn):
        del sys.modules[SLOW]
    return importlib.import_module(SLOW)
