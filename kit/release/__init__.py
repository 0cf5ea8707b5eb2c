"""Releases: the gate's evidence, cutting `<env>-<n>`, promoting, rolling back, waiving, executing what is live."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kit.release.bound_data import bind_now
    from kit.release.current import Standing, judge_release, judge_run
    from kit.release.evidence import collect_evidence, judge_candidate
    from kit.release.history import Interval, read_history
    from kit.release.live import find_live
    from kit.release.probes import PROBES, ProbeOutcome, Probes
    from kit.release.release import cut_release, plan_promotion, plan_release
    from kit.release.rollback import Rolled, roll_back
    from kit.release.running import plan_run
    from kit.release.waivers import GivenWaiver, find_expired, read_waivers
    from kit.release.waiving import give_waiver, revoke_waiver

__all__ = [
    "PROBES",
    "GivenWaiver",
    "Interval",
    "ProbeOutcome",
    "Probes",
    "Rolled",
    "Standing",
    "bind_now",
    "collect_evidence",
    "cut_release",
    "find_expired",
    "find_live",
    "give_waiver",
    "judge_candidate",
    "judge_release",
    "judge_run",
    "plan_promotion",
    "plan_release",
    "plan_run",
    "read_history",
    "read_waivers",
    "revoke_waiver",
    "roll_back",
]

_HOMES = {
    "GivenWaiver": "kit.release.waivers",
    "Interval": "kit.release.history",
    "PROBES": "kit.release.probes",
    "ProbeOutcome": "kit.release.probes",
    "Probes": "kit.release.probes",
    "Rolled": "kit.release.rollback",
    "Standing": "kit.release.current",
    "bind_now": "kit.release.bound_data",
    "collect_evidence": "kit.release.evidence",
    "cut_release": "kit.release.release",
    "find_expired": "kit.release.waivers",
    "find_live": "kit.release.live",
    "give_waiver": "kit.release.waiving",
    "judge_candidate": "kit.release.evidence",
    "judge_release": "kit.release.current",
    "judge_run": "kit.release.current",
    "plan_promotion": "kit.release.release",
    "plan_release": "kit.release.release",
    "plan_run": "kit.release.running",
    "read_history": "kit.release.history",
    "read_waivers": "kit.release.waivers",
    "revoke_waiver": "kit.release.waiving",
    "roll_back": "kit.release.rollback",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
