"""Which cases of a test ``make test`` runs, and which it leaves to ``make test-slow``: CI runs both."""

from collections import defaultdict

import pytest


def cases(table, short):
    """Return the entries of a table for ``parametrize``; those that are not among the short ones are slow tests."""
    rows = [(entry, entry if isinstance(entry, tuple) else (entry,)) for entry in table]
    return [pytest.param(*row, marks=() if entry in short else pytest.mark.slow) for entry, row in rows]


def left_to_slow_tests(items):
    """Return the items that others cover.

    Of tests that run in a graph, as ``fit`` does, and in other ways too, these are the other ways. Of tests over
    several tables they are all but a diagonal, which has each entry of each table once, those of a short one again.
    """
    short = [item for item in items if not (item.get_closest_marker("slow") or item.get_closest_marker("backends"))]
    in_other_ways = [item for item in short if {"XLA", "eagerly"} & {*_ids(item)}]
    tests = defaultdict(list)
    for item in short:
        if item not in in_other_ways:
            tests[item.nodeid.partition("[")[0]].append(item)
    return [*in_other_ways, *(item for of_test in tests.values() for item in _off_the_diagonal(of_test))]


def _ids(item):
    return item.name.partition("[")[2].rstrip("]").split("-")


def _off_the_diagonal(of_test):
    """Return the cases that are not, for a number, the entry of that number of every table; a short one begins anew."""
    tables = [_numbers(table) for table in zip(*map(_entries, of_test), strict=True)]
    longest = max(tables, key=max, default=())
    return [
        case
        for index, case in enumerate(of_test)
        if any(table[index] != longest[index] % (max(table) + 1) for table in tables)
    ]


def _entries(case):
    """List, for each table of a test, which entry of it a case has."""
    names = [mark.args[0] for mark in case.iter_markers("parametrize")]
    each = [of_table.split(",") if isinstance(of_table, str) else of_table for of_table in names]
    return [tuple(id(case.callspec.params[name.strip()]) for name in of_table) for of_table in each]


def _numbers(entries):
    """Number the entries of a table in the order in which they come."""
    numbers = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    return [numbers[entry] for entry in entries]
