"""What is said of an error of Keras's: one line of it, which makes sense by itself."""

import pytest

from rewriter.core.errors import first_line


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Objects must be tracked. See the information below:\n  Function name = x", "Objects must be tracked."),
        ("Two values lie below: 3 and 4", "Two values lie below: 3 and 4"),
        (
            "Exception encountered when calling layer 'a'.\n\nIt is cold. Inputs received: 1",
            "Exception encountered when calling layer 'a'. It is cold.",
        ),
        ("", "ValueError"),
    ],
)
def test_one_line_makes_sense_by_itself(message, said):
    assert first_line(ValueError(message)) == said
