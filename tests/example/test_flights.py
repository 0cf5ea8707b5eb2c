"""The helper modules of the worked example, on small tables made by hand. The build executes these in the bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

import delay_model
import flights

START = pd.Timestamp("2013-06-03T14:00:00Z")  # a Monday, 10:00 in New York


def make_board(*rows: dict) -> pd.DataFrame:
    """Flights from JFK, an hour apart unless `at` (minutes after START) says otherwise."""
    made = [make_flight(index, **row) for index, row in enumerate(rows)]
    return pd.DataFrame(made)


def make_flight(index: int, at: float | None = None, delay: float = 0.0, **changes: object) -> dict:
    time = START + pd.Timedelta(minutes=60 * index if at is None else at)
    local = time.tz_convert("America/New_York")
    return {
        "year": local.year, "month": local.month, "day": local.day, "hour": local.hour, "minute": local.minute,
        "time_hour": time.floor("h"), "dep_delay": delay, "arr_delay": delay, "air_time": 100.0, "carrier": "B6",
        "flight": index, "tailnum": "N1", "origin": "JFK", "dest": "BOS", "distance": 187,
    } | changes  # fmt: skip


def make_weather(hours: range = range(-5, 8), **changes: object) -> pd.DataFrame:
    """Hourly observations at JFK, the temperature telling the hour after START."""
    times = [START + pd.Timedelta(hours=hour) for hour in hours]
    local = [time.tz_convert("America/New_York") for time in times]
    constants = {"dewp": 50.0, "humid": 60.0, "wind_dir": 90.0, "wind_speed": 10.0, "wind_gust": np.nan, "precip": 0.0,
                 "pressure": 1015.0, "visib": 10.0, "origin": "JFK"}  # fmt: skip
    return pd.DataFrame(
        {
            "time_hour": times,
            "year": [time.year for time in local],
            "month": [time.month for time in local],
            "day": [time.day for time in local],
            "hour": [time.hour for time in local],
            "temp": [float(hour) for hour in hours],
            **constants,
            **changes,
        }
    )


def make_planes() -> pd.DataFrame:
    return pd.DataFrame({"tailnum": ["N1"], "year": [2003.0], "manufacturer": ["AIRBUS INDUSTRIE"], "seats": [150]})


def state_of(board: pd.DataFrame) -> pd.DataFrame:
    return flights.describe_airport_state(flights.add_schedule(board))


def test_mean_delay_counts_departures_that_happened_an_hour_before():
    state = state_of(make_board({"at": 0, "delay": 10}, {"at": 10, "delay": 30}, {"at": 100}))
    # At minute 40 both have left, at minutes 10 and 40.
    assert state.loc[2, ["mean_delay", "n_departed"]].tolist() == [20.0, 2.0]


def test_departure_a_minute_later_is_not_known_yet():
    state = state_of(make_board({"at": 0, "delay": 10}, {"at": 10, "delay": 31}, {"at": 100}))
    assert state.loc[2, ["mean_delay", "n_departed"]].tolist() == [10.0, 1.0]


def test_departures_before_the_window_are_forgotten():
    state = state_of(make_board({"at": 0, "delay": 99}, {"at": 340}))
    assert state.loc[1, "n_departed"] == 0
    assert np.isnan(state.loc[1, "mean_delay"])


def test_waiting_flight_is_past_its_time_and_not_gone():
    state = state_of(make_board({"at": 0, "delay": 200}, {"at": 30, "delay": 5}, {"at": 110}, {"at": 300}))
    assert state["n_waiting"].tolist() == [0, 0, 1, 0]


def test_cancelled_flight_waits_like_a_late_one():
    late, cancelled = (state_of(make_board({"at": 0, "delay": delay}, {"at": 100})) for delay in (150.0, np.nan))
    assert late.loc[1, "n_waiting"] == cancelled.loc[1, "n_waiting"] == 1


def test_early_departure_never_makes_waiting_negative():
    state = state_of(make_board({"at": 60, "delay": -10}, {"at": 115}))
    assert state["n_waiting"].tolist() == [0, 0]


def test_airports_do_not_see_each_other():
    state = state_of(make_board({"at": 0, "delay": 50}, {"at": 200, "origin": "LGA"}))
    assert np.isnan(state.loc[1, "mean_delay"])


@pytest.mark.parametrize("column", ["dep_delay", "arr_delay", "air_time"])
def test_nothing_after_the_moment_changes_the_features(column):
    board = make_board(*[{"delay": 7.0 * n} for n in range(6)])
    changed = board.copy()
    changed.loc[3:, column] = 500.0  # the last three leave or arrive after the moment of every flight up to the fourth
    names = [*flights.TEXT_FEATURES, *flights.NUMBER_FEATURES]
    before, after = (flights.prepare_flights(each, make_weather(), make_planes()).features for each in (board, changed))
    pd.testing.assert_frame_equal(before.loc[:3, names], after.loc[:3, names])


def test_weather_is_the_newest_one_known_an_hour_before():
    board = flights.add_schedule(make_board({"at": 0}, {"at": 59}, {"at": 60}))
    weather, _ = flights.repair_weather(make_weather())
    # Filed under -2 h, taken at about -1:09, known from -1 h: an hour before a flight at 0.
    assert flights.join_weather(board, weather)["temp"].tolist() == [-2.0, -2.0, -1.0]


def test_weather_join_keeps_the_order_of_flights():
    board = flights.add_schedule(make_board({"at": 120}, {"at": 0}, {"at": 60}))
    weather, _ = flights.repair_weather(make_weather())
    assert flights.join_weather(board, weather)["flight"].tolist() == [0, 1, 2]


def test_flight_without_recent_weather_is_rejected_with_the_reason():
    prepared = flights.prepare_flights(make_board({"at": 0}, {"at": 400}), make_weather(range(-5, 0)), make_planes())
    assert prepared.features["flight"].tolist() == [0]
    assert prepared.rejects[["flight", "reason"]].to_numpy().tolist() == [[1, flights.NO_WEATHER]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"origin": "ORD"}, "unknown origin"),
        ({"dest": None}, "no destination"),
        ({"carrier": None}, "no carrier"),
        ({"distance": 0}, "no distance"),
        ({"flight": 0, "at": 0}, "the same flight twice"),
        ({"time_hour": pd.NaT}, "no scheduled time"),
    ],
)
def test_structural_fault_is_rejected_with_its_reason(changes, reason):
    board = make_board({"at": 0}, changes)
    prepared = flights.prepare_flights(board, make_weather(), make_planes())
    assert prepared.rejects["reason"].tolist() == [reason]
    assert len(prepared.features) + len(prepared.rejects) == len(board)


def test_impossible_wind_becomes_missing_and_is_counted():
    repaired, counts = flights.repair_weather(make_weather(range(1), wind_speed=1048.36))
    assert repaired["wind_speed"].isna().all()
    assert counts["impossible wind speeds"] == 1


def test_hour_that_the_clock_change_repeats_is_kept_apart():
    hours = pd.to_datetime(["2013-11-03T05:00:00Z", "2013-11-03T06:00:00Z"])
    weather = make_weather(range(2)).assign(time_hour=hours, month=11, day=3, hour=1)
    repaired, counts = flights.repair_weather(weather)
    assert len(repaired) == 2
    assert counts == {"impossible wind speeds": 0, "local hours that occur twice": 1, "repeated UTC hours": 0}


def test_calm_air_blows_nowhere_and_steady_wind_has_no_gust():
    repaired, _ = flights.repair_weather(make_weather(range(1), wind_speed=0.0, wind_dir=np.nan))
    assert repaired[["wind_east", "wind_north", "wind_gust"]].to_numpy().tolist() == [[0.0, 0.0, 0.0]]


def test_times_across_the_clock_change_are_differences_in_utc():
    before = pd.Timestamp("2013-11-03T05:30:00Z")  # 01:30 in summer time
    board = make_board({"time_hour": before.floor("h"), "minute": 30, "delay": 20.0}, {})
    board.loc[1, "time_hour"] = pd.Timestamp("2013-11-03T07:00:00Z")  # 02:00 in winter time, 90 minutes later
    assert state_of(board).loc[1, "n_departed"] == 1


def test_unknown_plane_has_missing_age_and_is_counted():
    board = make_board({"tailnum": "N1"}, {"tailnum": "N404"}, {"tailnum": None})
    prepared = flights.prepare_flights(board, make_weather(), make_planes())
    assert prepared.features["plane_age"].isna().tolist() == [False, True, True]
    assert prepared.features["manufacturer"].tolist() == ["AIRBUS", "unknown", "unknown"]
    assert prepared.repaired["tail numbers not in planes"] == 1


def test_flights_that_did_not_arrive_are_dropped_and_counted():
    board = make_board({"delay": 16.0}, {"delay": 15.0}, {"arr_delay": np.nan}, {"delay": np.nan})
    table, dropped = flights.label_flights(flights.prepare_flights(board, make_weather(), make_planes()))
    assert table["is_late"].tolist() == [True, False]
    assert dropped == {"cancelled": 1, "diverted": 1}
    assert "arr_delay" not in table


def test_split_goes_by_the_month_in_new_york():
    utc = pd.Series(
        pd.to_datetime(["2013-09-01T03:00Z", "2013-09-01T04:00Z", "2013-11-01T03:00Z", "2013-11-01T04:00Z"])
    )
    assert flights.split_by_month(utc).tolist() == ["train", "valid", "valid", "test"]


def test_honest_features_have_no_leak():
    _, honest = flights.feature_names("honest")
    _, leaky = flights.feature_names("leaky")
    assert not set(honest) & set(flights.LEAKS)
    assert [name for name in leaky if name not in honest] == flights.LEAKS


def test_batch_without_outcomes_gives_the_same_features():
    board = make_board({}, {}, {})
    batch = board.drop(columns=["arr_delay", "air_time"])
    names = [*flights.TEXT_FEATURES, *flights.NUMBER_FEATURES]
    full, bare = (flights.prepare_flights(each, make_weather(), make_planes()).features for each in (board, batch))
    pd.testing.assert_frame_equal(full[names], bare[names])


def test_calibration_error_is_the_distance_from_the_diagonal():
    is_late = np.array([0, 1] * 50)
    assert delay_model.calibration_error(is_late, np.full(100, 0.5), n_bins=1) == pytest.approx(0.0)
    assert delay_model.calibration_error(is_late, np.full(100, 0.8), n_bins=1) == pytest.approx(0.3)


def test_records_have_one_column_each_with_missing_values():
    table = pd.DataFrame({"carrier": ["B6", None], "seats": [150.0, np.nan]})
    records = delay_model.to_records(table, ["carrier"], ["seats"])
    assert records["carrier"].tolist() == [["B6"], [""]]
    assert records["seats"].dtype == np.float32
    assert np.isnan(records["seats"][1, 0])
