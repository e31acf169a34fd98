import threading

import pytest

from mnist_core.lanes import Lanes


@pytest.mark.parametrize("total", [2, 3, 10])
def test_two_threads_halve_the_work_and_are_there_at_once(total: int) -> None:
    seen: dict[int, slice] = {}
    threads = set()
    both = threading.Barrier(2, timeout=10)

    def work(lane: int, part: slice) -> None:
        both.wait()  # each waits for the other
        seen[lane] = part
        threads.add(threading.get_ident())

    Lanes().run(work, total)
    things = list(range(total))
    assert things[seen[0]] + things[seen[1]] == things
    assert len(things[seen[0]]) == (total + 1) // 2
    assert len(threads) == 2
    assert threading.get_ident() in threads


def test_one_thing_is_done_here_alone() -> None:
    seen = []
    Lanes().run(lambda lane, part: seen.append((lane, part, threading.get_ident())), 1)
    assert seen == [(0, slice(0, 1), threading.get_ident())]


@pytest.mark.parametrize("failing", [0, 1])
def test_what_goes_wrong_in_either_is_raised_when_both_are_done(failing: int) -> None:
    done = []

    def work(lane: int, part: slice) -> None:
        if lane == failing:
            raise ArithmeticError(lane)
        done.append(lane)

    lanes = Lanes()
    with pytest.raises(ArithmeticError, match=str(failing)):
        lanes.run(work, 2)
    assert done == [1 - failing]
    lanes.run(lambda lane, part: done.append(lane), 2)  # it goes on
    assert len(done) == 3
