"""The standard library: loaded when the component is built, since an instance has no files to load it from.

Also what WASI lacks: the parts of the library that need it say so.
"""

import asyncio
import importlib
import os
import pkgutil
import selectors
import sys
import threading
import time
import warnings

# Programs, and parts that print, or that need a screen.
LEFT_OUT = {
    "__main__", "_pyrepl", "antigravity", "curses", "ensurepip", "idlelib", "lib2to3", "pip", "test", "this",
    "tkinter", "turtle", "turtledemo", "venv",
}  # fmt: skip

# Packages of which all modules are loaded.
WHOLE = (
    "asyncio", "collections", "compression", "concurrent", "email", "encodings", "html", "http", "importlib",
    "json", "logging", "os", "pathlib", "re", "string", "sysconfig", "tomllib", "unittest", "urllib",
    "wsgiref", "xml", "xmlrpc", "zipfile", "zoneinfo",
)  # fmt: skip


def load(name):
    try:
        return importlib.import_module(name)
    except Exception:
        # It needs what WASI has not. A script that imports it gets that error, or that it is not there.
        return None


def load_all():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted(sys.stdlib_module_names - LEFT_OUT):
            # Not those that only say hello.
            if not name.startswith("__"):
                load(name)
        for name in WHOLE:
            load_package(load(name))


def load_package(package):
    for found in pkgutil.iter_modules(getattr(package, "__path__", []), f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            module = load(found.name)
            if found.ispkg and module is not None:
                load_package(module)


def refresh():
    """What a new instance has of its own: its environment."""
    os.reload_environ()


class NoSelector(selectors.BaseSelector):
    """Waits for time only: there is nothing else to wait for."""

    def __init__(self):
        self.keys = {}

    def register(self, fileobj, events, data=None):
        raise OSError("WebAssembly guests wait for no sockets")

    def unregister(self, fileobj):
        raise KeyError(fileobj)

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("the event loop waits for what cannot come: nothing is left to run")
        if timeout > 0:
            time.sleep(timeout)
        return []

    def get_map(self):
        return self.keys


class TimeLoop(asyncio.SelectorEventLoop):
    """An event loop without the pair of sockets by which threads wake it: there are no threads."""

    def __init__(self):
        super().__init__(NoSelector())

    def _make_self_pipe(self):
        pass

    def _close_self_pipe(self):
        pass

    def _write_to_self(self):
        pass


def no_threads(*_args, **_kwargs):
    raise RuntimeError("can't start new thread: WebAssembly has no threads; tasks run side by side with -j")


def say_what_is_missing():
    import _thread

    for module, name in (
        (_thread, "start_new_thread"), (_thread, "start_joinable_thread"),
        (threading, "_start_new_thread"), (threading, "_start_joinable_thread"),
    ):  # fmt: skip
        if hasattr(module, name):
            setattr(module, name, no_threads)
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = TimeLoop


load_all()
say_what_is_missing()
