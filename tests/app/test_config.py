"""Config: attribute, item, environment, and the checks at start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ferrows import App, Config
from ferrows.config import WEBSOCKET_OPTIONS
from ferrows.extensions import DeflateParameters


@pytest.fixture
def config() -> Config:
    return Config(env_prefix=None)


def test_defaults_are_the_documented_ones(config: Config) -> None:
    settings = config.websocket_settings()
    assert (settings.timeout, settings.ping_interval, settings.ping_timeout) == (10, 20, 20)
    assert (settings.max_size, settings.max_queue, settings.deflate, settings.origins) == (2**20, 32, None, None)


def test_attribute_and_item_are_the_same(config: Config) -> None:
    config.WEBSOCKET_MAX_SIZE = 1
    assert config["WEBSOCKET_MAX_SIZE"] == 1
    config["MY_OWN"] = "x"
    assert config.MY_OWN == "x"
    del config.MY_OWN
    assert "MY_OWN" not in config


def test_unknown_attribute_is_named(config: Config) -> None:
    with pytest.raises(AttributeError, match="NOT_THERE"):
        _ = config.NOT_THERE
    with pytest.raises(AttributeError, match="NOT_THERE"):
        del config.NOT_THERE


def test_update_takes_mappings_pairs_objects_and_keywords(config: Config) -> None:
    config.update({"A": 1}, [("B", 2)], SimpleNamespace(C=3, lower=4), D=5)
    assert [config[key] for key in "ABCD"] == [1, 2, 3, 5]
    assert "lower" not in config


def test_defaults_given_go_over_the_builtin_ones() -> None:
    assert Config({"ACCESS_LOG": False}, env_prefix=None).ACCESS_LOG is False


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("ACCESS_LOG", "off", False),
        ("DEBUG", "Yes", True),
        ("WEBSOCKET_MAX_SIZE", "1000", 1000),
        ("WEBSOCKET_MAX_SIZE", "none", None),
        ("WEBSOCKET_PING_INTERVAL", "0.5", 0.5),
        ("WEBSOCKET_PING_INTERVAL", "0", None),
        ("WEBSOCKET_PING_INTERVAL", "", None),
        ("WEBSOCKET_COMPRESSION", "deflate", {}),
        ("WEBSOCKET_COMPRESSION", '{"level": 9}', {"level": 9}),
        ("WEBSOCKET_COMPRESSION", "none", None),
        ("WEBSOCKET_ORIGINS", "https://a.example, http://b.example:81", ("https://a.example", "http://b.example:81")),
        ("FALLBACK_ERROR_FORMAT", "JSON", "json"),
        ("SERVER_NAME", "example.com", "example.com"),
        ("GRACEFUL_SHUTDOWN_TIMEOUT", "0", 0),
        ("MINE", "12", 12),
        ("MINE", "-1.5", -1.5),
        ("MINE", "true", True),
        ("MINE", "False", False),
        ("MINE", "no", "no"),
        ("MINE", "1.2.3", "1.2.3"),
        ("MINE", "", ""),
    ],
)
def test_environment_is_parsed_by_the_type_of_the_key(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, expected: Any
) -> None:
    monkeypatch.setenv(f"FERROWS_{variable}", text)
    value = Config()[variable]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("variable", "text", "permitted"),
    [
        ("ACCESS_LOG", "maybe", "true or false"),
        ("WEBSOCKET_MAX_SIZE", "big", "integer >= 1 or None"),
        ("WEBSOCKET_MAX_QUEUE", "none", "integer >= 1"),
        ("WEBSOCKET_TIMEOUT", "-1", "seconds >= 0"),
        ("REQUEST_TIMEOUT", "0", "seconds > 0"),
        ("REQUEST_TIMEOUT", "nan", "seconds > 0"),
        ("FALLBACK_ERROR_FORMAT", "xml", "auto, text, json, html"),
        ("WEBSOCKET_COMPRESSION", "brotli", "'deflate'"),
        ("WEBSOCKET_COMPRESSION", "{level: 9}", "JSON object"),
        ("WEBSOCKET_ORIGINS", "example.com", "'https://example.com'"),
    ],
)
def test_wrong_environment_variable_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, permitted: str
) -> None:
    monkeypatch.setenv(f"FERROWS_{variable}", text)
    with pytest.raises(ValueError, match=f"FERROWS_{variable} ") as raised:
        Config()
    assert permitted in str(raised.value)
    assert repr(text) in str(raised.value)


def test_switches_of_the_package_itself_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERROWS_NO_EXTENSIONS", "1")
    monkeypatch.setenv("FERROWS_lower", "1")
    monkeypatch.setenv("OTHER_ACCESS_LOG", "maybe")
    config = Config()
    assert "NO_EXTENSIONS" not in config
    assert "lower" not in config


def test_environment_prefix_can_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_WEBSOCKET_MAX_QUEUE", "7")
    assert App("shop", env_prefix="SHOP_").config.WEBSOCKET_MAX_QUEUE == 7


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WEBSOCKET_MAX_SIZE", "1000"),
        ("WEBSOCKET_MAX_SIZE", 0),
        ("WEBSOCKET_MAX_SIZE", True),
        ("WEBSOCKET_MAX_QUEUE", 1.5),
        ("WEBSOCKET_PING_INTERVAL", -1),
        ("WEBSOCKET_PING_TIMEOUT", "20"),
        ("WEBSOCKET_TIMEOUT", float("inf")),
        ("WEBSOCKET_COMPRESSION", 3),
        ("WEBSOCKET_COMPRESSION", {"level": 10}),
        ("WEBSOCKET_COMPRESSION", {"server_max_window_bits": 8}),
        ("WEBSOCKET_COMPRESSION", {"server_no_context_takeover": 1}),
        ("WEBSOCKET_COMPRESSION", {"windowbits": 15}),
        ("WEBSOCKET_ORIGINS", ["https://a.example/path"]),
        ("WEBSOCKET_ORIGINS", ["https://a.example:port"]),
        ("WEBSOCKET_ORIGINS", ["https://user@a.example"]),
        ("WEBSOCKET_ORIGINS", [1]),
        ("WEBSOCKET_ORIGINS", 1),
        ("ACCESS_LOG", "yes"),
        ("SERVER_NAME", None),
        ("REQUEST_MAX_SIZE", None),
    ],
)
def test_wrong_value_is_an_error_at_start_that_names_the_key(app: App, key: str, value: Any) -> None:
    app.config[key] = value
    with pytest.raises(ValueError, match=f"^{key} must"):
        app.finalize()


@pytest.mark.parametrize("key", ["WEBSOCKET_MAX_SIZE", "WEBSOCKET_MAX_QUEUE", "REQUEST_MAX_SIZE", "WEBSOCKET_TIMEOUT"])
@pytest.mark.parametrize("value", [2**63, 10**400])
def test_integer_beyond_63_bits_is_an_error_at_start_that_names_the_key(app: App, key: str, value: int) -> None:
    app.config[key] = 2**63 - 1
    app.finalize()
    app.config[key] = value
    with pytest.raises(ValueError, match=rf"^{key} must be at most 2\*\*63 - 1"):
        app.finalize()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("WEBSOCKET_MAX_SZIE", "did you mean WEBSOCKET_MAX_SIZE"),
        ("WEBSOCKET_MAXSIZE", "did you mean WEBSOCKET_MAX_SIZE"),
        ("REQUEST_TIMEOUTS", "did you mean REQUEST_TIMEOUT"),
        ("KEEP_ALIVE_TIME", "did you mean KEEP_ALIVE_TIMEOUT"),
        ("KEEP_ALIVES", "did you mean KEEP_ALIVE?"),
        ("WEBSOCKET_BACKEND", "permitted: .*WEBSOCKET_TIMEOUT"),
        ("websocket_max_size", "did you mean WEBSOCKET_MAX_SIZE"),
        ("access_log", "did you mean ACCESS_LOG"),
        ("Acces_Log", "did you mean ACCESS_LOG"),
    ],
)
def test_key_that_is_nearly_one_is_an_error_at_start(app: App, key: str, meant: str) -> None:
    setattr(app.config, key, 1)
    with pytest.raises(ValueError, match=f"^{key} is unknown, .*{meant}"):
        app.finalize()


def test_misspelt_variable_of_the_environment_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERROWS_WEBSOCKET_MAX_SZIE", "1")
    app = App("misspelt")
    with pytest.raises(ValueError, match="WEBSOCKET_MAX_SZIE is unknown, did you mean WEBSOCKET_MAX_SIZE"):
        app.finalize()


def test_other_keys_belong_to_the_app(app: App) -> None:
    app.config.update({"ACESS_LOG": 1, "DATABASE_URL": "x", "SECRET": None, "color": 1, 5: 5})
    app.finalize()
    assert app.config.DATABASE_URL == "x"


def test_deleted_key_is_an_error_at_start(app: App) -> None:
    del app.config.REQUEST_MAX_SIZE
    with pytest.raises(ValueError, match=r"REQUEST_MAX_SIZE must .* not None"):
        app.finalize()


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        (None, None),
        (False, None),
        (True, DeflateParameters()),
        ("deflate", DeflateParameters()),
        (
            {"server_max_window_bits": 9, "client_no_context_takeover": False, "threshold": 0},
            DeflateParameters(server_max_window_bits=9, client_no_context_takeover=False, threshold=0),
        ),
    ],
)
def test_compression_becomes_parameters(config: Config, compression: Any, expected: Any) -> None:
    assert config.websocket_settings(compression=compression).deflate == expected


def test_origins_are_serialised_as_browsers_do(config: Config) -> None:
    given = ["HTTPS://A.Example:443", "http://[::1]:8000", "null", "same", "*"]
    assert config.websocket_settings(origins=given).origins == (
        "https://a.example",
        "http://[::1]:8000",
        "null",
        "same",
        "*",
    )


def test_a_routes_option_counts_also_when_it_is_none(config: Config) -> None:
    config.WEBSOCKET_MAX_SIZE = 5
    assert config.websocket_settings(max_size=None).max_size is None
    assert config.websocket_settings().max_size == 5


@pytest.mark.parametrize("off", [None, 0])
def test_ping_interval_is_turned_off_by_none_and_zero(config: Config, off: Any) -> None:
    settings = config.websocket_settings(ping_interval=off, ping_timeout=off)
    assert (settings.ping_interval, settings.ping_timeout) == (None, None)


def test_unknown_option_of_a_route_is_named_with_those_permitted(config: Config) -> None:
    with pytest.raises(ValueError, match=r"'maximum' is unknown, permitted: max_size") as raised:
        config.websocket_settings(maximum=1)
    assert all(option in str(raised.value) for option in WEBSOCKET_OPTIONS)


def test_wrong_option_of_a_route_is_named_with_its_route(app: App) -> None:
    @app.websocket("/big", max_size="large")
    async def big(request: Any, ws: Any) -> None: ...

    with pytest.raises(ValueError, match=r"'/big': max_size must be an integer >= 1 or None for no limit, not 'large'"):
        app.finalize()


def test_wrong_global_setting_is_named_by_its_key_for_a_route(app: App) -> None:
    app.config.WEBSOCKET_MAX_QUEUE = 0
    with pytest.raises(ValueError, match="WEBSOCKET_MAX_QUEUE"):
        app.config.websocket_settings(max_size=1)
