"""Targets: what ``module:app`` names, imported."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from ..app import App
from ..asgi import ASGIHost
from .failure import Failure, tail

__all__ = ["CodeError", "TargetError", "hosted", "load"]

_NAMES: Final = ("app", "application")
_FACTORIES: Final = ("create_app", "make_app")
_FRAMES: Final = 5


class TargetError(Failure):
    """What was named cannot be found, or cannot be served."""


class CodeError(TargetError):
    """The module was found, and is not as it should be: a change of the code may mend that."""


def load(target: str, *, factory: bool = False, app_dir: str | os.PathLike[str] | None = None) -> Any:
    """Import what a target names and return it: an ``App``, or an application of another kind.

    ``package.module:attribute.attribute`` and ``path/to/file.py:attribute``; without an attribute it is the one named
    ``app`` or ``application``, else the only ``App`` that the module has. ``()`` behind the attribute calls it, and so
    does ``factory``. Modules are looked for in ``app_dir`` (the working directory) first. TargetError says what is
    wrong.
    """
    parsed = _parse(target)
    folder = Path(app_dir or ".").absolute()
    if not folder.is_dir():
        raise TargetError(f"app directory {str(app_dir)!r} does not exist")
    name = _module_of(folder / parsed.module) if _is_path(parsed.module) else parsed.module
    if not _is_path(parsed.module):
        _look_in(folder)
    module = _imported(name, parsed.module, folder)
    if parsed.attribute is None:
        found, shown = _search(module, name, factory=factory)
    else:
        found, shown = _attribute(module, name, parsed.attribute), f"{name}:{parsed.attribute}"
    if factory or parsed.calls:
        return _made(found, shown)
    if not isinstance(found, App) and _is_factory(found):
        raise TargetError(f"{shown} is a function without parameters: call it with --factory, or as '{shown}()'")
    return found


def hosted(application: Any, target: str, **options: Any) -> App:
    """Return what serves an object that was loaded: itself if it is an ``App``, else a host for it as one of ASGI.

    ``options`` are an ASGI host's. TargetError for what is neither, and for options that an ``App`` does not have.
    """
    if isinstance(application, App):
        if options:
            named = ", ".join("--" + name.replace("_", "-") for name in options)
            raise TargetError(f"{named} is for ASGI applications, and {target} is a ferrows App")
        return application
    if inspect.isclass(application) or not callable(application):
        what = "a class" if inspect.isclass(application) else f"{type(application).__name__}"
        raise TargetError(f"{target} is {what}, permitted: a ferrows App or an ASGI application")
    if _is_wsgi(application):
        raise TargetError(
            f"{target} takes two arguments, as a WSGI application does, permitted: a ferrows App or an ASGI app "
            "(asgiref.wsgi.WsgiToAsgi makes one of the other)"
        )
    return ASGIHost(application, **options)


def _is_wsgi(application: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(application)
    except ValueError:  # A builtin that does not tell.
        return False
    parameters = [each for each in signature.parameters.values() if each.default is each.empty]
    return [each.kind for each in parameters] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2


class _Parsed(NamedTuple):
    module: str
    attribute: str | None
    calls: bool


_ATTRIBUTE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_MODULE: Final = re.compile(r"\w[\w-]*(?:\.\w[\w-]*)*")


def _parse(target: str) -> _Parsed:
    module, colon, attribute = target.rpartition(":")
    if not colon or _is_path(attribute):
        # "C:\app.py" has a colon too.
        module, colon, attribute = target, "", ""
    calls = attribute.endswith("()")
    attribute = attribute.removesuffix("()")
    valid = _ATTRIBUTE.fullmatch(attribute) if colon else True
    if not valid or not (_is_path(module) or _MODULE.fullmatch(module)):
        raise TargetError(f"{target!r} must look like 'package.module:app', 'package.module:make()' or 'file.py:app'")
    return _Parsed(module, attribute or None, calls)


def _is_path(text: str) -> bool:
    return text.endswith(".py") or "/" in text or os.sep in text


def _module_of(path: Path) -> str:
    """Return the name under which a file can be imported, and let its folder, or its package's, be looked in."""
    if not path.is_file():
        raise TargetError(f"there is no file {os.path.relpath(path)!r}")
    resolved = path.resolve()
    parts, folder = [resolved.stem], resolved.parent
    if resolved.suffix != ".py" or "." in resolved.stem:
        raise TargetError(f"{resolved.name!r} cannot be imported, permitted: a name such as 'app.py'")
    if parts == ["__init__"]:
        parts, folder = [folder.name], folder.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    _look_in(folder)
    name = ".".join(parts)
    found = sys.modules.get(name)
    if found is not None and not _is_file_of(found, resolved):
        raise TargetError(f"{resolved.name!r} cannot be imported: there is a module {name!r} already, rename the file")
    return name


