"""How the stages of an environment stand: up to date, or why not."""

from kit.status.overview import read_overview
from kit.status.values import Overview, Reason, StageStatus, State, describe_state

__all__ = ["Overview", "Reason", "StageStatus", "State", "describe_state", "read_overview"]
