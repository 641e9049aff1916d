"""The guest `python`: runs any source in the CPython that it is part of.

componentize-py imports this module when the component is built, and keeps the memory as it is then. So this
file and everything that it imports are loaded in each new instance, without any work at that time.
"""

import gc
import io
import json
import linecache
import random
import sys
import traceback

import library
import wit_world
from componentize_py_types import Err
from wit_world.imports import environment, exit as wasi_exit

MAIN = "__main__"
NAME = "<string>"


class Script:
    """A source that has run as a module: its names are kept, so that its functions can be called."""

    def __init__(self, source, name):
        self.source, self.name = source, name
        self.names = {"__name__": "script", "__file__": name, "__builtins__": __builtins__}
        exec(compile(source, name, "exec", dont_inherit=True), self.names)

    def func(self, name):
        found = self.names.get(name)
        if callable(found):
            return found
        others = ", ".join(self.functions()) or "none"
        raise NameError(f"{self.name} has no function {name!r}; its functions: {others}")

    def functions(self):
        return [name for name, found in self.names.items() if callable(found) and not name.startswith("_")]


# Of a kept instance: what has run already, by what was asked for. Cleared when it has many entries, since the
# other side chooses them.
KEPT_MAX = 64
kept = {}

# Whether this instance has drawn a seed of its own. In the memory that was kept at the build it has not.
is_seeded = False


def begin():
    """The begin of each task. All instances begin with the same memory: the generator needs a seed of its
    own."""
    global is_seeded
    if not is_seeded:
        random.seed()
        library.refresh()
        is_seeded = True


def keep(key, value):
    if len(kept) >= KEPT_MAX:
        kept.clear()
    kept[key] = value
    return value


def script(source, name):
    key = (source, name)
    return kept.get(key) or keep(key, Script(source, name))


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # The script has closed it, or the task's output is full.
            pass


def leave(code):
    """Ends the instance with the code of `SystemExit`."""
    if code is None:
        code = 0
    elif not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    flush()
    wasi_exit.exit_with_code(code & 0xFF)


def explained(error, source, name):
    """The lines of an exception: its type and message, then its traceback, from the script's frame on."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
    last = "".join(traceback.format_exception_only(error)).rstrip().split("\n")
    # Of a syntax error the place comes first, and the message last.
    head = last[-1] if isinstance(error, SyntaxError) else last[0]
    if lines[-1] == head:
        lines.pop()
    if lines and lines[0] == head:
        lines.pop(0)
    return head, lines


def failed(error, source, name):
    """An exception as the text of an error, or the end of the instance for `SystemExit`."""
    if isinstance(error, SystemExit):
        leave(error.code)
    flush()
    head, lines = explained(error, source, name)
    return Err("\n".join([head, *lines]))


def run_program(source, name, data):
    """Runs a source as a program. Returns the bytes that it writes to standard output."""
    code = compile(source, name, "exec", dont_inherit=True)
    out = io.BytesIO()
    stdin, stdout = sys.stdin, sys.stdout
    sys.argv = [name]
    sys.stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=False)
    done = False
    try:
        try:
            exec(code, {"__name__": MAIN, "__file__": name, "__builtins__": __builtins__})
        except SystemExit as end:
            if end.code not in (None, 0):
                raise
        done = True
    finally:
        try:
            sys.stdout.flush()
            written = out.getvalue()
        except ValueError:
            # The script has closed its standard output.
            written = b""
        sys.stdin, sys.stdout = stdin, stdout
        if not done:
            # There is no result: what was printed is shown beside the error.
            sys.stdout.buffer.write(written)
    return written


TRUE = {"true": True, "false": False, "1": True, "0": False}


def as_bool(text):
    try:
        return TRUE[text.strip().lower()]
    except KeyError:
        raise ValueError(f"neither true nor false: {text!r}") from None


def as_json_or_text(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


# How a text becomes a parameter's value, by the parameter's annotation. An annotation may be a text itself.
READERS = {int: int, float: float, bool: as_bool, str: str, bytes: str.encode}
READERS |= {kind.__name__: reader for kind, reader in READERS.items()}


def reader(annotation, otherwise):
    try:
        return READERS.get(annotation, otherwise)
    except TypeError:
        # An annotation without a hash.
        return otherwise


class Call:
    """A function with its fixed arguments, called for one record after the other."""

    def __init__(self, func, job):
        self.func = func
        self.names, self.needed = parameters(func)
        notes = getattr(func, "__annotations__", {})
        texts, by_name = job.get("args", []), job.get("kwargs", {})
        note = lambda name: notes.get(name)
        positional = self.names[: len(texts)]
        self.args = [
            reader(note(positional[i] if i < len(positional) else None), as_json_or_text)(text)
            for i, text in enumerate(texts)
        ]
        self.kwargs = {name: reader(note(name), as_json_or_text)(text) for name, text in by_name.items()}
        free = [name for name in self.names[len(texts) :] if name not in by_name]
        needed = [name for name in free if name in self.needed]
        self.takes_none = not free and self.names is not UNKNOWN
        first = free[0] if free else None
        # A record of one parameter goes by its name if a parameter before it is fixed by name.
        self.by_name = first if first and by_name and self.needed is not UNKNOWN else None
        self.json = job.get("input") == "json"
        self.several = len(needed) > 1
        self.as_bytes = note(first) in (bytes, "bytes") or job.get("input") == "raw"
        self.reader = reader(note(first), str)
        self.output = job.get("output", "auto")

    def __call__(self, record):
        return written(self.value(record), self.output)

    def value(self, record):
        if self.takes_none:
            return self.func(*self.args, **self.kwargs)
        if self.several or self.json:
            return self.of_json(json.loads(record))
        value = record if self.as_bytes else self.reader(record.decode())
        if self.by_name:
            return self.func(*self.args, **{self.by_name: value}, **self.kwargs)
        return self.func(*self.args, value, **self.kwargs)

    def of_json(self, value):
        if self.several and isinstance(value, list):
            return self.func(*self.args, *value, **self.kwargs)
        if self.several and isinstance(value, dict):
            return self.func(*self.args, **value, **self.kwargs)
        if self.several:
            raise TypeError("a record for several parameters is a JSON array, or an object by name")
        if self.by_name:
            return self.func(*self.args, **{self.by_name: value}, **self.kwargs)
        return self.func(*self.args, value, **self.kwargs)


# The parameters of a function that is not written in Python: one, without a name.
UNKNOWN = ("",)


def parameters(func):
    """The names of a function's parameters, and those without a default."""
    code = getattr(func, "__code__", None)
    if code is None:
        return UNKNOWN, UNKNOWN
    names = code.co_varnames[: code.co_argcount]
    has_default = len(func.__defaults__ or ())
    needed = names[: len(names) - has_default]
    if not names and code.co_flags & 0x04:
        # Only `*args`.
        return UNKNOWN, UNKNOWN
    return names, needed


