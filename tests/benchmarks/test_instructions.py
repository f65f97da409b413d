from __future__ import annotations

import pytest

from benchmarks.instructions import (
    WORKLOADS,
    Workload,
    by_function,
    by_object,
    exclusive_costs,
    function_name,
    object_name,
    play,
)

CALLGRIND = """\
# callgrind format
events: Ir
positions: line

ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ceval.c
fn=(1) eval
10 100
+3 20
cob=(2) /x/lib_core.so
cfi=(2) stream.rs
cfn=(2) receive
calls=5 40
* 5000
fi=(3) object.h
-2 7

ob=(2)
fn=(2)
40 4000
cob=(1)
cfn=(1)
calls=1 10
+1 900

ob=(1)
fn=(3) eval'2
12 3
totals: 4130
"""


def test_a_function_costs_what_it_took_itself() -> None:
    assert exclusive_costs(CALLGRIND.splitlines(keepends=True)) == {
        ("/usr/lib/libpython3.11.so.1.0", "eval"): 127,
        ("/x/lib_core.so", "receive"): 4000,
        ("/usr/lib/libpython3.11.so.1.0", "eval'2"): 3,
    }


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/x/lib_core.so", "extension"),
        ("/y/ferrows/_core.cpython-311-x86_64-linux-gnu.so", "extension"),
        ("/usr/lib/libpython3.11.so.1.0", "interpreter"),
        ("/usr/bin/python3.12", "interpreter"),
        ("/y/_asyncio.cpython-311-x86_64-linux-gnu.so", "_asyncio"),
        ("/lib/libc.so.6", "libc"),
        ("/lib/libc-2.31.so", "libc"),
        ("/lib/libcrypto.so.3", "libcrypto"),
        ("???", "???"),
    ],
)
def test_objects_have_short_names(file: str, name: str) -> None:
    assert object_name(file) == name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("_core::stream::run_turn::h0123456789abcdef", "_core::stream::run_turn"),
        ("call_function.constprop.0.isra.3", "call_function"),
        ("_PyEval_EvalFrameDefault'2", "_PyEval_EvalFrameDefault"),
    ],
)
def test_functions_lose_what_compilers_append(name: str, short: str) -> None:
    assert function_name(name) == short


def test_tables_add_up_what_has_one_name() -> None:
    costs = {
        ("/lib/libpython3.so", "eval"): 60.0,
        ("/lib/libpython3.so", "eval'2"): 15.0,
        ("/x/lib_core.so", "a|b"): 25.0,
    }
    assert by_object(costs).splitlines()[2:] == ["| interpreter | 75 | 75.0% |", "| extension | 25 | 25.0% |"]
    assert by_function(costs).splitlines()[2:] == [
        "| `eval` | interpreter | 75 | 75.0% |",
        "| `a\\|b` | extension | 25 | 25.0% |",
    ]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_workloads_are_answered(workload: Workload) -> None:
    play(workload, 64 if workload.batch else 3)  # asserts that every message and every connection was served
    assert workload.counts[0] < workload.counts[1]
