"""Every setting in one place; the only file that reads the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.outbound import OutboundGuard
from gateway.ui.roles import roles_of
from local_runtime.embedders.find import known_embedders

PREFIX = "FINGERPOST_"
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Settings of one gateway process; each field is also `FINGERPOST_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    data_dir: Path = Path("./data")
    database_url: str = Field(default="", description="empty: SQLite in the data directory", repr=False)
    redis_url: str = Field(default="", repr=False)
    catalogue: Path | None = None
    policies: Path | None = None
    artifacts: Path | None = Field(default=None, description="trained routers; empty: artifacts in the data directory")
    admin_key: SecretStr | None = None
    bootstrap_key: SecretStr | None = None
    key: SecretStr | None = Field(default=None, description="the application key that `fingerpost chat --url` sends")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    preload: bool = Field(default=True, description="load local models and the embedder before answering")
    embedder: str = "minilm_onnx"
    embed_timeout_s: Seconds = 2.0
    local_threads: int | None = Field(default=None, ge=1)
    local_dtype: str = "auto"
    local_activation_bits: Annotated[Literal[8, 16], BeforeValidator(int)] = 16
    local_max_batch: int = Field(default=8, ge=1, le=256)
    local_expert_bytes: int | None = Field(
        default=None, ge=1, description="memory of a worker for a mixture's experts; the others are read when wanted"
    )
    local_expert_dtype: Literal["bfloat16", "int8", "int4"] | None = None
    local_expert_top_p: float | None = Field(
        default=None, gt=0, le=1, description="experts of a token that are as likely as this together; empty: all"
    )
    local_layers: str = Field(default="", description="layers of local models that are computed; empty: all")
    local_draft: str = Field(default="", description="a smaller model that guesses for local models; empty: none")
    local_key: SecretStr | None = Field(
        default=None, description="what `fingerpost local serve` asks of its clients; empty: nothing"
    )
    local_kv_policy: str = "full"
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    max_reply_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    grace_s: Seconds = 20.0
    lame_duck_s: float = Field(default=1.0, ge=0, le=600, allow_inf_nan=False)
    spool_max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    redis_timeout_s: Seconds = 0.06
    cache_store: Literal["auto", "memory", "redis", "off"] = Field(
        default="auto", description="where answers are cached; auto: Redis where there is one, else this process"
    )
    cache_sharing: Literal["organisation", "team", "key"] = Field(
        default="organisation", description="the widest circle that shares cached answers"
    )
    cache_max_entries: int = Field(default=100_000, ge=1, description="cached answers of one organisation, team or key")
    cache_max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024, description="their bytes")
    cache_timeout_s: Seconds = 0.03
    cache_configuration: Path | None = Field(
        default=None, description="what `fingerpost cache calibrate` wrote; empty: what ships"
    )
    cache_keys: SecretStr | None = Field(
        default=None, description="keys that encrypt cached answers in Redis, newest first, comma between"
    )
    lease_s: float = Field(default=60.0, ge=1, le=3600, allow_inf_nan=False)
    secret_keys: SecretStr | None = Field(default=None, description="Fernet keys, newest first, comma between")
    private_networks: str = Field(default="loopback", description="networks that upstreams may be in, comma between")
    metrics_key: SecretStr | None = Field(default=None, description="asked of /metrics where it is set")
    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str = Field(default="", description="where traces go, such as http://127.0.0.1:4318")
    prompt_retention_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    console: bool = Field(default=True, description="serve the admin console under /admin/console")
    public_url: str = Field(default="", description="where browsers find the gateway, such as https://llm.example.com")
    console_idle_s: Seconds = 3600.0
    console_session_s: Seconds = 43_200.0
    console_key_role: Literal["admin", "editor", "viewer", "none"] = Field(
        default="admin", description="the most that an admin key may do in the console; none: it can't log in"
    )
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr | None = None
    oidc_scopes: str = "openid email profile"
    oidc_claim: str = Field(default="groups", description="the claim that says somebody's role")
    oidc_roles: str = Field(default="", description="value=role, comma between; empty: nobody gets in")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("embedder")
    @classmethod
    def _known_embedder(cls, value: str) -> str:
        if value not in known_embedders():
            raise ValueError(f"there is no embedder of that name; known: {', '.join(known_embedders())}")
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _readable_roles(cls, value: str) -> str:
        roles_of(value)
        return value

    @field_validator("oidc_issuer", "public_url")
    @classmethod
    def _readable_address(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must be an address such as https://login.example.com")
        return value

    @field_validator("private_networks")
    @classmethod
    def _readable_networks(cls, value: str) -> str:
        OutboundGuard.from_text(value)
        return value

    @property
    def artifact_folder(self) -> Path:
        """Where policies find the trained routers that they name."""
        return self.artifacts or self.data_dir / "artifacts"

    @property
    def sql_url(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'fingerpost.sqlite3'}"

    def secrets(self) -> list[str]:
        """Values that must not be read anywhere: keys of these settings, and of vendors in the environment."""
        own = [value.get_secret_value() for value in vars(self).values() if isinstance(value, SecretStr)]
        return own + [value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_TOKEN", "_SECRET"))]

    def to_environment(self) -> None:
        """Hand these settings to worker processes, which read the environment again."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None and value != "":
                os.environ[PREFIX + name.upper()] = _as_text(value)
        if self.workers > 1:
            folder = self.data_dir.resolve() / "metrics"
            folder.mkdir(parents=True, exist_ok=True)
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _as_text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def environment_value(name: str) -> str | None:
    """The value behind an `env:NAME` reference; None where unset or empty."""
    return os.environ.get(name) or None


def make_cuda_deterministic() -> None:
    """Before torch computes on a GPU: cuBLAS else need not give the same sums twice, and torch refuses to use it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def metrics_folder() -> str | None:
    """Where worker processes share their counters, or None with one worker."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")
