"""What proxies and servers have in common: they are started and stopped, at the latest when the interpreter exits."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Optional, TypeVar, Union

from pgvpd import _pgvpd
from pgvpd._errors import Error

if TYPE_CHECKING:
    from typing_extensions import Self

Scalar = Union[str, int, float, bool, "os.PathLike[str]"]
Value = Union[Scalar, "list[str]", "list[int]", "tuple[str, ...]", "tuple[int, ...]"]
Handle = TypeVar("Handle")


class Service(Generic[Handle]):
    """Runs from `start()` to `stop()`, or within `with` or `async with`. One that is garbage-collected is stopped."""

    _name: ClassVar[str]
    _stopped_last: ClassVar[bool]

    def __init__(self) -> None:
        self._handle: Optional[Handle] = None
        self._starting = threading.Lock()

    def _start(self) -> Handle:
        raise NotImplementedError

    def _stop(self) -> None:
        """As `stop()`, at once."""
        raise NotImplementedError

    def start(self) -> Self:
        """Starts it, and returns itself."""
        if self._handle is not None or not self._starting.acquire(blocking=False):
            raise Error(f"the {self._name} has been started already")
        try:
            self._handle = self._start()
        finally:
            self._starting.release()
        _running.add(self)
        return self

    @property
    def _started(self) -> Handle:
        if self._handle is None:
            raise Error(f"the {self._name} does not run; call start(), or use `with`")
        return self._handle

    def _forget(self, handle: Handle) -> None:
        # Unless somebody has started it again meanwhile.
        if self._handle is handle:
            self._handle = None
            _running.discard(self)

    def __enter__(self) -> Self:
        return self.start() if self._handle is None else self

    def __exit__(self, *_exception: object) -> None:
        self._stop()

    async def __aenter__(self) -> Self:
        import asyncio

        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_exception: object) -> None:
        import asyncio

        await asyncio.to_thread(self._stop)


def texts(options: Mapping[str, Value]) -> dict[str, str]:
    """Options as a configuration file would have them."""
    return {name: _text(name, value) for name, value in options.items()}


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, (list, tuple)):
        items = [_text(name, item) for item in value]
        for item in items:
            # It would become two, and the one that was meant would not be in the list.
            if "," in item:
                raise ValueError(f"{name}: {item!r} cannot stand in a list, whose items are separated by commas")
        return ",".join(items)
    raise TypeError(f"{name}: give a str, int, float, bool or a list of them, not {type(value).__name__}")


_running: weakref.WeakSet[Service[Any]] = weakref.WeakSet()


def _stop_all() -> None:
    for service in sorted(_running, key=lambda service: service._stopped_last):
        # In a fork, where everything is refused, they are the parent's.
        with contextlib.suppress(Error):
            service._stop()
    _pgvpd.close_log()


# Before `logging` closes its handlers, which it does in reverse order of import.
logging.getLogger("pgvpd").addHandler(logging.NullHandler())
atexit.register(_stop_all)
