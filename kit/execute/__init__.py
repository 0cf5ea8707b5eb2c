"""Executing one stage: decide what exactly will be executed, execute it in a workspace, seal what remains."""

from kit.execute.attempts import execute_with_retries, read_attempts
from kit.execute.inputs import ResolvedInput, resolve_inputs
from kit.execute.plan import Order, Plan, Workbench, finish_plan, plan_stage
from kit.execute.remains import complete_record, read_notebook_of
from kit.execute.signed import describe_signature
from kit.execute.stage import execute_plan

__all__ = [
    "Order",
    "Plan",
    "ResolvedInput",
    "Workbench",
    "complete_record",
    "describe_signature",
    "execute_plan",
    "execute_with_retries",
    "finish_plan",
    "plan_stage",
    "read_attempts",
    "read_notebook_of",
    "resolve_inputs",
]
