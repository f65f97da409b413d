"""What ``App.run`` does: serve in this process, supervise workers, or be one of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ..exceptions import ServerError
from ..log import error_logger
from .importing import import_app
from .listeners import Listeners
from .reload import Watcher
from .runners import serve
from .supervisor import Supervisor
from .target import Fork, Import, Program, Target
from .worker import Worker

if TYPE_CHECKING:
    from ..app import App

__all__ = ["launch", "run_workers"]


def launch(
    app: App,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    workers: int | str = 1,
    auto_reload: bool = False,
    reload_dir: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    target: Target | str | None = None,
    from_main: bool = False,
) -> None:
    """Run an app with what :func:`serve` takes as ``options``; see ``App.run``.

    ``settings`` are the arguments that ``App.run`` was given, for workers that call it themselves. ``from_main`` says
    that the program itself has called it, so that running the program again will come here again. RuntimeError where
    an event loop runs already.
    """
    _refuse_running_loop()
    count = _count(workers)
    if (worker := Worker.inherited(app.name)) is not None:
        _work(app, worker, options)
    target = Import(target) if isinstance(target, str) else target
    if count == 1 and not auto_reload and target is None:
        serve(app=app, **options)
        return
    _supervise(app, options, settings, count, target or _default_target(options, from_main), auto_reload, reload_dir)


def run_workers(app: App | str, *, workers: int | str = 1, target: Target | None = None, **settings: Any) -> None:
    """Run an app under a supervisor, even where it is only one worker; ``settings`` are those of ``App.run``.

    An app given as ``"module:app"`` is imported by each worker afresh.
    """
    if isinstance(app, str):
        target = target or Import(app)
        app = import_app(app)
    app.run(workers=workers, target=target or _default_target(settings, from_main=False), **settings)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("app.run has an event loop of its own; on one that runs, await app.create_server(...)")


def _count(workers: Any) -> int:
    if workers == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers must be an integer >= 1 or 'auto', not {workers!r}")
    return workers


def _default_target(options: Mapping[str, Any], from_main: bool) -> Target:
    # A program that binds its socket itself could not do so a second time.
    return Program() if from_main and options.get("sock") is None and Program.possible() else Fork()


def _supervise(
    app: App,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    count: int,
    target: Target,
    auto_reload: bool,
    reload_dir: Any,
) -> None:
    if not hasattr(os, "fork"):
        raise ServerError("several workers and auto_reload need a POSIX system")
    if options.get("loop") is not None:
        raise ServerError("loop is not for workers: each has its own")
    watcher = _watcher(target, reload_dir) if auto_reload else None
    app.finalize()
    listeners = Listeners.bound(options, count)
    try:
        Supervisor(
            app,
            target,
            count,
            listeners,
            settings=settings,
            work=lambda worker: _work(app, worker, options),
            secure=options.get("ssl") is not None,
            handle_signals=options.get("register_sys_signals", True),
            watcher=watcher,
        ).run()
    finally:
        listeners.remove()


def _watcher(target: Target, reload_dir: Any) -> Watcher:
    if not target.fresh:
        raise ServerError(
            "auto_reload needs workers that load the code anew: call app.run in the program itself, or give it "
            "target='module:app'"
        )
    given = () if reload_dir is None else [reload_dir] if isinstance(reload_dir, str | os.PathLike) else reload_dir
    return Watcher([target.folder or Path.cwd()], given)


_ADDRESS: Final = ("host", "port", "sock", "reuse_port")


def _work(app: App, worker: Worker, options: Mapping[str, Any]) -> NoReturn:
    """Serve as a worker, and end the process: what the program does after ``App.run`` is for the supervisor to do."""
    given = options.get("sock")
    if given is not None and given.fileno() not in [sock.fileno() for sock in worker.sockets]:
        given.close()
    rest = {name: value for name, value in options.items() if name not in _ADDRESS}
    code = 0
    try:
        serve(host=None, port=None, app=app, sock=worker.sockets, worker=worker, run_multiple=True, **rest)
    except Exception as error:
        what = "failed" if worker.ready else "could not start"
        error_logger.error("a worker of %s %s: %r", app.name, what, error, exc_info=True)
        code = 1 if worker.ready else 3
    finally:
        worker.close()
    raise SystemExit(code)
