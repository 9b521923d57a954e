"""Whether a run's process is still there: asked of any system without a sign to the process itself."""

import os
import socket
import subprocess
import sys

import pytest

from fa_tracking.tracking import process

HERE = socket.gethostname()


def test_a_process_that_is_asked_for_is_alive_until_it_ends_and_goes_on_being_asked() -> None:
    asked = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert process.is_alive(process.this()) and process.is_alive(f"{HERE}:{asked.pid}")
        assert asked.poll() is None and process.is_alive(f"{HERE}:{asked.pid}")
        asked.communicate(b"\n")
        assert asked.returncode == 0  # the question has not ended it
        assert not process.is_alive(f"{HERE}:{asked.pid}")
    finally:
        asked.kill()


@pytest.mark.skipif(os.name == "nt", reason="the first process of Windows has another number")
def test_another_users_process_is_alive() -> None:
    assert process.is_alive(f"{HERE}:1")


@pytest.mark.parametrize("pid", ["", "0", "-1", "x", "1.0", "²", "1_0", str(2**31), "9" * 5000])
def test_what_is_no_number_of_a_process_is_not_alive(pid: str) -> None:
    assert not process.is_alive(f"{HERE}:{pid}")


def test_another_machines_process_is_believed_and_one_without_a_name_is_gone() -> None:
    assert process.is_alive("elsewhere:1")
    assert not process.is_alive("")
