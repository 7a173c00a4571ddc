"""Keeps model libraries from writing on stdout and stderr while they load: `--json` owns stdout."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet() -> Generator[None]:
    """Turns off progress bars and log lines of transformers and Sentence Transformers, and back as they were.

    Warnings of the `warnings` module are not touched: those are for developers, and tests fail on them.
    """
    import logging

    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    sentence_logger = logging.getLogger("sentence_transformers")
    level = sentence_logger.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    sentence_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        sentence_logger.setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
