"""The figures of CPython's multiprocessing beside those of wpool's objects: microseconds for each operation.

usage: exchange.py WHAT COUNT
"""

import multiprocessing
import sys
import time

ITEM = b"x" * 100
context = multiprocessing.get_context("fork")


def measure(count, first, second=None, setup=None):
    """Microseconds for each of `count` operations of `second` (or of `first`, if there is only one process)."""
    started = context.Value("d", 0.0, lock=False)
    took = context.Value("d", 0.0, lock=False)
    ready = context.Barrier(2 if second else 1)

    def timed(body):
        ready.wait()
        started.value = time.monotonic()
        body(count)
        took.value = time.monotonic() - started.value

    def beside(body):
        ready.wait()
        body(count)

    processes = [context.Process(target=timed, args=(second or first,))]
    if second:
        processes.append(context.Process(target=beside, args=(first,)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return took.value / count * 1e6


def queue(count):
    queue = context.Queue()

    def put(count):
        for _ in range(count):
            queue.put(ITEM)

    def get(count):
        for _ in range(count):
            queue.get()

    return measure(count, put, get)


def queue_round_trip(count):
    there, back = context.Queue(), context.Queue()

    def echo(count):
        for _ in range(count):
            back.put(there.get())

    def ask(count):
        for _ in range(count):
            there.put(ITEM)
            back.get()

    return measure(count, echo, ask)


def pipe(count):
    receiver, sender = context.Pipe(duplex=False)

    def send(count):
        for _ in range(count):
            sender.send_bytes(ITEM)

    def receive(count):
        for _ in range(count):
            receiver.recv_bytes()

    return measure(count, send, receive)


def lock(count):
    lock = context.Lock()

    def body(count):
        for _ in range(count):
            lock.acquire()
            lock.release()

    return measure(count, body)


def lock_turns(count):
    """Two processes that want the same lock of a manager: the peer that survives the death of an owner's
    neighbour."""
    manager = context.Manager()
    lock = manager.Lock()

    def body(count):
        for _ in range(count):
            lock.acquire()
            lock.release()

    return measure(count, body, body)


def semaphore_turns(count):
    lock = context.Lock()

    def body(count):
        for _ in range(count):
            lock.acquire()
            lock.release()

    return measure(count, body, body)


if __name__ == "__main__":
    what, count = sys.argv[1], int(sys.argv[2])
    print(globals()[what](count))
