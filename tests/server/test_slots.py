import os
import subprocess
import sys
import threading
import time

import pytest

from mnist_server.metrics import SLOT_BYTES, Metrics
from mnist_server.slots import Slots

TIMEOUT = 30.0


def test_a_slot_is_empty_until_someone_enters_and_after_he_has_left() -> None:
    slots = Slots(2)
    assert [(slot.pid, slot.generation) for slot in slots.all] == [(0, 0)] * 2
    slots.all[1].enter()
    slots.all[1].generation = 7
    assert [(slot.pid, slot.generation) for slot in slots.all] == [(0, 0), (os.getpid(), 7)]
    slots.all[1].leave()
    assert slots.all[1].pid == 0
    slots.all[1].enter()
    assert slots.all[1].generation == 0  # whoever comes next has to look for himself
    before = slots.all[1].beats
    slots.all[1].beat()
    assert (slots.all[0].beats, slots.all[1].beats) == (0, before + 1)


def test_counters_are_of_the_size_that_metrics_needs_and_in_nobody_elses_way() -> None:
    slots = Slots(3)
    assert {len(counters) for counters in slots.counters} == {SLOT_BYTES}
    for slot in slots.all:
        slot.counters[:] = b"\xff" * SLOT_BYTES
    assert [(slot.pid, slot.generation) for slot in slots.all] == [(0, 0)] * 3


def test_another_process_reads_and_writes_the_same_memory() -> None:
    slots = Slots(2)
    program = f"""
from mnist_server.metrics import Metrics
from mnist_server.slots import Slots
slots = Slots(2, {slots.descriptor})
slots.all[1].enter()
slots.all[1].generation = slots.all[0].generation + 1
Metrics(slots.all[1].counters, slots.counters).observe("/grpc.health.v1.Health/Check", 0, 1000)
"""
    slots.all[0].generation = 41
    metrics = Metrics(slots.all[0].counters, slots.counters)
    metrics.observe("/grpc.health.v1.Health/Check", 0, 1000)
    process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[slots.descriptor])
    assert process.wait(TIMEOUT) == 0
    assert (slots.all[1].pid, slots.all[1].generation) == (process.pid, 42)
    assert metrics.read().methods["/grpc.health.v1.Health/Check"].started == 2


class TestEverywhere:
    def test_nobody_who_is_there_is_behind(self) -> None:
        slots = Slots(3)
        assert slots.everywhere(5, seconds=0)
        slots.all[0].enter()
        assert not slots.everywhere(5, seconds=0)
        slots.all[0].generation = 4
        assert not slots.everywhere(5, seconds=0)
        slots.all[0].generation = 6
        assert slots.everywhere(5, seconds=0)

    @pytest.mark.parametrize("how", ["follows", "leaves"])
    def test_waits_for_one_that_is_behind(self, how: str) -> None:
        slots = Slots(2)
        slots.all[1].enter()
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(slots.everywhere(1, seconds=TIMEOUT)))
        waiting.start()
        time.sleep(0.05)
        assert not found
        if how == "follows":
            slots.all[1].generation = 1
        else:
            slots.all[1].leave()
        waiting.join(TIMEOUT)
        assert found == [True]

    def test_gives_up_when_nobody_waits_any_more(self) -> None:
        slots = Slots(1)
        slots.all[0].enter()
        assert not slots.everywhere(1, seconds=TIMEOUT, wanted=lambda: False)
