"""Settings: sources and their order, endpoints and targets, one clear error, secrets kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ryla_tasks.artifacts import open_store
from ryla_tasks.config import sources
from ryla_tasks.config.prices import GPU_PRICES, price_per_second
from ryla_tasks.errors import ConfigurationError
from ryla_tasks.settings import (
    Endpoint,
    Limits,
    Settings,
    Target,
    TargetRef,
    configure,
    get_settings,
    parse_target_id,
    reset_settings,
    variable_for,
)

SECRET = "rpa_SECRETSECRETSECRET"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings from the machine the tests run on, none left for the next test."""
    for name in list(os.environ):
        if name.startswith("RYLA_") or name == "RUNPOD_API_KEY":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    # Other tests may have configured Django in this process; these say themselves when there is one.
    monkeypatch.delitem(sys.modules, "django.conf", raising=False)
    # The same goes for Flask apps.
    monkeypatch.setattr(sources, "_flask_configs", [])
    reset_settings()
    yield
    reset_settings()


def use_django(monkeypatch: pytest.MonkeyPatch, **ryla: Any) -> None:
    """Django as it is when a project has configured it, without keeping it configured for other tests."""
    from django.conf import LazySettings, UserSettingsHolder, global_settings

    holder = UserSettingsHolder(global_settings)
    holder.RYLA = ryla
    settings = LazySettings()
    settings._wrapped = holder
    import django.conf

    monkeypatch.setattr(django.conf, "settings", settings)
    monkeypatch.setitem(sys.modules, "django.conf", django.conf)


def error_of(**explicit: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**explicit)
    return caught.value


# --- what is enough, and what comes first ---


def test_a_key_and_one_endpoint_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", SECRET)
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", "abc123")
    settings = get_settings()
    assert settings.api_key_for("default").get_secret_value() == SECRET
    assert settings.endpoint("image").primary.id == "runpod:abc123"
    assert settings.broker_url == settings.redis_url == "redis://127.0.0.1:6379/0"


def test_nothing_set_gives_defaults_and_no_error() -> None:
    settings = get_settings()
    assert settings.endpoints == {}
    assert settings.runpod_api_key is None


def test_importing_needs_no_setting_and_neither_django_nor_celery() -> None:
    code = (
        "import sys, ryla_tasks.settings as s\n"
        "assert not {'django', 'celery', 'redis'} & set(sys.modules), sorted(sys.modules)\n"
        "s.get_settings\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "RYLA_REDIS_URL": "nonsense"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_order_of_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RYLA_KEY_PREFIX=dotenv\n")
    assert Settings().key_prefix == "dotenv"
    sources.take_flask_config({"key_prefix": "flask"})
    assert Settings().key_prefix == "flask"
    use_django(monkeypatch, KEY_PREFIX="django")
    assert Settings().key_prefix == "django"
    monkeypatch.setenv("RYLA_KEY_PREFIX", "environment")
    assert Settings().key_prefix == "environment"
    assert Settings(key_prefix="explicit").key_prefix == "explicit"


def test_sources_are_merged_by_endpoint_and_never_within_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('RYLA_ENDPOINT_LORA=fromdotenv\nRYLA_ENDPOINT_SPECIAL={"endpoint_id": "d"}\n')
    use_django(
        monkeypatch, ENDPOINTS={"image": {"endpoint_id": "fromdjango", "ttl_s": 7000}, "special": {"endpoint_id": "x"}}
    )
    settings = Settings(endpoints={"image": {"targets": ["explicit"]}})
    assert {name: endpoint.primary.endpoint_id for name, endpoint in settings.endpoints.items()} == {
        "image": "explicit",
        "lora": "fromdotenv",
        "special": "x",
    }
    assert settings.endpoint("image").ttl_s == 3600


def test_the_particular_variable_beats_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_ENDPOINTS", '{"image": "frommap", "lora": "l"}')
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", "own")
    settings = Settings()
    assert [settings.endpoint(name).primary.endpoint_id for name in ("image", "lora")] == ["own", "l"]


