"""What differs between two records or two releases: values first, made by pure functions of what the archive holds."""

from kit.diff.records import Side, diff_records
from kit.diff.releases import ReleaseSide, diff_releases
from kit.diff.sides import as_json_value, diff_named, read_release_side, read_side
from kit.diff.values import RecordDiff, ReleaseDiff

__all__ = [
    "RecordDiff",
    "ReleaseDiff",
    "ReleaseSide",
    "Side",
    "as_json_value",
    "diff_named",
    "diff_records",
    "diff_releases",
    "read_release_side",
    "read_side",
]
