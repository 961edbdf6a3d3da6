"""All jobs in this process, on one device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from imputer.engines.worker import UNANSWERED, Feed, J, MakeWorker, OnLost, R, Stop, reason_of


def run(
    jobs: Iterable[J],
    make_worker: MakeWorker[J, R],
    *,
    device: str,
    stop: Stop,
    on_lost: OnLost[J, R] | None = None,
) -> Iterator[R]:
    """Give a record for each job, as they are done.

    Parameters
    ----------
    jobs : drawn one by one, when the worker asks.
    make_worker : called with `device`; what it raises is raised here.
    stop : turns true when no more jobs shall be handed out; what runs is finished or dropped by the worker.
    on_lost : makes the record of a job that its worker raised an error on, or never answered. Of several that were
        at hand each is tried once more, alone and by a new worker. None: the error is raised here.
    """
    source = iter(jobs)
    worker = make_worker(device)
    suspects: deque[J] = deque()
    is_drawn = False
    while suspects or not is_drawn:
        is_retry = bool(suspects)
        feed = Feed(iter([suspects.popleft()]) if is_retry else source, stop)
        reason = UNANSWERED
        try:
            for record in worker.run(feed, stop):
                if feed.settle(record):
                    yield record
        except Exception as error:
            if on_lost is None or not feed.close():
                raise
            reason = reason_of(error)
            worker = make_worker(device)  # nobody knows what state the former is in
        if not feed.was_asked:
            raise RuntimeError("the worker takes no jobs")
        is_drawn = is_drawn or (feed.is_over and not is_retry)
        is_stopping = stop()
        left = feed.close()
        if is_stopping and reason == UNANSWERED:
            return  # what is left was dropped, as it should be
        if on_lost is not None and len(left) == 1:
            yield on_lost(left[0], reason)
        elif on_lost is not None:
            suspects.extend(left)
        if is_stopping:
            return