def test_prefixed_api_key_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "other")
    monkeypatch.setenv("RYLA_RUNPOD_API_KEY", "ours")
    assert Settings().api_key_for().get_secret_value() == "ours"


def test_api_key_from_dotenv_and_env_file_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text("RUNPOD_API_KEY=fromfile\nUNRELATED=1\n")
    assert Settings().runpod_api_key is None
    monkeypatch.setenv("RYLA_ENV_FILE", "other.env")
    assert Settings().api_key_for().get_secret_value() == "fromfile"
    monkeypatch.setenv("RYLA_ENV_FILE", "")
    assert Settings().runpod_api_key is None


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_TIMEZONE", "")
    monkeypatch.setenv("RYLA_ENDPOINT_LORA", "")
    settings = Settings()
    assert settings.timezone == "UTC"
    assert settings.endpoints == {}


def test_a_likely_misspelling_in_the_environment_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RYLA_REDIS_ULR", "redis://somewhere/0")
    monkeypatch.setenv("RYLA_PUBLIC_SITE", "the application's own")
    Settings()
    assert [record.getMessage() for record in caplog.records] == [
        "setting.unknown variable=RYLA_REDIS_ULR source=environment did_you_mean=RYLA_REDIS_URL"
    ]


# --- Flask ---


def test_a_flask_app_that_is_made_later_is_heard() -> None:
    assert get_settings().key_prefix == "ryla"
    sources.take_flask_config({"KEY_PREFIX": "first", "ENDPOINT_IMAGE": "abc"})
    assert get_settings().key_prefix == "first"
    assert get_settings() is get_settings()
    sources.take_flask_config({"KEY_PREFIX": "second"})
    assert (get_settings().key_prefix, get_settings().endpoints) == ("second", {})
    assert configure(key_prefix="explicit").key_prefix == "explicit"


@pytest.mark.parametrize(
    ("given", "word"), [({"KEY_PREFIKS": "x"}, "did you mean KEY_PREFIX?"), ([1], "no such setting")]
)
def test_a_wrong_name_in_flasks_config_is_an_error(given: Any, word: str) -> None:
    sources.take_flask_config(given)
    text = str(error_of())
    assert "(Flask's app.config['RYLA'])" in text
    assert word in text


# --- Django ---


def test_django_that_is_imported_but_not_configured_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import django.conf

    unconfigured = django.conf.LazySettings()
    monkeypatch.setattr(django.conf, "settings", unconfigured)
    monkeypatch.setitem(sys.modules, "django.conf", django.conf)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    assert get_settings().key_prefix == "ryla"
    assert not unconfigured.configured


def test_settings_are_read_again_once_django_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(timezone="Europe/Berlin")
    assert get_settings().key_prefix == "ryla"
    use_django(monkeypatch, key_prefix="django")
    assert get_settings().key_prefix == "django"
    assert get_settings().timezone == "Europe/Berlin"
    assert get_settings() is get_settings()


def test_a_wrong_name_in_djangos_dict_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    use_django(monkeypatch, REDIS_ULR="redis://h/0")
    assert str(error_of()) == ("REDIS_ULR (Django's settings.RYLA): there is no such setting; did you mean REDIS_URL?")


# --- endpoints and targets ---


def test_endpoint_from_an_object_with_its_only_target(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"endpoint_id": "abc", "gpu": "RTX 4090", "execution_timeout_s": 300, "limits": {"run_concurrent": 5}}
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", json.dumps(given))
    endpoint = Settings().endpoint("image")
    assert endpoint.execution_timeout_s == 300
    assert endpoint.primary.price_per_s == 0.00031
    assert endpoint.primary.limits == Limits(run_concurrent=5)


