"""How raw fields become the one input of an inner model, as data: encoding.json.

It says what a Keras encoder of `StringLookup` and `Normalization` layers does, so that a server without TensorFlow, a phone
or a reader can do the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from kit.errors import IntegrityError, NewerFormatError, UsageError, suggest
from kit.files import canonical_json
from kit.model.servable import Field, Signature

FORMAT = 1
KERAS_EPSILON = 1e-7
FLOAT32_MIN, FLOAT32_MAX = 1.1754944e-38, 3.4028234e38  # smallest normal and largest number


class OneHot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="one_hot"):
    """A text as 1 + len(vocabulary) numbers: a 1 at its place, 0 elsewhere; the first place is for any text not in it.

    Source: Keras 3, `StringLookup(output_mode="one_hot")` with one out-of-vocabulary index and no mask token.
    """

    field: str
    vocabulary: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return 1 + len(self.vocabulary)

    @property
    def takes(self) -> tuple[RawField, ...]:
        """The fields that it reads."""
        return (RawField(self.field, "text"),)


class _Numbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part that reads numbers and gives one for each."""

    fields: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return len(self.fields)

    @property
    def takes(self) -> tuple[RawField, ...]:
        """The fields that it reads."""
        return tuple(RawField(name, "number") for name in self.fields)


class Standardised(_Numbers, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="standardised"):
    """Numbers as (x - mean) / max(sqrt(variance), epsilon) in float32, then 0 where missing, then cut to [-clip, clip].

    Source: Keras 3, `Normalization.call`.

    Attributes:
        fields: one number each.
        mean: one for each field.
        variance: one for each field, at least 0.
        clip: in standard deviations; None cuts nothing.
        epsilon: least standard deviation.
    """

    mean: tuple[float, ...]
    variance: tuple[float, ...]
    clip: float | None = None
    epsilon: float = KERAS_EPSILON


class Missing(_Numbers, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="missing"):
    """A flag for each number: 1 where it is missing (NaN), else 0."""


Part = OneHot | Standardised | Missing


class RawField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field as clients give it: a text, or a number that may be missing."""

    name: str
    dtype: Literal["text", "number"]


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of encoding.json.

    Attributes:
        fields: what is read, in the order of the signature.
        parts: concatenated in this order they are a row of the inner model's input.
        output: name of what the model gives.
    """

    fields: tuple[RawField, ...]
    parts: tuple[Part, ...]
    output: str
    format: int = FORMAT

    @property
    def width(self) -> int:
        """Numbers in a row of the inner model's input."""
        return sum(part.width for part in self.parts)

    @property
    def signature(self) -> Signature:
        """What clients give and get: the raw fields, and one number a row."""
        inputs = (Field(each.name, "string" if each.dtype == "text" else "float32") for each in self.fields)
        return Signature(tuple(inputs), (Field(self.output, "float32"),))


def one_hot(field: str, vocabulary: Iterable[Any]) -> OneHot:
    """The part for a text.

    Args:
        field: its name.
        vocabulary: known texts in the order of their places; of a `StringLookup` all but the first, which is `[UNK]`.

    Raises:
        UsageError: something in the vocabulary is no text.
    """
    words = list(vocabulary)
    for word in words:
        if not isinstance(word, str):
            raise UsageError(f"vocabulary of {field!r}: expected texts, found {word!r} ({type(word).__name__})")
    return OneHot(field, tuple(str(word) for word in words))


def standardise(
    fields: Sequence[str], mean: Any, variance: Any, clip: float | None = None, epsilon: float = KERAS_EPSILON
) -> Standardised:
    """The part for numbers; `mean` and `variance` are arrays of any shape with one number for each field."""
    cut = None if clip is None else float(clip)
    return Standardised(tuple(fields), _to_floats(mean), _to_floats(variance), cut, float(epsilon))


def flag_missing(fields: Sequence[str]) -> Missing:
    """The part that flags missing numbers."""
    return Missing(tuple(fields))


