"""The supervisor: keeps a number of worker processes at work on the same listening sockets.

It holds the listening sockets from the first worker to the last, and every worker inherits them: connections that wait
to be accepted outlive the worker that was to accept them.

It runs no event loop. All it does is to wait for signals, for words from workers, and for time to pass, and a process
without a loop and without threads can be forked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ..log import error_logger, logger
from .banner import log_banner
from .goodbye import stop_line, stopped_line
from .listeners import Listeners
from .member import Member, State, how_it_ended
from .target import Post, Target
from .worker import Worker

if TYPE_CHECKING:
    from ..app import App
    from .reload import Watcher

__all__ = ["Supervisor"]

NEVER_READY: Final = 3
"""The exit code where no worker could start."""

KILLED: Final = 1
"""The exit code where a worker had to be killed, since it did not end in time."""

_SETTLED: Final = 5.0
"""Seconds after which a worker that is ready counts as healthy: what ends it then is held to be chance."""

_BACKOFF: Final = 0.5
_BACKOFF_LIMIT: Final = 30.0
"""Seconds before the third worker in a row that does not settle, doubled for each further one, and their limit."""

_MARGIN: Final = 5.0
"""Seconds that a worker has beyond its own grace before it is killed."""

_FORCED: Final = 3.0
"""The same after a second signal."""

_SLOW: Final = 30.0
"""Seconds after which a worker that is not ready yet gets a line in the log."""

_LOOK: Final = 0.5
"""Seconds between two looks at the workers, should a signal of theirs be missed."""


@dataclass(eq=False)
class _Slot:
    """The place of one worker: it is filled again and again."""

    number: int
    member: Member | None = None
    # Workers in a row that did not settle, and when the next one may start.
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """Runs ``count`` workers of an app until a signal says otherwise.

    ``listeners`` are closed when a stop was asked for. ``settings`` are the arguments of ``App.run``, for workers
    that call it; ``work`` serves in a process that has the app. With a ``watcher``, workers restart when files change.
    """

    def __init__(
        self,
        app: App,
        target: Target,
        count: int,
        listeners: Listeners,
        *,
        settings: Mapping[str, Any],
        work: Callable[[Worker], NoReturn],
        secure: bool = False,
        handle_signals: bool = True,
        watcher: Watcher | None = None,
    ) -> None:
        self._app = app
        self._target = target
        self._listeners = listeners
        self._settings = settings
        self._work = work
        self._secure = secure
        self._handle_signals = handle_signals
        self._watcher = watcher
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        # Every process that has not ended, also those that no slot has any more.
        self._members: set[Member] = set()
        # What a restart has still to replace, and the worker that is to take over next.
        self._roll: deque[_Slot] = deque()
        self._rolling = 0
        self._candidate: tuple[_Slot, Member] | None = None
        self._was_ready = False
        self._announced = False
        self._stopping = False
        self._stopping_since = 0.0
        self._forced = False
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waker = socket.socketpair()
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        # What signals and the watcher have asked for since the last turn.
        self._requests: deque[tuple[str, str]] = deque()
        self._terminal = os.isatty(0)

    def run(self) -> None:
        """Supervise until all workers have ended; SystemExit with ``NEVER_READY`` or ``KILLED`` where that is due.

        ``main_process_start`` and ``main_process_stop`` listeners run in this process, before the first worker starts
        and after the last one has ended, and with a watcher those of ``reload_process_*`` within them.
        """
        # uvloop would want the signals for itself.
        loop = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        with contextlib.closing(self._selector), self._wakeup, self._waker, loop as runner:
            runner.run(self._app.trigger_listeners("main_process_start"))
            try:
                with self._watching(runner), self._signals():
                    self._supervise()
            finally:
                runner.run(self._app.trigger_listeners("main_process_stop"))
        if self._exit_code:
            raise SystemExit(self._exit_code)
        logger.info(stopped_line(time.monotonic() - self._stopping_since))

    def _supervise(self) -> None:
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._drain_wakeup)
        try:
            while not self._stopping or self._members:
                self._turn(time.monotonic())
                if self._stopping and not self._members:
                    break
                for key, _ in self._selector.select(self._pause(time.monotonic())):
                    key.data()
        finally:
            # Only an error of our own leaves any.
            for member in self._members:
                member.kill()
                while member.child.poll() is None:
                    time.sleep(0.01)

    def _turn(self, now: float) -> None:
        restart: str | None = None
        while self._requests:
            what, why = self._requests.popleft()
            if what == "stop":
                self._stop(why, now)
            else:
                # Several that come together are one.
                restart = restart or why
        if restart is not None and not self._stopping:
            self._restart(restart, now)
        for member in list(self._members):
            code = member.child.poll()
            if code is not None:
                self._take_leave(member, code, now)
            elif now >= member.deadline and not member.killed:
                if not self._forced and member.state is State.DRAINING:
                    error_logger.error("%s did not end in time and is killed", member)
                    # What a restart has left behind is no failure of the end.
                    self._exit_code = KILLED if self._stopping else self._exit_code
                member.kill()
            elif member.state is State.STARTING and not member.warned and now >= member.started + _SLOW:
                member.warned = True
                logger.warning("%s is not ready after %d s", member, _SLOW)
        if not self._stopping:
            self._fill(now)
            self._roll_on(now)

    def _pause(self, now: float) -> float:
        times = [slot.due for slot in self._slots if slot.member is None]
        times += [member.deadline for member in self._members if not member.killed]
        return max(0.0, min([_LOOK, *(due - now for due in times if due > now)]))

    # ---- starting

    def _fill(self, now: float) -> None:
        """Start what is missing: one worker first, so that a start that cannot succeed fails once."""
        for slot in self._slots if self._was_ready else self._slots[:1]:
            taken = slot.member is not None or (self._candidate is not None and self._candidate[0] is slot)
            if not taken and now >= slot.due:
                slot.member = self._start(slot.number, now)
                if slot.member is None:
                    self._failed(slot, now)

    def _start(self, number: int, now: float) -> Member | None:
        ours, theirs = socket.socketpair()
        post = Post(
            app_name=self._app.name,
            control=theirs,
            supervisor=ours,
            sockets=self._listeners.of(number),
            settings=self._settings,
            work=self._work,
            leave=self._leave,
        )
        try:
            child = self._target.start(post)
        except OSError as error:
            # No memory, or too many processes: that may pass.
            error_logger.error("worker %d cannot be started: %s", number, error)
            ours.close()
            return None
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        member = Member(number, child, ours, now)
        self._members.add(member)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._listen_to(member))
        return member

    def _leave(self) -> None:
        """Forget, in a copy of this process, what is the supervisor's alone."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for member in self._members:
            # The workers would otherwise not see the supervisor's end as long as this copy lives.
            member.control.close()
        self._wakeup.close()
        self._waker.close()
        self._selector.close()

    def _listen_to(self, member: Member) -> None:
        self._hear(member, time.monotonic())
        if member.child.poll() is not None:
            # Its end of the pair is closed: there is no more to hear, and a closed one would be readable for ever.
            self._take_leave(member, member.child.poll() or 0, time.monotonic())
        elif not self._is_open(member):
            self._selector.unregister(member.control)

    def _hear(self, member: Member, now: float) -> None:
        for line in member.receive():
            word, _, rest = line.partition(" ")
            if word == "ready" and member.state is State.STARTING:
                self._welcome(member, rest, now)
            elif word == "stop":
                self._requests.append(("stop", f"{member} asks for it"))
                # It may be heard in the middle of a turn, which does not look at the requests again before it waits.
                self._wake()

    def _is_open(self, member: Member) -> bool:
        try:
            return member.control.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _welcome(self, member: Member, loop: str, now: float) -> None:
        member.state, member.loop, member.ready_at = State.READY, loop, now
        self._was_ready = True
        if self._candidate is not None and self._candidate[1] is member:
            slot, _ = self._candidate
            self._candidate = None
            self._rolling += 1
            old, slot.member, slot.failures = slot.member, member, 0
            if old is not None:
                self._let_go(old, "restart", now)
            if not self._roll:
                logger.info("restarted: %s new", _counted(self._rolling))
        if not self._announced and all(slot.member and slot.member.ready_at for slot in self._slots):
            self._announced = True
            if self._app.config.MOTD:
                log_banner(
                    self._app,
                    self._listeners.of(1),
                    loop,
                    unix=self._listeners.unix,
                    secure=self._secure,
                    workers=len(self._slots),
                )

    # ---- ends

    def _take_leave(self, member: Member, code: int, now: float) -> None:
        """A process has ended; see to what follows from that."""
        if member not in self._members:
            return
        # What it said before it ended counts.
        self._hear(member, now)
        self._members.discard(member)
        with contextlib.suppress(KeyError):
            self._selector.unregister(member.control)
        member.control.close()
        if self._stopping or member.state is State.DRAINING:
            if code and not member.killed and member.ready_at is not None:
                error_logger.error("%s %s while it stopped", member, how_it_ended(code))
        elif self._candidate is not None and self._candidate[1] is member:
            self._candidate = None
            self._give_up_restart(f"{member} {how_it_ended(code)} before it was ready")
        else:
            slot = next(slot for slot in self._slots if slot.member is member)
            slot.member = None
            self._replace(slot, member, code, now)

    def _replace(self, slot: _Slot, member: Member, code: int, now: float) -> None:
        ready = member.ready_at is not None
        what = f"{member} {how_it_ended(code)}{'' if ready else ' before it was ready'}"
        if not self._was_ready and self._watcher is None:
            error_logger.error("%s: %s, giving up", self._app.name, what)
            self._exit_code = NEVER_READY
            self._stopping = True
        elif not self._was_ready:
            error_logger.error("%s: %s, waiting for a change of the code", self._app.name, what)
            slot.due = float("inf")
        else:
            if member.ready_at is not None and now - member.ready_at >= _SETTLED:
                slot.failures = 0
            self._failed(slot, now)
            delay = slot.due - now
            when = f"in {delay:g} s" if delay else "at once"
            error_logger.error("%s, another one starts %s", what, when)

    def _failed(self, slot: _Slot, now: float) -> None:
        """Put the next start off, the longer the more often workers have not settled; the first time not at all."""
        slot.failures += 1
        delay = 0.0 if slot.failures == 1 else _BACKOFF * 2.0 ** min(slot.failures - 2, 16)
        slot.due = now + min(delay, _BACKOFF_LIMIT)
        if delay:
            self._listeners.rest(slot.number)

    def _let_go(self, member: Member, word: str, now: float) -> None:
        """Have a worker end; it is killed if it takes longer than it may."""
        config = self._app.config
        if member.state is State.STARTING:
            # Nobody is connected to it, and it may not listen to us yet.
            member.child.terminate()
        if member.state is not State.DRAINING:
            member.tell(word)
        delay = config.DRAIN_DELAY if word == "stop" else 0
        if member.state is not State.DRAINING:
            member.deadline = now + delay + config.GRACEFUL_SHUTDOWN_TIMEOUT + _MARGIN
        member.state = State.DRAINING

    def _stop(self, why: str, now: float) -> None:
        if self._stopping:
            if not self._forced:
                logger.info("%s again: stopping at once", why)
            self._forced = True
        else:
            logger.info(stop_line(self._app.config, why, _counted(len(self._members))))
            self._stopping_since = now
        self._stopping = True
        self._roll.clear()
        self._candidate = None
        # From now on nobody accepts but workers, for as long as they do.
        self._listeners.close()
        for member in self._members:
            if self._forced:
                member.tell("force")
                member.deadline = min(member.deadline, now + _FORCED)
            else:
                self._let_go(member, "stop", now)

    # ---- restarting

    def _restart(self, why: str, now: float) -> None:
        """Begin to replace every worker, one after the other, each by one that is ready."""
        again = " anew" if self._roll or self._candidate is not None else ""
        logger.info("%s: restarting %s%s", why, _counted(len(self._slots)), again)
        if not self._target.fresh:
            logger.warning("workers are copies of the supervisor: a restart loads no new code")
        starting = [] if self._candidate is None else [self._candidate[1]]
        self._candidate = None
        for slot in self._slots:
            slot.failures, slot.due = 0, 0.0
            if slot.member is not None and slot.member.state is State.STARTING:
                starting.append(slot.member)
                slot.member = None
        for member in starting:
            # It may have read the old code.
            self._let_go(member, "restart", now)
        self._rolling = 0
        self._roll = deque(slot for slot in self._slots if slot.member is not None)

    def _roll_on(self, now: float) -> None:
        while self._roll and self._candidate is None:
            slot = self._roll.popleft()
            if slot.member is None:
                continue  # It ended by itself, and its successor has the new code.
            member = self._start(slot.number, now)
            if member is None:
                self._give_up_restart("no process could be started")
            else:
                self._candidate = (slot, member)

    def _give_up_restart(self, why: str) -> None:
        self._roll.clear()
        rest = ", waiting for the next change" if self._watcher is not None else ""
        error_logger.error(
            "restart given up, %s old, %s new: %s%s",
            _counted(len(self._slots) - self._rolling),
            self._rolling,
            why,
            rest,
        )

    # ---- what comes from outside

    def files_changed(self, paths: Sequence[str]) -> None:
        """Restart the workers, since files have changed; from any thread."""
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        self._requests.append(("restart", f"{paths[0]}{more} changed"))
        self._wake()

    def _wake(self) -> None:
        # Full: it wakes up anyway. Closed: it is over.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def _drain_wakeup(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wakeup.recv(4096):
                pass

    @contextlib.contextmanager
    def _watching(self, runner: asyncio.Runner) -> Iterator[None]:
        if self._watcher is None:
            yield
            return
        runner.run(self._app.trigger_listeners("reload_process_start"))
        self._watcher.start(self.files_changed)
        try:
            yield
        finally:
            self._watcher.stop()
            runner.run(self._app.trigger_listeners("reload_process_stop"))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals wake this process up: SIGINT and SIGTERM stop, SIGHUP restarts."""
        if not self._handle_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        actions = {
            signal.SIGINT: self._interrupted,
            signal.SIGTERM: self._interrupted,
            signal.SIGHUP: self._hung_up,
            signal.SIGCHLD: _only_wake,
        }
        before = {number: signal.signal(number, action) for number, action in actions.items()}
        wakeup_before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._requests.append(("stop", signal.Signals(number).name))

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        if self._terminal and not os.isatty(0):
            # Not an operator's word: the terminal is gone in which the server was started.
            self._requests.append(("stop", "the terminal is gone"))
        else:
            self._requests.append(("restart", "SIGHUP"))


def _only_wake(number: int, frame: FrameType | None) -> None: ...


def _counted(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"
