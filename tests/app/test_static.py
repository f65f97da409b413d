"""Static files: what is served, and that nothing outside of the directory is."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

import pytest

from ferrows import App, HTTPResponse
from ferrows.response import ResponseStream

from .harness import Ask

pytestmark = pytest.mark.skipif(os.name != "posix", reason="symbolic links")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (root / "a.txt").write_text("a")
    (root / "sp ace é.txt").write_text("space")
    (root / "sub" / "index.html").write_text("<p>index")
    (root / "inside").symlink_to("a.txt")
    (root / "outside").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    return root


def shown(response: HTTPResponse | None) -> tuple[int, bytes]:
    assert response is not None
    return response.status, response.body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/f/a.txt", b"a"),
        ("/f/sp%20ace%20%C3%A9.txt", b"space"),
        ("/f/inside", b"a"),
        ("/f/sub/index.html", b"<p>index"),
        ("/f/sub%2Findex.html", b"<p>index"),
    ],
)
async def test_file_in_the_directory_is_served(app: App, ask: Ask, root: Path, path: str, body: bytes) -> None:
    app.static("/f", root)
    assert shown(await ask(app, path)) == (200, body)
    assert (await ask(app, path, "HEAD")).status == 200  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "path",
    [
        "/f/missing",
        "/f/",
        "/f",
        "/f/sub",
        "/f/sub/",
        "/f/../secret.txt",
        "/f/%2e%2e/secret.txt",
        "/f/..%2Fsecret.txt",
        "/f/sub/..%2F../../secret.txt",
        "/f/..%5Csecret.txt",
        "/f/outside",
        "/f/up/secret.txt",
        "/f/loop",
        "/f/fifo",
        "/f/a.txt/x",
        "/f/%00",
        "/f//etc/passwd",
        "/f/%2Fetc%2Fpasswd",
        "/f/" + "x" * 5000,
    ],
)
async def test_nothing_else_is_served(app: App, ask: Ask, root: Path, path: str) -> None:
    app.static("/f", root)
    status, body = shown(await ask(app, path))
    assert status == 404
    assert b"secret\n" not in body and str(root).encode() not in body


async def test_conditional_request_is_answered_with_304(app: App, ask: Ask, root: Path) -> None:
    app.static("/f", root)
    first = await ask(app, "/f/a.txt")
    assert first is not None
    second = await ask(app, "/f/a.txt", headers={"if-none-match": first.headers["etag"]})
    third = await ask(app, "/f/a.txt", headers={"if-modified-since": first.headers["last-modified"]})
    assert (shown(second), shown(third)) == ((304, b""), (304, b""))


async def test_other_method_is_405(app: App, ask: Ask, root: Path) -> None:
    app.static("/f", root)
    response = await ask(app, "/f/a.txt", "POST")
    assert response is not None
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")


async def test_single_file_at_its_own_path(app: App, ask: Ask, root: Path) -> None:
    app.static("/favicon", root / "a.txt", name="icon", content_type="image/x-icon")
    response = await ask(app, "/favicon")
    assert response is not None
    assert (response.body, response.content_type) == (b"a", "image/x-icon")
    assert app.url_for("static", name="icon") == "/favicon"
    (root / "a.txt").unlink()
    assert shown(await ask(app, "/favicon"))[0] == 404


async def test_single_file_at_the_root(app: App, ask: Ask, root: Path) -> None:
    app.static("/", root / "a.txt")
    assert shown(await ask(app, "/")) == (200, b"a")


async def test_index_is_served_for_a_directory_with_a_slash(app: App, ask: Ask, root: Path) -> None:
    (root / "index.html").write_text("<p>top")
    app.static("/f", root, index=["home.html", "index.html"])
    assert shown(await ask(app, "/f/sub/")) == (200, b"<p>index")
    assert shown(await ask(app, "/f/")) == (200, b"<p>top")
    assert shown(await ask(app, "/f/index.html")) == (200, b"<p>top")
    redirects = [await ask(app, "/f/sub"), await ask(app, "/f")]
    assert [(response.status, response.headers["location"]) for response in redirects if response] == [
        (301, "/f/sub/"),
        (301, "/f/"),
    ]


async def test_index_through_a_link_to_the_outside_is_not_served(app: App, ask: Ask, root: Path) -> None:
    (root / "index.html").symlink_to(root.parent / "secret.txt")
    app.static("/", root, index="index.html")
    assert shown(await ask(app, "/"))[0] == 404


async def test_redirect_to_a_directory_stays_on_this_host(app: App, ask: Ask, root: Path) -> None:
    app.static("/", root, index="index.html")
    assert shown(await ask(app, "//sub"))[0] == 404
    response = await ask(app, "/sub")
    assert response is not None
    assert response.headers["location"] == "/sub/"


async def test_large_file_is_not_read_whole(app: App, ask: Ask, root: Path) -> None:
    (root / "large.bin").write_bytes(b"x" * (2**20 + 1))
    app.static("/f", root)
    response = await ask(app, "/f/large.bin")
    assert isinstance(response, ResponseStream)
    assert response.body == b""


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
async def test_file_that_may_not_be_read_is_403(app: App, ask: Ask, root: Path) -> None:
    (root / "a.txt").chmod(0)
    app.static("/f", root)
    assert shown(await ask(app, "/f/a.txt"))[0] == 403


@pytest.mark.parametrize(("raised", "status"), [(PermissionError, 403), (FileNotFoundError, 404)])
async def test_file_that_cannot_be_opened_any_more(
    app: App, ask: Ask, root: Path, monkeypatch: pytest.MonkeyPatch, raised: type[OSError], status: int
) -> None:
    async def fail(*args: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr("ferrows.static.file", fail)
    app.static("/f", root)
    assert shown(await ask(app, "/f/a.txt"))[0] == status


def test_types_that_the_program_has_added_stay(app: App, root: Path) -> None:
    mimetypes.add_type("application/x-ours", ".ours")
    app.static("/later", root, name="later")
    assert mimetypes.guess_type("file.ours")[0] == "application/x-ours"


def test_path_that_is_not_there_is_an_error_at_registration(app: App, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        app.static("/f", tmp_path / "missing")


def test_url_of_a_static_file(app: App, root: Path) -> None:
    app.static("/f", root)
    app.static("/g", root, name="uploads")
    assert app.url_for("static", filename="/sub/a b.txt") == "/f/sub/a%20b.txt"
    assert app.url_for("static", name="uploads", filename="a.txt") == "/g/a.txt"
    assert repr(app.routes[0].handler) == f"<StaticFiles {root}>"
