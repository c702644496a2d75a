"""What an error of a machine far away means: try again, try another solver, or give up."""

from __future__ import annotations

from enum import Enum

__all__ = ["Fault", "fault_of", "may_have_run"]


class Fault(Enum):
    """What is to be done."""

    AGAIN = "it may pass"
    ELSEWHERE = "the solver is gone"
    FINAL = "it will not pass by itself"


# Names of classes, Ocean's among them, so that nothing has to be imported; the first that fits decides.
_KINDS = (
    (Fault.FINAL, ("SolverAuthenticationError", "ResourceAuthenticationError", "ResourceAccessForbiddenError")),
    (Fault.ELSEWHERE, ("SolverOfflineError", "SolverNotFoundError", "FailoverCondition")),
    (Fault.FINAL, ("ResourceBadRequestError", "UnsupportedSolverError", "ConfigFileError", "ImportError")),
    (Fault.FINAL, ("ValueError", "TypeError", "AttributeError")),
)
_FORBIDDEN = (401, 403)
_PASSING = (408, 425, 429)


def fault_of(error: BaseException) -> Fault:
    """Judge an error by its HTTP status, where it has one, and by its class.

    >>> fault_of(ConnectionRefusedError()), fault_of(ValueError("API token not defined"))
    (<Fault.AGAIN: 'it may pass'>, <Fault.FINAL: 'it will not pass by itself'>)
    """
    status = _status(error)
    if status in _FORBIDDEN:
        return Fault.FINAL
    if status in _PASSING or (status is not None and status >= 500):
        return Fault.AGAIN
    names = {kind.__name__ for kind in type(error).__mro__}
    return next((fault for fault, classes in _KINDS if not names.isdisjoint(classes)), Fault.AGAIN)


def may_have_run(error: BaseException) -> bool:
    """Whether a submission that ended in ``error`` may have cost machine time: its answer was waited for in vain."""
    return any("Timeout" in kind.__name__ for kind in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of Ocean or of requests carries."""
    for code in (getattr(error, "error_code", None), getattr(getattr(error, "response", None), "status_code", None)):
        if isinstance(code, int) and code >= 100:
            return code
    return None
