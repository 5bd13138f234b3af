"""Which cases ``make test`` leaves to ``make test-slow``."""

import pytest

from short_cases import cases, left_to_slow_tests

MARKS = [pytest.mark.parametrize("letter", "abcd"), pytest.mark.parametrize(("number", "name"), [(1, "x"), (2, "x")])]


class Item:
    """What pytest collects, as far as it is asked."""

    def __init__(self, values, ids="", slow=()):
        self.name, self.slow = f"test_it[{ids or '-'.join(map(str, values))}]", slow
        self.nodeid, self.callspec = f"tests/test_it.py::{self.name}", self
        self.params = dict(zip(("letter", "number", "name"), values, strict=True))

    def iter_markers(self, _):
        return MARKS

    def get_closest_marker(self, name):
        return name in self.slow


def items(**options):
    return [Item((letter, *row), **options) for letter in "abcd" for row in ((1, "x"), (2, "x"))]


def test_each_entry_of_each_table_is_short_once():
    """Those of the shorter table are again, so that each of the longer one is."""
    every = items()
    short = [tuple(item.params.values()) for item in every if item not in left_to_slow_tests(every)]
    assert short == [("a", 1, "x"), ("b", 2, "x"), ("c", 1, "x"), ("d", 2, "x")]


def test_a_graph_stands_for_the_other_ways():
    assert len(left_to_slow_tests(items(ids="a-XLA"))) == 8


@pytest.mark.parametrize("mark", ["slow", "backends"])
def test_what_make_test_does_not_run_is_left_as_it_is(mark):
    assert left_to_slow_tests(items(slow=(mark,))) == []


def test_a_table_names_the_short_ones_itself():
    assert [
        [*map(str, each.values), *(mark.name for mark in each.marks)] for each in cases(["a", ("b", 1)], {"a"})
    ] == [
        ["a"],
        ["b", "1", "slow"],
    ]
