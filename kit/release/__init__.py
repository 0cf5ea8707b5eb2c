"""Releases: the gate's evidence, cutting `<env>-<n>`, executing what is live."""

from kit.release.evidence import Probe, ProbeOutcome, collect_evidence, judge_candidate
from kit.release.release import cut_release, plan_release, plan_run, probe_model

__all__ = [
    "Probe",
    "ProbeOutcome",
    "collect_evidence",
    "cut_release",
    "judge_candidate",
    "plan_release",
    "plan_run",
    "probe_model",
]
