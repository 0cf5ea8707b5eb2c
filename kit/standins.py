"""Lazy stand-ins for imports that are slow and nearly never used: each is the real thing from its first use on.

`importing_late` is for a block of imports: the modules that it names are not imported there, only named, and whoever
imports them elsewhere, or later, gets the real ones.

`jsonschema` (imported by nbformat) imports `rfc3987_syntax` where JupyterLab is installed, and `rfc3987_syntax` 1.1.0
compiles some 35 grammars at import: 1–2.7 s of CPU for a check of IRI formats that no notebook asks for. The stand-in
imports the real module at its first use and then is it. (jsonschema 4.26.0 `_format.py` binds `is_valid_syntax` at import,
so the name itself must be lazy, too.) `tests/test_standins.py` fails when the real import has become cheap.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
import threading
import types
from collections.abc import Iterator
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


@contextlib.contextmanager
def importing_late(*names: str) -> Iterator[None]:
    """While entered, these modules are not imported: who imports one gets a stand-in, and what is taken from it is a `Late`.

    One that is not installed stays so, one that was imported before stays as it is. A package among them whose submodules
    are imported meanwhile stays in `sys.modules` and becomes the real one there, at its first use; the others are gone
    from there at the end.

    Args:
        names: dotted; a package before its modules.
    """
    modules = [module for name in names if (module := _make_late(name))]
    try:
        yield
    finally:
        for module in modules:
            module.__dict__["_kit_is_open"] = False
            prefix = f"{module.__name__}."
            if any(name.startswith(prefix) and not isinstance(sys.modules[name], _Late) for name in [*sys.modules]):
                _forget(module)
                del module.__path__  # asked for when a further module of it is imported
            elif sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


class Late:
    """A class or function of a module that is imported when it is first called, asked for an attribute or derived from."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        module = importlib.import_module(self._module)
        if isinstance(module, _Late):
            module.__dict__["_kit_is_open"] = False  # it is not only named any more
            _forget(module)
        return getattr(module, self._name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """As the real one."""
        return self._real()(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        # Nothing can be an instance of what was never imported.
        return self._module in sys.modules and isinstance(instance, self._real())

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[object, ...]:
        return (self._real(),)


class _Late(types.ModuleType):
    """A module that is named and not yet imported."""

    def __getattr__(self, name: str) -> Any:
        facts, is_package = self.__dict__, self.__package__ == self.__name__
        if (name == "__path__" and not is_package) or (name.startswith("__") and facts["_kit_is_open"]):
            raise AttributeError(name)
        if not facts["_kit_is_open"]:
            return getattr(_become_real(self, name), name)
        submodule = f"{self.__name__}.{name}"
        if name.startswith("_") and is_package and importlib.util.find_spec(submodule):
            return importlib.import_module(submodule)  # no package takes private functions from another
        return facts.setdefault(name, Late(self.__name__, name))


_becoming = threading.RLock()


def _make_late(name: str) -> _Late | None:
    if name in sys.modules:
        return None
    spec = _find_spec(name)
    if spec is None:
        return None
    module = _Late(name)
    module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, spec.parent
    module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    module.__dict__["_kit_is_open"] = True
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """As importlib.util.find_spec, which imports the package of a module."""
    parent = name.rpartition(".")[0]
    if not parent or parent in sys.modules:
        return importlib.util.find_spec(name)
    outer = _find_spec(parent)
    return outer and importlib.machinery.PathFinder.find_spec(name, outer.submodule_search_locations)


def _forget(module: _Late) -> None:
    """Names that were taken while it was a stand-in."""
    for name in [name for name, value in vars(module).items() if isinstance(value, Late)]:
        del module.__dict__[name]


def _become_real(module: _Late, name: str) -> types.ModuleType:
    """The real module: in the same object where others know it, else as everybody gets it."""
    if sys.modules.get(module.__name__) is not module:
        return importlib.import_module(module.__name__)
    with _becoming:
        if type(module) is not _Late:
            return module  # another thread was faster
        if module.__dict__.get("_kit_is_becoming"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}, or not yet", name=name)
        module.__dict__["_kit_is_becoming"] = True
        assert module.__spec__ is not None
        assert module.__spec__.loader is not None
        if module.__spec__.submodule_search_locations is not None:
            module.__path__ = module.__spec__.submodule_search_locations
        try:
            module.__spec__.loader.exec_module(module)
        except BaseException:
            del sys.modules[module.__name__]
            raise
        module.__class__ = types.ModuleType  # type: ignore[assignment]
        del module.__dict__["_kit_is_open"], module.__dict__["_kit_is_becoming"]
    return module
