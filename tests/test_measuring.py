"""benchmarks/measuring.py: what a command cost, and the table."""

from __future__ import annotations

import sys

import pytest

from benchmarks.measuring import peak_mb, print_table, run


def test_a_command_has_its_seconds_its_output_and_the_peak_of_its_own_process() -> None:
    ballast = bytearray(300_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])  # this process must not be counted as the command's
    held = run([sys.executable, "-c", "import time; x = b'1' * 10**8; print(len(x)); time.sleep(0.3)"])
    assert held.output == "100000000\n"
    assert 0.3 <= held.seconds < 30
    assert 100 <= held.peak_mb < 200 < peak_mb()


def test_the_environment_of_a_command_can_be_added_to() -> None:
    script = "import os; print(os.environ['ADDED'], 'PATH' in os.environ)"
    assert run([sys.executable, "-c", script], {"ADDED": "yes"}).output == "yes True\n"


def test_a_command_that_fails_ends_the_benchmark_with_its_own_words() -> None:
    with pytest.raises(SystemExit, match=r"(?s)ended with code 7:.*out of luck"):
        run([sys.executable, "-c", "import sys; sys.stderr.write('out of luck'); sys.exit(7)"])


def test_the_columns_of_a_table_are_as_wide_as_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("", "s", "x"), [("ours", 1.234, ""), ("a peer", 123.0, 99.5)])
    assert capsys.readouterr().out.splitlines() == ["             s      x", "ours      1.23", "a peer  123.00  99.50"]
