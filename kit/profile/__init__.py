"""Reference profiles: how the values of a table's columns were distributed, and how far others have moved from that."""

from kit.profile.counting import (
    count_bins,
    count_column,
    profile_parquet,
    profile_table,
    to_arrow,
    write_profile,
)
from kit.profile.divergence import Shift, find_shifts, kl_divergence, population_stability_index
from kit.profile.profile import Column, Labels, Numbers, Profile, parse_profile, read_profile

__all__ = [
    "Column",
    "Labels",
    "Numbers",
    "Profile",
    "Shift",
    "count_bins",
    "count_column",
    "find_shifts",
    "kl_divergence",
    "parse_profile",
    "population_stability_index",
    "profile_parquet",
    "profile_table",
    "read_profile",
    "to_arrow",
    "write_profile",
]