def test_endpoint_from_a_list_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", '["abc", {"endpoint_id": "def", "account": "backup", "price_per_s": 1}]')
    targets = Settings().endpoint("image").targets
    assert [target.id for target in targets] == ["runpod:abc", "runpod:def@backup"]
    assert [target.price_per_s for target in targets] == [None, 1]


def test_kinds_have_their_own_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_ENDPOINTS", json.dumps(dict.fromkeys(("image", "lora", "special", "other"), "e")))
    monkeypatch.setenv("RYLA_ENDPOINT_FACE_SWAP", '{"kind": "image", "endpoint_id": "e"}')
    endpoints = Settings().endpoints
    assert {name: (e.kind, e.execution_timeout_s, e.ttl_s, e.max_retries) for name, e in endpoints.items()} == {
        "image": ("image", 600, 3600, 3),
        "lora": ("lora", 14_400, 86_400, 1),
        "special": ("special", 1800, 7200, 3),
        "other": ("special", 1800, 7200, 3),
        "face_swap": ("image", 600, 3600, 3),
    }


def test_an_endpoint_object_is_taken_under_its_own_name_only() -> None:
    endpoint = Endpoint(name="image", targets=(Target(endpoint_id="abc"),))
    assert Settings(endpoints={"image": endpoint}).endpoint("image") is endpoint
    assert "RYLA_ENDPOINT_LORA" in str(error_of(endpoints={"lora": endpoint}))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("https://api.runpod.ai/v2/abc", "must be the endpoint's id"),
        ("a" * 65, "must be the endpoint's id"),
        (SECRET, "looks like an API key"),
        ("{broken", "is not valid JSON"),
        ("[]", "targets must have at least one target"),
        ('["abc", "abc"]', "targets names runpod:abc more than once"),
        ('{"targets": ["abc"], "gpu": "L4"}', "has targets, so gpu must stand inside them"),
        ('{"ttl_s": 3600}', "targets[0].endpoint_id is missing"),
        ('{"endpoint_id": "abc", "ttl": 1}', "ttl is no field here"),
        ('{"endpoint_id": "abc", "poll_max_s": 31}', "poll_max_s should be less than or equal to 30; it is 31"),
        ('{"endpoint_id": "abc", "poll_min_s": 11}', "poll_max_s must not be less than poll_min_s (11); it is 10"),
        ('{"endpoint_id": "abc", "execution_timeout_s": 9000}', "ttl_s must not be less than execution_timeout_s"),
        ('{"endpoint_id": "abc", "execution_timeout_s": 4}', "should be greater than or equal to 5; it is 4"),
        ('{"endpoint_id": "abc", "kind": "video"}', "kind should be 'image', 'lora' or 'special'; it is 'video'"),
        ('{"endpoint_id": "abc", "limits": {"run_concurrent": 0}}', "targets[0].limits.run_concurrent should be"),
        ('{"endpoint_id": "abc", "provider": "aws"}', "targets[0].provider should be 'runpod'; it is 'aws'"),
        ('{"endpoint_id": "abc", "max_cost_usd": 1}', "max_cost_usd cannot be kept without a price: set gpu or"),
        ('{"endpoint_id": "abc", "gpu": "L4", "daily_budget_usd": 0}', "daily_budget_usd should be greater than 0"),
        ('{"targets": ["abc", {"endpoint_id": "d", "gpu": "L4"}], "daily_budget_usd": 1}', "price_per_s of runpod:abc"),
    ],
)
def test_a_wrong_endpoint_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str, complaint: str
) -> None:
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", value)
    error = error_of()
    assert error.setting == "RYLA_ENDPOINT_IMAGE"
    assert str(error).startswith("RYLA_ENDPOINT_IMAGE: ")
    assert complaint in str(error)
    assert "\n" not in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize("value", ["{broken", '["abc"]', '"abc"'])
