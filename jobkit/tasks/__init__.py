"""Tasks: how functions and classes become jobs. Parameters from signatures, options, names, and the call in a payload.

Knows neither Redis nor a worker nor a page. What others use is named here.
"""

from jobkit.tasks.arguments import shown
from jobkit.tasks.decorator import task
from jobkit.tasks.info import TaskInfo, plain_arguments
from jobkit.tasks.options import JobOptions, check_options, check_submit_options
from jobkit.tasks.params import check, describe, parse_text
from jobkit.tasks.registry import Registry, registry, unknown_task
from jobkit.tasks.signature import Signature, signature_of
from jobkit.tasks.specs import Choice, ParamSpec, Range, json_schema, plain
from jobkit.tasks.task import TaskDef, hooks, load_ref, source_dir, target_of

__all__ = [
    "Choice",
    "ParamSpec",
    "Range",
    "Registry",
    "Signature",
    "TaskDef",
    "TaskInfo",
    "JobOptions",
    "check",
    "check_options",
    "check_submit_options",
    "describe",
    "hooks",
    "json_schema",
    "load_ref",
    "parse_text",
    "plain",
    "plain_arguments",
    "registry",
    "shown",
    "signature_of",
    "source_dir",
    "target_of",
    "task",
    "unknown_task",
]
