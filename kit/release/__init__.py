"""Releases: the gate's evidence, cutting `<env>-<n>`, promoting, rolling back, waiving, executing what is live."""

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