def write_encoding(path: Path, parts: Iterable[Part], output: str) -> Encoding:
    """Write encoding.json as canonical JSON; its fields are those of the parts, in order of appearance.

    Args:
        path: where to.
        parts: in the order in which the inner model takes them.
        output: name of what the model gives, as the SavedModel's signature has it.

    Raises:
        UsageError: the parts do not make an encoding; says why.
    """
    chosen = tuple(parts)
    fields = tuple(dict.fromkeys(field for part in chosen for field in part.takes))
    encoding = Encoding(fields, chosen, output)
    problem = find_encoding_problem(encoding)
    if problem:
        raise UsageError(f"{path.name}: {problem}")
    try:
        path.write_bytes(canonical_json(msgspec.to_builtins(encoding)))
    except UnicodeEncodeError as error:
        raise UsageError(f"{path.name}: a name or a word of a vocabulary is no Unicode text: {error}") from error
    return encoding


def read_encoding(path: Path) -> Encoding:
    """Read encoding.json.

    Raises:
        IntegrityError: it is none, or contradicts itself.
        NewerFormatError: a newer kit wrote it.
    """
    try:
        declared = msgspec.json.decode(path.read_bytes())
        _refuse_newer(declared)
        encoding = msgspec.convert(declared, Encoding)
    except NewerFormatError as error:
        raise NewerFormatError(f"{path.name}: {error}") from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"{path.name}: not readable as an encoding: {error}") from error
    problem = find_encoding_problem(encoding)
    if problem:
        raise IntegrityError(f"{path.name}: {problem}")
    return encoding


def _refuse_newer(declared: Any) -> None:
    found = declared.get("format") if isinstance(declared, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise NewerFormatError(f"encoding format {found} is newer than this kit reads ({FORMAT}); update kit")


def find_encoding_problem(encoding: Encoding) -> str:
    """Why this is no encoding; empty if it is one."""
    return next(_find_problems(encoding), "")


def _find_problems(encoding: Encoding) -> Iterator[str]:
    if encoding.format != FORMAT:
        yield f"there is no encoding format {encoding.format}; the first is {FORMAT}"
    if not encoding.parts or not encoding.output:
        yield "an encoding needs parts and the name of its output"
    names = [field.name for field in encoding.fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield f"field {twice[0]!r} is there twice, perhaps as text and as number"
    for number, part in enumerate(encoding.parts, 1):
        yield from (f"part {number}: {problem}" for problem in _find_part_problems(part, encoding.fields))
    used = {field for part in encoding.parts for field in part.takes}
    yield from (f"field {field.name!r} is in no part" for field in encoding.fields if field not in used)


def _find_part_problems(part: Part, fields: tuple[RawField, ...]) -> Iterator[str]:
    for taken in part.takes:
        if not taken.name or taken not in fields:
            known = [field.name for field in fields if field.dtype == taken.dtype]
            yield f"{taken.dtype} field {taken.name!r}{suggest(taken.name, known)}"
    if not part.takes or len(set(part.takes)) < len(part.takes):
        yield "expected at least one field, and none twice"
    if isinstance(part, OneHot):
        if not part.vocabulary or len(set(part.vocabulary)) < len(part.vocabulary):
            yield f"vocabulary of {part.field!r}: expected at least one text, and none twice"
    elif isinstance(part, Standardised):
        yield from _find_number_problems(part)


def _find_number_problems(part: Standardised) -> Iterator[str]:
    lengths = {"fields": len(part.fields), "mean": len(part.mean), "variance": len(part.variance)}
    if len(set(lengths.values())) > 1:
        yield f"expected as many means and variances as fields, found {lengths}"
    if not all(abs(value) <= FLOAT32_MAX for value in (*part.mean, *part.variance)):  # false for NaN
        yield "expected means and variances that are finite in float32"
    if any(value < 0 for value in part.variance):
        yield f"expected variances of at least 0, found {min(part.variance):g}"
    if part.clip is not None and not 0 < part.clip <= FLOAT32_MAX:
        yield f"expected a positive finite clip, found {part.clip:g}"
    if not FLOAT32_MIN <= part.epsilon <= FLOAT32_MAX:
        yield f"expected an epsilon that is positive and finite in float32, found {part.epsilon:g}"


def _to_floats(values: Any) -> tuple[float, ...]:
    import numpy as np

    return tuple(np.asarray(values, dtype=np.float64).reshape(-1).tolist())
