"""What stands in a scored table: kept columns, the model's answers, what is derived from these, constants; and its types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kit.errors import IntegrityError, UnknownNameError, UsageError
from kit.model.servable import Field
from kit.scoring.batch import Batch

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Derive = Callable[[dict[str, Array]], Mapping[str, Any]]

NOT_FINITE, NO_TEXT = "is not finite", "is no text"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a scored table, in their order.

    Attributes:
        keep: columns of the source that go along, with their pyarrow types.
        outputs: of the model.
        derive: from answers by name to further columns by name; None for none.
        constants: columns with one value.
    """

    keep: Mapping[str, Any]
    outputs: tuple[Field, ...]
    derive: Derive | None
    constants: Mapping[str, Any]

    def make_schema(self) -> Any:
        """The pyarrow schema, found with no rows.

        Raises:
            UsageError: two columns have one name, or `derive` gives no columns.
        """
        import pyarrow as pa

        answers = {field.name: _make_no_answers(field) for field in self.outputs}
        columns = self._make_columns({name: pa.nulls(0, kind) for name, kind in self.keep.items()}, answers, 0)
        names = [name for name, _ in columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"two columns of the target would be called {', '.join(map(repr, twice))}; rename or leave out one"
            )
        return pa.schema([(name, values.type) for name, values in columns])

    def make_table(self, batch: Batch, schema: Any) -> Any:
        """A pyarrow table of a batch whose columns are answers.

        Raises:
            UsageError: `derive` gives other columns or types than it gave for no rows, or another number of values.
        """
        import pyarrow as pa

        columns = self._make_columns(batch.kept, batch.columns, len(batch.rows))
        if [name for name, _ in columns] != schema.names:
            raise UsageError(
                f"derive gives columns {[name for name, _ in columns]}, and for no rows gave {schema.names}"
            )
        try:
            return pa.table(
                [values.cast(field.type) for (_, values), field in zip(columns, schema, strict=True)], schema
            )
        except pa.ArrowException as error:
            raise UsageError(f"a derived column is of another type than for no rows: {error}") from error

    def _make_columns(self, kept: Mapping[str, Any], answers: dict[str, Array], n_rows: int) -> list[tuple[str, Any]]:
        import pyarrow as pa

        derived = {name: pa.array(values) for name, values in (self.derive(answers) if self.derive else {}).items()}
        for name, values in derived.items():
            if len(values) != n_rows:
                raise UsageError(
                    f"derive gives {len(values):,} values of {name!r} for {n_rows:,} rows; expected one for each"
                )
        return [
            *kept.items(),
            *((field.name, _to_arrow(answers[field.name], field)) for field in self.outputs),
            *derived.items(),
            *((name, pa.repeat(value, n_rows)) for name, value in self.constants.items()),
        ]


def choose_outputs(outputs: Sequence[Field], names: Sequence[str] | None) -> tuple[Field, ...]:
    """The named outputs of a signature, all for None.

    Raises:
        UnknownNameError: the model has no output of that name.
        UsageError: one has several dimensions.
    """
    known = {field.name: field for field in outputs}
    for name in names or ():
        if name not in known:
            raise UnknownNameError("output", name, known, "of the model's signature")
    chosen = tuple(known[name] for name in (known if names is None else names))
    for field in chosen:
        if len(field.shape) > 1:
            others = ", ".join(each.name for each in outputs if len(each.shape) < 2) or "none"
            raise UsageError(
                f"output {field.name!r} has {list(field.shape)} values for each row, and a column holds one or a list; "
                f"name others with outputs=[…]: {others}"
            )
    return chosen


def answer(batch: Batch, answers: Mapping[str, Array], outputs: Sequence[Field]) -> Batch:
    """The batch with answers for columns, without the rows whose answer is not finite, or no UTF-8 where it is a text.

    Raises:
        IntegrityError: the model answers something else than its signature says.
    """
    columns = {field.name: _require_answer(answers, field, len(batch.rows)) for field in outputs}
    faults = {
        f"{name} {NOT_FINITE}": _find_not_finite(values) for name, values in columns.items() if values.dtype.kind == "f"
    }
    texts = [field.name for field in outputs if field.dtype == "string"]
    faults |= {f"{name} {NO_TEXT}": _find_no_text(columns[name]) for name in texts}
    return replace(batch, columns=columns).reject(faults)


def _require_answer(answers: Mapping[str, Array], field: Field, n_rows: int) -> Array:
    values = answers.get(field.name)
    if values is None:
        raise IntegrityError(f"the model gives no output {field.name!r}; it gives {', '.join(answers) or 'none'}")
    dtype = "string" if values.dtype.kind in "OSU" else values.dtype.name
    is_flat = field.shape in ((), (1,))
    fits = values.shape in ((n_rows,), (n_rows, 1)) if is_flat else values.ndim == 2 and len(values) == n_rows
    if not fits or dtype != field.dtype:
        expected = f"{field.dtype} of shape {[n_rows, *field.shape]}"
        raise IntegrityError(f"output {field.name!r}: expected {expected}, found {dtype} of shape {list(values.shape)}")
    return values.reshape(-1) if is_flat else values


def _find_not_finite(values: Array) -> Array:
    import numpy as np

    broken = np.logical_not(np.isfinite(values))
    return broken if values.ndim == 1 else np.any(broken, axis=1)


def _find_no_text(values: Array) -> Array:
    import numpy as np

    flat = np.array([not _is_text(value) for value in values.reshape(-1)], bool).reshape(values.shape)
    return flat if values.ndim == 1 else np.any(flat, axis=1)


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value.decode() if isinstance(value, bytes) else value, str)
    except UnicodeDecodeError:
        return False


def _make_no_answers(field: Field) -> Array:
    import numpy as np

    shape = (0,) if field.shape in ((), (1,)) else (0, field.shape[0] or 1)
    return np.empty(shape, object if field.dtype == "string" else field.dtype)


def _to_arrow(values: Array, field: Field) -> Any:
    import numpy as np
    import pyarrow as pa

    flat = (
        pa.array(values.reshape(-1), pa.binary()).cast(pa.string())
        if field.dtype == "string"
        else pa.array(values.reshape(-1))
    )
    if values.ndim == 1:
        return flat
    width = values.shape[1]
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32) * width), flat)