def _is_file_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and os.path.realpath(file) == str(path)


def _look_in(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def _imported(name: str, given: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != name and not name.startswith(f"{missing}."):
            raise CodeError(_import_failure(name, error), tail(error, _FRAMES)) from None
        parent, _, attribute = name.rpartition(".")
        hint = f", did you mean {given}.py?" if (folder / f"{given}.py").is_file() and "." in given else ""
        if not hint and hasattr(sys.modules.get(parent), attribute):
            hint = f", did you mean {parent}:{attribute}?"
        raise TargetError(f"there is no module {missing!r} in {folder} or among what is installed{hint}") from None
    except SystemExit as error:
        raise CodeError(f"{name} exits (with {error.code!r}) when it is imported", tail(error, _FRAMES)) from None
    except Exception as error:
        raise CodeError(_import_failure(name, error), tail(error, _FRAMES)) from None


def _import_failure(name: str, error: BaseException) -> str:
    return f"{name} cannot be imported: {_summary(error)}"


def _summary(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _search(module: ModuleType, name: str, *, factory: bool) -> tuple[Any, str]:
    for each in (*_FACTORIES, *_NAMES) if factory else _NAMES:
        found = getattr(module, each, None)
        # A package may have a module of that name.
        if found is not None and not isinstance(found, ModuleType):
            return found, f"{name}:{each}"
    apps = {id(value): (value, key) for key, value in reversed(vars(module).items()) if isinstance(value, App)}
    if factory or not apps:
        made = next((each for each in _FACTORIES if callable(getattr(module, each, None))), None)
        hint = f", perhaps you mean '{name}:{made}()'" if made else ""
        what = f"none of {', '.join((*_FACTORIES, *_NAMES))}" if factory else "no app"
        raise CodeError(f"{name} has {what}: name it, as in '{name}:app'{hint}")
    if len(apps) > 1:
        names = ", ".join(sorted(f"{name}:{key}" for _, key in apps.values()))
        raise CodeError(f"{name} has several apps, say which: {names}")
    [(found, key)] = apps.values()
    return found, f"{name}:{key}"


def _attribute(module: ModuleType, name: str, path: str) -> Any:
    found: Any = module
    walked = name
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CodeError(f"{walked} has no {part!r}") from None
        walked += f"{':' if found is module or walked == name else '.'}{part}"
    return found


def _is_factory(found: Any) -> bool:
    """Whether it can be called with nothing, unlike an application."""
    if not inspect.isfunction(found):
        return False
    parameters = inspect.signature(found).parameters.values()
    return all(each.default is not each.empty or each.kind is each.VAR_KEYWORD for each in parameters)


def _made(make: Callable[[], Any], shown: str) -> Any:
    if not callable(make) or isinstance(make, App):
        raise CodeError(f"{shown} is {type(make).__name__} and no function that makes an app")
    try:
        made = make()
    except SystemExit as error:
        raise CodeError(f"{shown}() exits (with {error.code!r})", tail(error, _FRAMES)) from None
    except Exception as error:
        raise CodeError(f"{shown}() failed: {_summary(error)}", tail(error, _FRAMES)) from None
    if made is None or inspect.isawaitable(made):
        if inspect.iscoroutine(made):
            made.close()
        raise CodeError(f"{shown}() returned {type(made).__name__} and no app")
    return made
