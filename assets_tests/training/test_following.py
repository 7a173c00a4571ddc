"""What training processes tell is shown as if it were told here, and what ends one is raised here."""

from __future__ import annotations

import pytest

from assets_tests.training.notes import Notes
from pipeline.errors import BadInputError, HoneloopError
from pipeline.training.following import Following, Message, Telling, crashed, failure


def test_progress_is_passed_on() -> None:
    sent: list[Message] = []
    telling = Telling(sent.append)
    telling.note("Begun.")
    with telling.stage("Fine-tuning", 6) as advance:
        advance(4)
        telling.note("Step 4.")
        advance(2)
    progress = Notes()
    with Following(progress) as following:
        for message in sent:
            following.take(message)
    assert (progress.notes, progress.totals, progress.done) == (["Begun.", "Step 4."], {"Fine-tuning": 6}, 6)


def test_what_a_process_refuses_is_raised_here() -> None:
    with Following(Notes()) as following:
        for error in (HoneloopError("No.", hint="Do."), BadInputError("Wrong.", hint="Write it so.")):
            with pytest.raises(type(error)) as raised:
                following.take(failure(error))
            assert (raised.value.message, raised.value.hint) == (error.message, error.hint)
            assert type(raised.value) is type(error)


def test_a_defect_comes_with_its_traceback() -> None:
    def defective() -> None:
        raise ZeroDivisionError("by nothing")

    with pytest.raises(ZeroDivisionError) as caught:
        defective()
    said = str(crashed(3, failure(caught.value)))
    assert "Training process 3 failed" in said
    assert "in defective" in said
    assert "by nothing" in said