def written(value, output):
    """A result as bytes."""
    if output != "json":
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, bytes):
            return value
        if output == "raw":
            raise TypeError(f"the result is neither a string nor bytes: {type(value).__name__}")
    return json.dumps(value, ensure_ascii=False).encode()


def prepared(text):
    """What is called for each record of a job, and where its source is from."""
    job = json.loads(text)
    source, name = job["source"], job.get("name") or NAME
    return job, source, name


def callee(job, source, name):
    func = job.get("func")
    if func is None:
        strips = job.get("output") != "raw"

        def program(record):
            data = run_program(source, name, record)
            return data[:-1] if strips and data.endswith(b"\n") else data

        return program
    return Call(script(source, name).func(func), job)


class WitWorld(wit_world.WitWorld):
    def exec(self, source: str, func: str, args: str) -> str:
        begin()
        try:
            values = json.loads(args)
            called = script(source, NAME).func(func)
            value = called(**values) if isinstance(values, dict) else called(*values)
            text = json.dumps(value, ensure_ascii=False)
        except BaseException as error:
            if isinstance(error, SystemExit):
                leave(error.code)
            flush()
            head, lines = explained(error, source, NAME)
            raise Err(wit_world.Failure(type(error).__name__, str(error), "\n".join(lines)))
        flush()
        return text

    def run(self, source: str, input: str) -> str:
        begin()
        try:
            text = run_program(source, NAME, input.encode()).decode(errors="replace")
        except BaseException as error:
            raise failed(error, source, NAME)
        flush()
        return text

    def apply(self, job: str, record: bytes) -> bytes:
        begin()
        source, name = "", NAME
        try:
            found = kept.get(job)
            if found is None:
                fields, source, name = prepared(job)
                found = keep(job, (callee(fields, source, name), source, name))
            call, source, name = found
            result = call(record)
        except BaseException as error:
            raise failed(error, source, name)
        flush()
        return result


class Run:
    """The command, as `python3` is one."""

    def run(self) -> None:
        begin()
        source, name = "", NAME
        try:
            source, name, sys.argv = program_of(environment.get_arguments()[1:])
            code = compile(source, name, "exec", dont_inherit=True)
            exec(code, {"__name__": MAIN, "__file__": name, "__builtins__": __builtins__})
        except SystemExit as end:
            leave(end.code)
        except BaseException as error:
            head, lines = explained(error, source, name)
            print("\n".join([*lines, head]), file=sys.stderr)
            leave(1)
        flush()


def program_of(args):
    """The source of a program, its file name, and its `sys.argv`."""
    match args:
        case ["--name", name, "-c", source, *_]:
            return source, name, [name, *args[4:]]
        case ["-c", source, *_]:
            return source, NAME, ["-c", *args[2:]]
        case ["-c"]:
            raise SystemExit("python: -c needs the code behind it")
        case [] | ["-", *_]:
            return sys.stdin.read(), "<stdin>", args or [""]
        case [option, *_] if option.startswith("-"):
            raise SystemExit(f"python: there is no option {option}; arguments are -c CODE, a path, or -")
        case [path, *_]:
            with open(path, encoding="utf-8") as file:
                return file.read(), path, args


# Objects that are made here are never collected: a collection would touch, and so copy, all of their pages.
gc.collect()
gc.freeze()