def test_a_wrong_map_of_endpoints_names_the_map(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RYLA_ENDPOINTS", value)
    assert str(error_of()).startswith("RYLA_ENDPOINTS: ")


def test_a_wrong_endpoint_name() -> None:
    assert "must begin with a small letter" in str(error_of(endpoints={"Image": "abc"}))
    assert error_of(endpoints={"face-swap": {}}).setting == "RYLA_ENDPOINTS"


def test_one_target_has_one_set_of_limits() -> None:
    other = {"endpoint_id": "abc", "limits": {"run_concurrent": 5}}
    assert "give runpod:abc two different limits" in str(error_of(endpoints={"image": "abc", "lora": other}))


def test_budgets_and_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = {"endpoint_id": "abc", "gpu": "L4", "max_cost_usd": 0.5, "daily_budget_usd": 20}
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", json.dumps(endpoint))
    monkeypatch.setenv("RYLA_ENDPOINT_ECHO", '{"endpoint_id": "free", "price_per_s": 0}')
    assert Settings().budget_alerts == (0.5, 0.8, 1.0)
    monkeypatch.setenv("RYLA_USER_DAILY_BUDGET_USD", "2.5")
    monkeypatch.setenv("RYLA_BUDGET_ALERTS", "[0.9, 1]")
    settings = Settings()
    assert (settings.endpoint("image").max_cost_usd, settings.endpoint("image").daily_budget_usd) == (0.5, 20.0)
    assert (settings.user_daily_budget_usd, settings.budget_alerts) == (2.5, (0.9, 1.0))
    assert settings.endpoint("image").primary.bill_cold_start


def test_a_users_budget_that_could_not_be_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", "abc")
    monkeypatch.setenv("RYLA_USER_DAILY_BUDGET_USD", "2.5")
    error = error_of()
    assert error.setting == "RYLA_USER_DAILY_BUDGET_USD"
    assert "cannot be kept without a price" in str(error)
    assert "runpod:abc" in str(error)


@pytest.mark.parametrize(
    ("value", "complaint"), [("0.5", "JSON list"), ("[0.5", "JSON list"), ("[0]", "greater"), ("[2]", "less")]
)
def test_wrong_shares_for_alerts(monkeypatch: pytest.MonkeyPatch, value: str, complaint: str) -> None:
    monkeypatch.setenv("RYLA_BUDGET_ALERTS", value)
    assert complaint in str(error_of())


def test_missing_endpoint_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match="RYLA_ENDPOINT_IMAGE is not set") as caught:
        Settings(endpoints={"lora": "abc"}).endpoint("image")
    assert caught.value.setting == "RYLA_ENDPOINT_IMAGE"
    assert "there are: lora" in str(caught.value)


@pytest.mark.parametrize("account", ["default", "team-b"])
def test_target_id_is_read_back(account: str) -> None:
    target = Target(endpoint_id="Ab_1-2", account=account)
    assert parse_target_id(target.id) == TargetRef("runpod", "Ab_1-2", account)


@pytest.mark.parametrize(
    "text", ["", "abc", "runpod:", "runpod:a b", "aws:abc", "runpod:abc@", "runpod:abc@B", "x" * 999]
)
def test_what_is_no_target_id_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a target"):
        parse_target_id(text)


def test_a_stored_target_is_found_even_when_it_is_configured_no_more() -> None:
    settings = Settings(endpoints={"image": {"endpoint_id": "abc", "gpu": "L4"}})
    assert settings.target("runpod:abc") is settings.endpoint("image").primary
    assert settings.target("runpod:gone@old") == Target(endpoint_id="gone", account="old")


# --- prices ---


