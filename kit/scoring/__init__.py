"""Batch scoring: rows of Parquet through a released model into Parquet, streamed in bounded memory, each row accounted for.

pyarrow and numpy are imported inside functions only; importing this package costs nothing.
"""

from kit.scoring.counts import RowCounts, Scored, add_counts, count_rows, find_lost_rows
from kit.scoring.progress import Progress, ProgressLine
from kit.scoring.released import open_released_model
from kit.scoring.score import score_parquet
from kit.scoring.target import RELEASE_KEY, read_release_id, write_table

__all__ = [
    "RELEASE_KEY",
    "Progress",
    "ProgressLine",
    "RowCounts",
    "Scored",
    "add_counts",
    "count_rows",
    "find_lost_rows",
    "open_released_model",
    "read_release_id",
    "score_parquet",
    "write_table",
]
