from __future__ import annotations

import threading
import time

from edgeclip.runtime.box import Box


def test_the_newest_wins_and_the_rest_is_counted() -> None:
    box: Box[int] = Box(1, newest_wins=True)
    for item in range(5):
        box.put(item)
    assert box.get(0) == 4
    assert box.discarded == 4
    assert box.get(0) is None


def test_a_full_box_makes_the_producer_wait_and_loses_nothing() -> None:
    box: Box[int] = Box(2, newest_wins=False)

    def produce() -> None:
        for item in range(100):
            box.put(item)
        box.close()

    producer = threading.Thread(target=produce)
    producer.start()
    taken = []
    while not box.exhausted:
        item = box.get(1)
        if item is not None:
            taken.append(item)
    producer.join()
    assert taken == list(range(100))
    assert box.discarded == 0


def test_closing_frees_a_waiting_producer_and_keeps_what_is_inside() -> None:
    box: Box[int] = Box(1, newest_wins=False)
    box.put(1)
    producer = threading.Thread(target=box.put, args=(2,))
    producer.start()
    box.close()
    producer.join(2)
    assert not producer.is_alive()
    assert not box.exhausted
    assert box.get(0) == 1
    assert box.exhausted


def test_get_wakes_for_an_item_and_gives_up_in_time() -> None:
    box: Box[int] = Box(1, newest_wins=True)
    start = time.monotonic()
    assert box.get(0.05) is None
    assert 0.04 < time.monotonic() - start < 1
    threading.Timer(0.05, box.put, (7,)).start()
    assert box.get(5) == 7
    assert time.monotonic() - start < 3