@pytest.mark.parametrize(
    ("gpu", "listed"),
    [
        ("4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("rtx-4090", "RTX 4090"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000"),
        ("NVIDIA RTX 4000 Ada Generation", "RTX 4000"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        *((gpu, gpu) for gpu in GPU_PRICES),
    ],
)
def test_a_price_is_found_by_any_common_name(gpu: str, listed: str) -> None:
    assert price_per_second(gpu) == GPU_PRICES[listed]


@pytest.mark.parametrize("gpu", ["", "RTX 5090", "RTX 6000", "H100 NVL", "potato"])
def test_an_unlisted_gpu_has_no_price(gpu: str) -> None:
    assert price_per_second(gpu) is None


# --- wrong settings ---


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("RYLA_REDIS_URL", "http://h:6379", "must be redis://"),
        ("RYLA_BROKER_URL", "amqp://h", "must be redis://"),
        ("RYLA_REDIS_URL", "sentinel://a:26379;sentinel://b:26379", "RYLA_SENTINEL_MASTER: must name the master"),
        ("RYLA_KEY_PREFIX", "a b", "should match pattern"),
        ("RYLA_SWEEP_INTERVAL_S", "7", "should be less than or equal to 6; it is '7'"),
        ("RYLA_SWEEP_INTERVAL_S", "soon", "should be a valid number"),
        ("RYLA_WORKER_CONCURRENCY", "1", "should be greater than or equal to 2"),
        ("RYLA_DURABLE_INTENT", "yes", "should be 'none', 'aof' or 'replicas'; it is 'yes'"),
        ("RYLA_DURABLE_INTENT", "replicas", "RYLA_DURABLE_REPLICAS: must be at least 1"),
        ("RYLA_DURABLE_REPLICAS", "1", "needs durable_intent to be replicas or aof"),
        ("RYLA_HTTP_TOTAL_S", "3", "must not be less than http_connect_s and http_read_s (15); it is 3"),
        ("RYLA_RUNPOD_URL", "api.runpod.ai", "must begin with http:// or https://"),
        ("RYLA_ARTIFACTS", "ftp://host/here", "must be a folder, file:// with a folder, or s3://"),
        ("RYLA_ARTIFACTS", "s3://", "must be a folder, file:// with a folder, or s3://"),
        ("RYLA_TEMPLATES_DIR", "/does/not/exist", "there is none at /does/not/exist"),
        ("RYLA_TIMEZONE", "Europe/Nowhere", "'Europe/Nowhere' is not known"),
        ("RYLA_TIMEZONE", "../../etc/passwd", "is not known"),
        ("RYLA_LOG_LEVEL", "LOUD", "should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("RUNPOD_API_KEY", "two words", "must be an API key"),
        ("RYLA_ACCOUNT_BACKUP", "two\nlines", "RYLA_ACCOUNT_BACKUP: must be an API key"),
        ("RYLA_ACCOUNT_DEFAULT", "key", "its key is RUNPOD_API_KEY"),
        ("RYLA_ACCOUNTS", "{", "is not valid JSON"),
    ],
)
def test_a_wrong_value_is_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str) -> None:
    monkeypatch.setenv(variable, value)
    message = str(error_of())
    assert complaint in message
    assert "\n" not in message
    if not complaint.startswith("RYLA_") and variable != "RYLA_ACCOUNT_DEFAULT":
        assert message.startswith(f"{variable}: ")


def test_several_wrong_settings_are_listed_with_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("RYLA_LOG_LEVEL=LOUD\n")
    monkeypatch.setenv("RYLA_ENDPOINT_LORA", '{"endpoint_id": "a", "max_retries": -1}')
    error = error_of(sweep_interval_s=0, redis_ulr="redis://h")
    assert str(error).splitlines() == [
        "4 settings are wrong:",
        "  RYLA_ENDPOINT_LORA: max_retries should be greater than or equal to 0; it is -1",
        "  RYLA_SWEEP_INTERVAL_S (argument): should be greater than or equal to 1; it is 0",
        "  RYLA_LOG_LEVEL (.env file): should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'; it is 'LOUD'",
        "  redis_ulr (argument): there is no such setting; did you mean redis_url?",
    ]
    assert error.setting == "RYLA_ENDPOINT_LORA"


