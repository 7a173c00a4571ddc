"""What carries out the steps of a run that Dagster launches: the executor that HONELOOP_EXECUTOR names.

What does not belong here: what starts a run (the run launcher, in dagster.yaml or of Dagster's chart), and
the loop that a command does by itself (in_process.py), which has no executor.

Any will do: assets hand each other nothing but rows and files, blocking checks are steps of the plan that any
executor follows, and pools count runs, not steps. In one process is the default because torch and the encoder
are then loaded once, not once for each step and check; and because a run whose process is killed is tried
again, while a step whose process is killed is a step that failed.
"""

from importlib import import_module

import dagster as dg

from pipeline.errors import BadInputError

# The extra that brings each; what is in none is Dagster's own.
_NAMED = {
    "in-process": ("dagster:in_process_executor", None),
    "multiprocess": ("dagster:multiprocess_executor", None),
    "k8s-job": ("dagster_k8s:k8s_job_executor", "kubernetes"),
}


def executor_named(name: str) -> dg.ExecutorDefinition:
    """The executor of that name.

    Args:
        name: in-process, multiprocess, k8s-job, or module:attribute.

    Raises:
        BadInputError: there is none, or its package is not installed.
    """
    path, extra = _NAMED.get(name, (name, None))
    module, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise BadInputError(
            f"HONELOOP_EXECUTOR={name} needs the module {error.name}, and it is not installed.",
            hint=f"Run: pip install -c constraints.txt -e '.[{extra}]'; or unset HONELOOP_EXECUTOR."
            if extra
            else "Install the package that has it, or unset HONELOOP_EXECUTOR.",
        ) from error
    if not isinstance(found, dg.ExecutorDefinition):
        raise BadInputError(
            f"HONELOOP_EXECUTOR={name} is no executor of Dagster's.",
            hint=f"Choose one of {', '.join(_NAMED)}, or module:attribute of an ExecutorDefinition.",
        )
    return found
