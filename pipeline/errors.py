"""The errors a person sees: one clear sentence, and what to do about it."""


class HoneloopError(Exception):
    """Something failed. The message says what; `hint` says what to do. The command line exits with 1."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadInputError(HoneloopError):
    """What was asked for cannot be done as asked: a wrong name, file, line or value. Exits with 2.

    `field` names the one part of a request that is wrong, as the HTTP service calls it; empty: no single one.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field


class UnavailableError(HoneloopError):
    """It cannot be done now, but may be in a while: nothing is indexed yet, a cluster has no node."""


class DatabaseAwayError(UnavailableError):
    """The database cannot be reached, or went away: whoever waits for it may do the same again."""


class OvertakenError(HoneloopError):
    """What the work rested on was changed by others while it was done: nothing is wrong, and nothing was
    changed. Doing it again mends it.
    """
