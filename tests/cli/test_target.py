"""``module:app``: every form of it, and everything that can be wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ferrows import App
from ferrows.cli.target import TargetError, hosted, load

from .conftest import Write

ONE = """
    from ferrows import App

    class Holder:
        inner = App("inner")

    app = App("one", env_prefix=None)
    other = App("other", env_prefix=None)
    holder = Holder()
    number = 5

    def create_app():
        return App("made")

    def fails():
        raise RuntimeError("no database")

    def nothing():
        pass

    async def later():
        return app

    def leaves():
        raise SystemExit("enough")

    async def asgi(scope, receive, send):
        pass
"""


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("one", "one"),
        ("one:app", "one"),
        ("one:other", "other"),
        ("one:holder.inner", "inner"),
        ("one:Holder.inner", "inner"),
        ("one:create_app()", "made"),
        ("one.py", "one"),
        ("one.py:other", "other"),
        ("./one.py:create_app()", "made"),
        ("pkg", "application"),
        ("pkg.deep.mod", "only"),
        ("pkg.deep.mod:_private", "only"),
        ("pkg/deep/mod.py", "only"),
        ("pkg/__init__.py", "application"),
        ("with-dash:app", "dashed"),
        ("with-dash.py", "dashed"),
    ],
)
def test_every_form_finds_its_app(write: Write, target: str, name: str) -> None:
    write("one.py", ONE)
    write("with-dash.py", "from ferrows import App\napp = App('dashed')")
    # The package has a module named app, which is none.
    write("pkg/__init__.py", "from ferrows import App\nfrom . import app\napplication = App('application')")
    write("pkg/app.py", "")
    write("pkg/deep/__init__.py", "")
    write("pkg/deep/mod.py", "from ferrows import App\nfrom .. import application as _\ndel _\n_private = App('only')")
    found = load(target)
    assert isinstance(found, App)
    assert found.name == name


def test_absolute_path_finds_its_app_from_anywhere(write: Write, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write("one.py", ONE)
    assert load(str(path), app_dir=tmp_path_factory.mktemp("elsewhere")).name == "one"
    assert load(f"{path}:other", app_dir=tmp_path_factory.mktemp("elsewhere")).name == "other"


def test_modules_are_looked_for_in_the_app_directory_first(write: Write) -> None:
    write("json.py", "")
    write("inner/one.py", ONE)
    write("one.py", "raise RuntimeError")
    assert load("one", app_dir="inner").name == "one"
    assert Path(sys.modules["one"].__file__ or "").parent.name == "inner"


@pytest.mark.parametrize("target", ["one", "one:create_app"])
def test_factory_is_called(write: Write, target: str) -> None:
    write("one.py", ONE)
    assert load(target, factory=True).name == "made"


def test_factory_may_be_a_class(write: Write) -> None:
    write(
        "one.py", "import ferrows\nclass Mine(ferrows.App):\n    def __init__(self):\n        super().__init__('mine')"
    )
    assert load("one:Mine", factory=True).name == "mine"


def test_module_with_one_app_of_several_names_has_one(write: Write) -> None:
    write("one.py", "from ferrows import App\nfirst = second = App('same')")
    assert load("one").name == "same"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "there is no module 'nowhere' in {folder} or among what is installed"),
        ("nowhere.deep:app", "there is no module 'nowhere' in {folder} or among what is installed"),
        ("one.deep:app", "there is no module 'one.deep' in {folder} or among what is installed"),
        ("nowhere.py:app", "there is no file 'nowhere.py'"),
        ("./sub/nowhere.py", "there is no file 'sub/nowhere.py'"),
        ("text/file.txt:app", "'file.txt' cannot be imported, permitted: a name such as 'app.py'"),
        ("dotted.name.py", "'dotted.name.py' cannot be imported, permitted: a name such as 'app.py'"),
        ("json.py", "'json.py' cannot be imported: there is a module 'json' already, rename the file"),
        ("one:nothing_there", "one has no 'nothing_there'"),
        ("one.app", "there is no module 'one.app' in {folder} or among what is installed, did you mean one:app?"),
        ("one:holder.missing.more", "one:holder has no 'missing'"),
        ("several", "several has several apps, say which: several:a, several:b"),
        ("none", "none has no app: name it, as in 'none:app'"),
        ("making", "making has no app: name it, as in 'making:app', perhaps you mean 'making:create_app()'"),
        ("one:create_app", "one:create_app is a function without parameters: call it with --factory, or as "
         "'one:create_app()'"),
        ("one:fails()", "one:fails() failed: RuntimeError: no database"),
        ("one:nothing()", "one:nothing() returned NoneType and no app"),
        ("one:later()", "one:later() returned coroutine and no app"),
        ("one:leaves()", "one:leaves() exits (with 'enough')"),
        ("one:number()", "one:number is int and no function that makes an app"),
        ("one:app()", "one:app is App and no function that makes an app"),
        ("broken", "broken cannot be imported: ZeroDivisionError: division by zero"),
        ("needy", "needy cannot be imported: ModuleNotFoundError: No module named 'not_installed'"),
        ("script", "script exits (with 4) when it is imported"),
        ("wrong_syntax", "wrong_syntax cannot be imported: SyntaxError: "),
        ("raises_nothing", "raises_nothing cannot be imported: ValueError"),
        ("", "'' must look like 'package.module:app', 'package.module:make()' or 'file.py:app'"),
        ("one:", "'one:' must look like "),
        (":app", "':app' must look like "),
        ("one:a b", "'one:a b' must look like "),
        ("one:app.", "'one:app.' must look like "),
        ("one:(x)", "'one:(x)' must look like "),
        ("one two", "'one two' must look like "),
        (".one", "'.one' must look like "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(write: Write, target: str, message: str) -> None:
    write("one.py", ONE)
    write("several.py", "from ferrows import App\na, b = App('a'), App('b')")
    write("none.py", "")
    write("making.py", "def create_app(): ...")
    write("broken.py", "def f():\n    return 1 / 0\nf()")
    write("needy.py", "import not_installed")
    write("script.py", "import sys\nsys.exit(4)")
    write("wrong_syntax.py", "def (")
    write("raises_nothing.py", "raise ValueError")
    for name in ("text/file.txt", "dotted.name.py", "json.py"):
        write(name, "")
    with pytest.raises(TargetError) as raised:
        load(target)
    assert str(raised.value).startswith(message.format(folder=Path.cwd()))
    assert "\n" not in str(raised.value)


def test_error_within_a_module_shows_the_end_of_its_traceback(write: Write) -> None:
    write("outer.py", "import broken")
    write("broken.py", "def f(depth):\n    return f(depth - 1) if depth else 1 / 0\nf(20)")
    with pytest.raises(TargetError) as raised:
        load("outer")
    trace = raised.value.trace
    assert 'broken.py", line 2, in f' in trace
    assert trace.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "importlib" not in trace
    assert "ferrows" not in trace
    assert len(trace.splitlines()) < 20


def test_cause_of_an_error_within_a_module_is_shown(write: Write) -> None:
    write("broken.py", "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('x') from error")
    with pytest.raises(TargetError) as raised:
        load("broken")
    assert "ZeroDivisionError" in raised.value.trace
    assert "direct cause" in raised.value.trace


def test_factory_that_is_not_found_is_an_error(write: Write) -> None:
    write("none.py", "")
    with pytest.raises(TargetError, match="none has none of create_app, make_app, app, application: name it"):
        load("none", factory=True)


def test_app_directory_must_exist(write: Write) -> None:
    with pytest.raises(TargetError, match="app directory 'nowhere' does not exist"):
        load("one", app_dir="nowhere")


# ---- what serves it


def test_app_serves_itself(app: App) -> None:
    assert hosted(app, "one:app") is app


@pytest.mark.parametrize(("found", "what"), [(5, "int"), (App, "a class"), (None, "NoneType")])
def test_what_is_no_application_is_refused(found: Any, what: str) -> None:
    with pytest.raises(TargetError, match=f"one:x is {what}, permitted: a ferrows App or an ASGI application"):
        hosted(found, "one:x")


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> None: ...


@pytest.mark.parametrize("found", [Wsgi(), Wsgi().__call__, lambda environ, start_response: None])
def test_wsgi_application_is_refused(found: Any) -> None:
    with pytest.raises(TargetError, match=r"one:x takes two arguments, as a WSGI application does, .*WsgiToAsgi"):
        hosted(found, "one:x")


def test_options_of_asgi_are_refused_for_an_app(app: App) -> None:
    with pytest.raises(TargetError, match="--root-path, --lifespan is for ASGI applications, and one is a ferrows App"):
        hosted(app, "one", root_path="/x", lifespan="on")


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def test_asgi_application_gets_a_host() -> None:
    host: Any = hosted(asgi, "one:asgi", root_path="/api")
    assert isinstance(host, App)
    assert host.root_path == "/api"


@pytest.fixture
def app() -> App:
    return App("hosted", env_prefix=None)
