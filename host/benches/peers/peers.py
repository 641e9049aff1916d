"""Python's contenders. A whole command reads a file of lines and writes a file of results. The others print a figure.

    peers.py what                                            the modules that can be imported, with their versions
    peers.py rounds                                          rounds of xorshift in 100 microseconds of a processor
    peers.py compile GUEST ARTEFACT                          for the contenders of wasmtime's binding
    peers.py whole HOW WORK JOBS INPUT OUTPUT [ARTEFACT]
    peers.py round-trip HOW COUNT PAUSE                      microseconds of one task
    peers.py start-join METHOD COUNT                         seconds of all
    peers.py memory HOW JOBS                                 KiB private, and proportional, of a worker

Modules are imported where they are needed: nobody pays for another's import.
"""
import sys
import time

MASK = (1 << 64) - 1


def upper(line):
    return line.upper()


def echo(line):
    return line


def xorshift(line):
    rounds, x = map(int, line.split())
    for _ in range(rounds):
        x ^= (x << 13) & MASK
        x ^= x >> 7
        x ^= (x << 17) & MASK
    return b"%016x" % x


def nothing():
    pass


# wasmtime's binding: the state of a worker.
engine = component = linker = store = run = None


def load(artefact):
    from wasmtime import Engine, Store
    from wasmtime.component import Component, Linker
    global engine, component, linker, store, run
    engine = Engine()
    component = Component.deserialize_file(engine, artefact)
    linker = Linker(engine)
    store = Store(engine)
    run = linker.instantiate(store, component).get_func(store, "run")


def reused(line):
    result = run(store, line)
    run.post_return(store)
    return result


def fresh(line):
    from wasmtime import Store
    store = Store(engine)
    return linker.instantiate(store, component).get_func(store, "run")(store, line)


def whole(how, work, jobs, source, target, artefact=None):
    jobs, f = int(jobs), {"upper": upper, "echo": echo, "xorshift": xorshift}[work]
    with open(source, "rb") as file:
        lines = file.read().split(b"\n")[:-1]
    with open(target, "wb") as file:
        for result in results(how, f, jobs, lines, artefact):
            file.write(result)
            file.write(b"\n")


def results(how, f, jobs, lines, artefact):
    # The size of chunks that Pool.map chooses.
    chunk = -(-len(lines) // (4 * jobs))
    if how in ("map", "chunksize=1", "imap_unordered"):
        from multiprocessing import Pool
        with Pool(jobs) as pool:
            if how == "map":
                yield from pool.map(f, lines)
            elif how == "chunksize=1":
                yield from pool.map(f, lines, chunksize=1)
            else:
                yield from pool.imap_unordered(f, lines)
    elif how in ("binding-reused", "binding-fresh"):
        from multiprocessing import Pool
        with Pool(jobs, load, (artefact,)) as pool:
            yield from pool.map(reused if how == "binding-reused" else fresh, lines)
    elif how in ("executor", "executor-1"):
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(jobs) as pool:
            yield from pool.map(f, lines, chunksize=chunk if how == "executor" else 1)
    elif how in ("loky", "loky-1"):
        from loky import get_reusable_executor
        pool = get_reusable_executor(jobs)
        yield from pool.map(f, lines, chunksize=chunk if how == "loky" else 1)
        pool.shutdown()
    elif how == "pebble-1":
        from pebble import ProcessPool
        with ProcessPool(jobs) as pool:
            yield from pool.map(f, lines, chunksize=1).result()
    else:
        sys.exit(f"peers.py: nobody is called {how}")


def round_trip(how, count, pause):
    count, pause, line = int(count), float(pause), b"sixteen bytes ok"
    if how == "pool":
        from multiprocessing import Pool
        pool = Pool(2)
        call = lambda: pool.apply(upper, (line,))
        over = pool.terminate
    elif how == "executor":
        from concurrent.futures import ProcessPoolExecutor
        pool = ProcessPoolExecutor(2)
        call = lambda: pool.submit(upper, line).result()
        over = pool.shutdown
    elif how == "loky":
        from loky import get_reusable_executor
        pool = get_reusable_executor(2)
        call = lambda: pool.submit(upper, line).result()
        over = pool.shutdown
    elif how == "pebble":
        from pebble import ProcessPool
        pool = ProcessPool(2)
        call = lambda: pool.schedule(upper, args=(line,)).result()
        over = pool.stop
    else:
        sys.exit(f"peers.py: nobody is called {how}")
    for _ in range(50):
        assert call() == line.upper()
    took = []
    for _ in range(count):
        if pause:
            time.sleep(pause)
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    over()
    took.sort()
    print(took[len(took) // 2] * 1e6)


def start_join(method, count):
    from multiprocessing import get_context
    context = get_context(method)

    def once():
        process = context.Process(target=nothing)
        process.start()
        process.join()
        assert process.exitcode == 0

    once()
    started = time.perf_counter()
    for _ in range(int(count)):
        once()
    print(time.perf_counter() - started)


def pid(_):
    import os
    # Long enough for each worker to get a task.
    time.sleep(0.1)
    return os.getpid()


def memory(how, jobs):
    jobs = int(jobs)
    if how == "pool":
        from multiprocessing import Pool
        pool = Pool(jobs)
        pids = set(pool.map(pid, range(4 * jobs), chunksize=1))
        over = pool.terminate
    elif how == "executor":
        from concurrent.futures import ProcessPoolExecutor
        pool = ProcessPoolExecutor(jobs)
        pids = set(pool.map(pid, range(4 * jobs)))
        over = pool.shutdown
    else:
        sys.exit(f"peers.py: nobody is called {how}")
    private = proportional = 0
    for each in pids:
        with open(f"/proc/{each}/smaps_rollup") as file:
            for line in file:
                words = line.split()
                if words[0] in ("Private_Clean:", "Private_Dirty:"):
                    private += int(words[1])
                elif words[0] == "Pss:":
                    proportional += int(words[1])
    over()
    print(private / len(pids), proportional / len(pids))


def rounds():
    best = 0
    for _ in range(20):
        started = time.thread_time()
        xorshift(b"20000 88172645463325252")
        best = max(best, 20000 * 100e-6 / (time.thread_time() - started))
    print(int(best))


def compile(guest, artefact):
    from wasmtime import Engine
    from wasmtime.component import Component
    with open(guest, "rb") as file:
        text = file.read()
    code = Component(Engine(), text.decode() if guest.endswith(".wat") else text).serialize()
    with open(artefact, "wb") as file:
        file.write(code)


def what():
    from importlib import import_module
    from importlib.metadata import version
    print("python", sys.version.split()[0])
    print("executable", sys.executable)
    for name, distribution in (("loky", "loky"), ("pebble", "Pebble"), ("wasmtime.component", "wasmtime")):
        try:
            import_module(name)
            print(distribution.lower(), version(distribution))
        except ImportError:
            pass


if __name__ == "__main__":
    commands = {
        "what": what, "rounds": rounds, "compile": compile, "whole": whole, "round-trip": round_trip,
        "start-join": start_join, "memory": memory,
    }
    commands[sys.argv[1]](*sys.argv[2:])
