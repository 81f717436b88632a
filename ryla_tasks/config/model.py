"""The model of all settings: their names, types, defaults and what they mean."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ryla_tasks.config.checks import ApiKey, ArtifactsUrl, File, Folder, HttpUrl, RedisUrl, TimezoneName, timezone_named
from ryla_tasks.config.endpoints import Endpoint, named, opened
from ryla_tasks.config.problems import configuration_error
from ryla_tasks.config.sources import (
    DjangoSource,
    DotenvSource,
    EnvironmentSource,
    FlaskSource,
    VariableSource,
    variable_for,
)
from ryla_tasks.config.targets import DEFAULT_ACCOUNT, Target, checked_name, parse_target_id
from ryla_tasks.errors import ConfigurationError

__all__ = ["Settings"]

_RUNPOD_URL = "https://api.runpod.ai/v2"
_MANAGEMENT_URL = "https://api.runpod.io/v2"

_SOURCES: tuple[type[VariableSource], ...] = (EnvironmentSource, DjangoSource, FlaskSource, DotenvSource)


class Settings(BaseSettings):
    """All settings, checked. Immutable. Raises `ConfigurationError` when made from wrong values.

    `get_settings()` gives the process's own; make one directly only to have a second set beside it.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # --- Redis ---
    redis_url: RedisUrl = Field(
        default="redis://127.0.0.1:6379/0",
        repr=False,
        description="Redis or Valkey, 7.0 or newer: broker, result backend and job store. redis://, rediss:// (TLS) or "
        "sentinel://host:port;sentinel://host:port. Use a database of its own: on a shared one Celery's shortest "
        "visibility time-out wins for all. Needs maxmemory-policy noeviction, and appendonly yes to survive a crash.",
    )
    broker_url: RedisUrl = Field(
        default_factory=lambda data: data["redis_url"],
        repr=False,
        description="Celery's broker where it is another Redis than the rest. Default: redis_url.",
    )
    sentinel_master: str = Field(
        default="", description="The name of the master that the Sentinels watch. Needed with sentinel:// only."
    )
    redis_tls_ca: Path | None = Field(
        default=None, description="The file with the CA certificates for rediss://. Default: the system's."
    )
    redis_tls_verify: Literal["required", "optional", "none"] = Field(
        default="required", description="Whether the certificate behind rediss:// is checked."
    )
    redis_timeout_s: float = Field(
        default=5,
        ge=0.5,
        le=30,
        description="How long a connection to Redis, and one answer from it, may take, in seconds. Past that an "
        "enqueue in a web request fails with StoreUnavailable or EnqueueUnknown instead of hanging.",
    )
    key_prefix: str = Field(
        default="ryla",
        pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="The beginning of every key that ryla_tasks has in Redis. Installations that share a database "
        "need different ones; their queues are named by it too (`ryla.jobs`).",
    )
    durable_intent: Literal["none", "aof", "replicas"] = Field(
        default="none",
        description="What is waited for between writing down that a job will be submitted and submitting it. none: "
        "nothing; a power cut of Redis within its fsync interval can then forget a submit that took place. aof: its "
        "disk (WAITAOF, Redis 7.2 or newer, appendonly yes). replicas: durable_replicas of its replicas (WAIT).",
    )
    durable_replicas: int = Field(
        default=0,
        ge=0,
        le=16,
        description="How many replicas have to have the intent: at least 1 with durable_intent replicas; with aof, how "
        "many replicas' disks besides the master's.",
    )
    durable_timeout_s: float = Field(
        default=2,
        gt=0,
        le=10,
        description="How long that may take, in seconds. Past it nothing is submitted, and the job is tried later.",
    )
    keep_input_bytes: int = Field(
        default=1_048_576,
        ge=0,
        le=16_777_216,
        description="How large the inputs of a job may be, compressed, to be kept when it does not complete, so that "
        "`ryla retry` can make it again: they then lie in Redis for as long as its record. 0 keeps none.",
    )
    visibility_timeout_s: int = Field(
        default=300,
        ge=90,
        le=3600,
        description="After how many seconds Celery gives a message that its worker did not acknowledge to another one. "
        "Jobs do not depend on it, but the chains and chords around them do. Must be the same in every app on this "
        "database.",
    )
    redis_server: Path | None = Field(
        default=None,
        description="The redis-server or valkey-server program that `ryla demo`, `ryla dev` and the tests start. "
        "Default: the one from the embedded extra, else one on PATH.",
    )

    # --- RunPod ---
    runpod_api_key: ApiKey | None = Field(
        default=None,
        description="The API key of the default account. Set as RUNPOD_API_KEY, or as RYLA_RUNPOD_API_KEY, which goes "
        "first. Processes that only enqueue jobs need none.",
    )
    accounts: dict[str, ApiKey] = Field(
        default_factory=dict,
        description="The API keys of further accounts, by the name that targets use: RYLA_ACCOUNT_<NAME>=key, or "
        "RYLA_ACCOUNTS with a JSON object.",
    )
    runpod_url: HttpUrl = Field(
        default=_RUNPOD_URL, description="Where RunPod's serverless API, or a simulator of it, answers."
    )
    endpoints: dict[str, Endpoint] = Field(
        default_factory=dict,
        description="The endpoints by name: RYLA_ENDPOINT_<NAME> with an endpoint id, a JSON object or a JSON list of "
        "targets, or RYLA_ENDPOINTS with a JSON object from name to any of these.",
    )
    runpod_management_url: HttpUrl = Field(
        default_factory=lambda data: _management_of(data.get("runpod_url", "")),
        description="Where RunPod's management API, version 2, answers: it says how many workers an endpoint may have, "
        "and what was billed. Default: https://api.runpod.io/v2, or runpod_url where that is set, as for a simulator.",
    )
    http_connect_s: float = Field(
        default=5, gt=0, le=30, description="How long a connection to RunPod may take, in seconds."
    )
    http_read_s: float = Field(
        default=15, gt=0, le=60, description="How long RunPod may send nothing in the middle of an answer, in seconds."
    )
    http_total_s: float = Field(
        default=30,
        gt=0,
        le=120,
        description="How long one call to RunPod may take in all, in seconds. A submit that is not answered by then "
        "has an unknown outcome.",
    )

    breaker_failures: float = Field(
        default=0.5,
        ge=0.1,
        le=1,
        description="Above which share of failures a target gets no more submits for a while: of submit calls, or of "
        "attempts, that failed through no fault of their input. 1 is never.",
    )
    breaker_calls: int = Field(
        default=20, ge=10, le=50, description="How many of the latest submits or attempts that share is taken of."
    )
    breaker_window_s: float = Field(
        default=300,
        ge=10,
        le=3600,
        description="How old those may be, in seconds. With fewer than ten, nothing is held.",
    )
    breaker_pause_s: float = Field(
        default=10,
        ge=1,
        le=300,
        description="How long such a target is left alone before one job tries it, in seconds. Each try that fails "
        "doubles it, up to five minutes.",
    )

    webhook_url: HttpUrl | None = Field(
        default=None,
        description="The public https address where RunPod's webhook calls reach `ryla_tasks.webhooks`. With it, "
        "results are noticed at once, polls thin out to a safety net, and a submit whose answer was lost is found "
        "again.",
    )
    webhook_secret: ApiKey | None = Field(
        default=None,
        description="What the tokens in webhook addresses and the signatures of artifacts_url are made with: any long "
        "random text, the same everywhere. Needed with either. Calls made under an earlier secret are refused.",
    )

    # --- Cold starts and stuck queues ---
    health_interval_s: float = Field(
        default=30,
        ge=1,
        le=60,
        description="How often an endpoint's /health is asked, in seconds, by all workers together, and only while a "
        "job waits there.",
    )
    stuck_after_s: float = Field(
        default=480,
        ge=1,
        le=86_400,
        description="How long jobs may wait while there is no worker at all, or only throttled ones, until the "
        "endpoint counts as stuck, in seconds. The default is the worst cold start seen.",
    )
    stuck_unhealthy_after_s: float = Field(
        default=120,
        ge=1,
        le=86_400,
        description="The same for workers that crash or do not get ready, in seconds.",
    )

    # --- Money ---
    user_daily_budget_usd: float | None = Field(
        default=None,
        gt=0,
        description="What one user's jobs may cost in a day, in US dollars, at all endpoints together; jobs without a "
        "user_id are not limited by it. Jobs that do not fit fail. Default: no limit.",
    )
    budget_alerts: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.5, 0.8, 1.0),
        description="At which shares of an endpoint's daily budget the operator is told, once a day each: a JSON list.",
    )

    # --- Alerts ---
    alert_urls: tuple[SecretStr, ...] = Field(
        default=(),
        description="Where alerts go, as addresses of apprise: a JSON list, or with spaces between. For instance "
        "slack://..., mailtos://user:password@host?to=you@host, jsons://host/path. Needs the extra alerts. One "
        "worker process of the fleet sends.",
    )
    alert_severity: Literal["info", "warning", "critical"] = Field(
        default="warning", description="The least that is sent."
    )
    alert_rate: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="How many messages each of these gets in an hour at the most. What is over that comes together, "
        "when the hour is over.",
    )
    alert_failure_rate: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Above which share of failures among an hour's attempts at a target the operator is told. 1 is "
        "never.",
    )

    # --- Artifacts and workflows ---
    artifacts: ArtifactsUrl = Field(
        default="file://./ryla-artifacts",
        description="Where the files that jobs make are kept: a folder that every worker and web process sees, with or "
        "without file:// in front, or s3://bucket/prefix?endpoint_url=...&region=... (the s3 extra; credentials as "
        "boto3 finds them). A relative folder is one of the working directory; the value is made absolute.",
    )
    artifacts_url: HttpUrl | None = Field(
        default=None,
        description="Where a web app serves the files of a folder to GPU workers, by signed URLs that expire: the "
        "public https address of its `shared` route, as https://app.example/ryla/shared. Trainings then take uploads, "
        "and image jobs new LoRAs, without S3. Only for artifacts in a folder; needs webhook_secret.",
    )
    artifact_url_ttl_s: int = Field(
        default=3600,
        ge=60,
        le=604_800,
        description="How long a URL of an artifact works, in seconds. URLs are made when a result is read.",
    )
    download_private: bool = Field(
        default=False,
        description="Whether output files may be downloaded from private and loopback addresses, as when GPU workers "
        "upload to a store of one's own. Link-local addresses are refused in any case.",
    )
    download_ca_bundle: File | None = Field(
        default=None,
        description="A file of certificates to trust in place of the usual ones when output files are downloaded, as "
        "when a store of one's own has a certificate by one's own authority.",
    )
    templates_dir: Folder | None = Field(
        default=None,
        description="A folder with workflow templates of your own, beside those that come with the package.",
    )

    # --- Web apps ---
    web_streams: int = Field(
        default=4,
        ge=0,
        le=1000,
        description="How many event streams a web process holds open at a time under a server with threads; each holds "
        "one. Half of the server's threads is a good number. Browsers beyond it get what there is, and come back every "
        "two seconds. Servers with gevent or ASGI are not limited by it.",
    )

    # --- Workers ---
    sweep_interval_s: float = Field(
        default=5,
        ge=1,
        le=6,
        description="How often each worker process looks for jobs whose message is late or lost, in seconds. At most "
        "6: with the 8 s lease of a poll it has to stay under 15 s, within which a lost job is found.",
    )
    worker_concurrency: int = Field(
        default=4,
        ge=2,
        le=256,
        description="Threads of a worker process. A job that waits for its GPU holds none. At least 2, because the "
        "last free one is kept for polls.",
    )
    show_arguments: bool = Field(
        default=False,
        description="Show the arguments of tasks in Flower, in events and in logs. They hold prompts and signed URLs.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least that is logged."
    )
    log_format: Literal["console", "json"] = Field(
        default="console",
        description="How workers and the other services of ours log: lines of text, or a JSON object a line "
        "(docs/logs.md). Workers of an app of one's own log as that app does, unless this is set.",
    )
    timezone: TimezoneName = Field(
        default="UTC",
        description="What a day is, in daily figures and limits, for instance Europe/Berlin. All times stay in UTC.",
    )

    def __init__(self, **explicit: Any) -> None:
        try:
            super().__init__(**explicit)
            return
        except ValidationError as error:
            problem = configuration_error(error, list(type(self).model_fields), _origins(type(self), explicit))
        # Outside of the except block, so that pydantic's error, which holds the values, is not chained to this one.
        raise problem

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, *(source(settings_cls) for source in _SOURCES))

    @field_validator("sentinel_master")
    @classmethod
    def _master_named(cls, value: str, info: ValidationInfo) -> str:
        urls = (info.data.get("redis_url", ""), info.data.get("broker_url", ""))
        if not value and any(url.startswith("sentinel://") for url in urls):
            raise ValueError("must name the master, because redis_url or broker_url is sentinel://")
        return value

    @field_validator("durable_replicas")
    @classmethod
    def _replicas_counted(cls, value: int, info: ValidationInfo) -> int:
        intent = info.data.get("durable_intent")
        if intent == "replicas" and value < 1:
            raise ValueError("must be at least 1, because durable_intent is replicas")
        if intent == "none" and value:
            raise ValueError("needs durable_intent to be replicas or aof; it is none")
        return value

    @field_validator("accounts", mode="before")
    @classmethod
    def _accounts_opened(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must be an object from account name to API key")
        return {name: opened(item) for name, item in value.items()}

    @field_validator("accounts")
    @classmethod
    def _accounts_named(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if DEFAULT_ACCOUNT in value:
            raise ValueError("must not hold the default account; its key is RUNPOD_API_KEY")
        for name in value:
            checked_name(name)
        return value

    @field_validator("endpoints", mode="before")
    @classmethod
    def _endpoints_named(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must be an object from name to endpoint")
        return {str(name): named(str(name), item) for name, item in value.items()}

    @field_validator("endpoints")
    @classmethod
    def _limits_agree(cls, value: dict[str, Endpoint]) -> dict[str, Endpoint]:
        seen: dict[str, Target] = {}
        for endpoint in value.values():
            for target in endpoint.targets:
                if seen.setdefault(target.id, target).limits != target.limits:
                    raise ValueError(f"give {target.id} two different limits; the whole fleet shares one")
        return value

    @field_validator("user_daily_budget_usd")
    @classmethod
    def _has_prices(cls, value: float | None, info: ValidationInfo) -> float | None:
        endpoints: dict[str, Endpoint] = info.data.get("endpoints", {})
        targets = [target for endpoint in endpoints.values() for target in endpoint.targets]
        unpriced = [target.id for target in targets if target.price_per_s is None]
        if value is not None and unpriced:
            raise ValueError(
                f"cannot be kept without a price: set gpu or price_per_s (0 for what costs nothing) of "
                f"{', '.join(unpriced)}"
            )
        return value

    @field_validator("budget_alerts", mode="before")
    @classmethod
    def _shares_read(cls, value: Any) -> Any:
        if isinstance(value, str):
            with suppress(ValueError):
                value = json.loads(value)
        if not isinstance(value, list | tuple):
            raise ValueError("must be a JSON list such as [0.5, 1]")
        return value

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _urls_read(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = value.split()
        if not isinstance(value, list | tuple):
            raise ValueError("must be a JSON list of addresses, or addresses with spaces between")
        if not all(isinstance(one, SecretStr) or (isinstance(one, str) and "://" in one) for one in value):
            raise ValueError("must be addresses such as slack://... (they are not shown)")
        return tuple(value)

    @field_validator("http_total_s")
    @classmethod
    def _total_is_most(cls, value: float, info: ValidationInfo) -> float:
        parts = max(info.data.get("http_connect_s", 0), info.data.get("http_read_s", 0))
        if value < parts:
            raise ValueError(f"must not be less than http_connect_s and http_read_s ({parts:g}); it is {value:g}")
        return value

    @field_validator("artifacts_url")
    @classmethod
    def _signed(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("webhook_secret") is None:
            raise ValueError("needs webhook_secret, which signs its URLs")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _secret_with_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("webhook_url") and value is None:
            raise ValueError("must be set, because webhook_url is")
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters")
        return value

    @property
    def tzinfo(self) -> datetime.tzinfo:
        """The time zone that says what a day is."""
        return timezone_named(self.timezone)

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of this name. Raises `ConfigurationError` naming the variable that would add it."""
        try:
            return self.endpoints[name]
        except KeyError:
            variable = variable_for("endpoints", name)
            known = ", ".join(sorted(self.endpoints)) or "none"
            raise ConfigurationError(
                f"{variable} is not set: there is no endpoint {name!r} (there are: {known}). "
                f"Set it to the id of a RunPod serverless endpoint.",
                setting=variable,
            ) from None

    def target(self, target_id: str) -> Target:
        """The target that an attempt went to, by its stored `Target.id`.

        One that is in no endpoint any more is made with default limits and no price: its jobs must still be asked
        for. Raises `ConfigurationError` when `target_id` is not a target's id.
        """
        for endpoint in self.endpoints.values():
            for target in endpoint.targets:
                if target.id == target_id:
                    return target
        return Target(**parse_target_id(target_id)._asdict())

    def api_key_for(self, account: str = DEFAULT_ACCOUNT) -> SecretStr:
        """The API key of an account. Raises `ConfigurationError` naming the variable that is missing."""
        is_default = account == DEFAULT_ACCOUNT
        key = self.runpod_api_key if is_default else self.accounts.get(account)
        if key is None:
            variable = variable_for("runpod_api_key") if is_default else variable_for("accounts", account)
            raise ConfigurationError(
                f"{variable} is not set: the API key of the RunPod account {account!r} is needed here",
                setting=variable,
            )
        return key


def _management_of(runpod_url: str) -> str:
    """The management API beside a serverless API."""
    return _MANAGEMENT_URL if runpod_url in ("", _RUNPOD_URL) else runpod_url


def _origins(settings_cls: type[BaseSettings], explicit: Mapping[str, Any]) -> Callable[[str], str]:
    def source_of(field: str) -> str:
        if field in explicit:
            return "argument"
        sources = (source(settings_cls) for source in _SOURCES)
        return next((source.label for source in sources if field in source()), "")

    return source_of