def test_missing_key_is_an_error_only_where_it_is_needed() -> None:
    settings = Settings(endpoints={"image": {"endpoint_id": "a", "account": "backup"}})
    with pytest.raises(ConfigurationError, match="RUNPOD_API_KEY is not set") as caught:
        settings.api_key_for("default")
    assert caught.value.setting == "RUNPOD_API_KEY"
    with pytest.raises(ConfigurationError, match="RYLA_ACCOUNT_BACKUP is not set"):
        settings.api_key_for("backup")


def test_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_ACCOUNTS", '{"team-b": "kb"}')
    monkeypatch.setenv("RYLA_ACCOUNT_BACKUP", "  kbackup ")
    settings = Settings()
    assert settings.api_key_for("team-b").get_secret_value() == "kb"
    assert settings.api_key_for("backup").get_secret_value() == "kbackup"


@pytest.mark.parametrize("value", ["file://./my%20files", "my files", "./my files", "{here}/my files"])
def test_artifacts_in_a_folder_stay_where_they_were_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("RYLA_ARTIFACTS", value.format(here=tmp_path))
    settings = Settings()
    monkeypatch.chdir("/")
    assert settings.artifacts == f"file://{tmp_path.resolve()}/my%20files"


def test_artifacts_by_default_and_in_a_bucket(tmp_path: Path) -> None:
    assert Settings().artifacts == f"file://{tmp_path.resolve()}/ryla-artifacts"
    bucket = "s3://bucket/prefix?endpoint_url=http://127.0.0.1:9000"
    assert Settings(artifacts=bucket).artifacts == bucket
    open_store(Settings().artifacts)


# --- secrets ---


def test_no_secret_in_an_error_or_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", f"{SECRET} {SECRET}")
    monkeypatch.setenv("RYLA_ACCOUNT_B", f"{SECRET}\t")
    monkeypatch.setenv("RYLA_REDIS_URL", f"ftp://user:{SECRET}@h/0")
    monkeypatch.setenv("RYLA_BROKER_URL", f"ftp://user:{SECRET}@h/0")
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", SECRET)
    monkeypatch.setenv("RYLA_SWEEP_INTERVAL_S", "0")
    error = error_of()
    assert "RYLA_SWEEP_INTERVAL_S" in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))
    assert error.__context__ is None
    assert error.__cause__ is None


def test_no_secret_in_the_repr() -> None:
    settings = Settings(
        runpod_api_key=SECRET,
        accounts={"b": SECRET},
        redis_url=f"redis://:{SECRET}@h/0",
        broker_url=f"redis://:{SECRET}@h/1",
    )
    assert SECRET not in repr(settings) + str(settings)


# --- the process's own ---


def test_configure_stays_and_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(key_prefix="one")
    monkeypatch.setenv("RYLA_KEY_PREFIX", "two")
    configure(timezone="Europe/Berlin")
    settings = get_settings()
    assert (settings.key_prefix, settings.timezone) == ("one", "Europe/Berlin")
    assert str(settings.tzinfo) == "Europe/Berlin"


def test_a_wrong_configure_changes_nothing() -> None:
    before = configure(key_prefix="one")
    with pytest.raises(ConfigurationError):
        configure(key_prefix="two", sweep_interval_s=99)
    assert get_settings() is before


def test_reset_reads_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(key_prefix="one")
    reset_settings()
    assert get_settings().key_prefix == "ryla"


def test_many_threads_get_the_same_settings() -> None:
    barrier, found = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait(5)
        found.append(get_settings())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(found) == 8
    assert len({id(settings) for settings in found}) == 1


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        get_settings().key_prefix = "other"  # type: ignore[misc]


@pytest.mark.parametrize("model", [Settings, Endpoint, Target, Limits])
def test_every_field_says_what_it_means(model: type[Settings]) -> None:
    undescribed = [name for name, field in model.model_fields.items() if not field.description]
    assert undescribed == []


def test_no_field_hides_behind_a_family_of_variables() -> None:
    assert [name for name in Settings.model_fields if name.startswith(("endpoint_", "account_"))] == []
    assert variable_for("redis_url") == "RYLA_REDIS_URL"
