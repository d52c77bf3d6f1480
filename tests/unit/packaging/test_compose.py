"""docker-compose.yml and Dockerfile: hardened, health-checked, and naming only settings and options that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from gateway.cli.main import app
from gateway.settings import PREFIX, Settings
from policies.catalogue import ENV_PREFIX
from policies.load import load_catalogue, shipped_catalogue_path

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
PASSWORDS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FINGERPOST_ADMIN_KEY"}


def instruction(name: str) -> str:
    """The last instruction of that name: what it says."""
    found: list[str] = re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)
    return found[-1].strip()


def environment_of_compose() -> dict[str, Any]:
    """The gateway's variables."""
    environment: dict[str, Any] = SERVICES["gateway"]["environment"]
    return environment


def test_the_services_are_gateway_postgres_and_redis() -> None:
    assert set(SERVICES) == {"gateway", "postgres", "redis"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_with_bounds(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] in ("CMD", "CMD-SHELL") and len(check["test"]) > 1
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_without_privileges_on_a_read_only_root(name: str) -> None:
    service = SERVICES[name]

    user, _, group = service["user"].partition(":")
    assert int(user) > 0 and int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_names_its_image_exactly(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]

    assert service["mem_limit"] and service["pids_limit"] and service["restart"] == "unless-stopped"
    assert tag != "latest" and re.match(r"\d", tag)


def test_the_gateway_waits_for_what_it_needs() -> None:
    waits = SERVICES["gateway"]["depends_on"]

    assert waits == {name: {"condition": "service_healthy"} for name in ("postgres", "redis")}


def test_only_the_gateway_is_published_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"gateway": ["${PUBLISH_ADDRESS:-127.0.0.1}:${PUBLISH_PORT:-8080}:8080"]}
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert all(service["networks"] == ["back"] for name, service in SERVICES.items() if name != "gateway")


def test_every_volume_is_declared_and_every_declared_one_is_used() -> None:
    used = {mount.split(":")[0] for service in SERVICES.values() for mount in service["volumes"]}

    assert used == set(COMPOSE["volumes"])


def test_passwords_must_be_given_and_none_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    references = re.findall(r"\$\{(\w*(?:PASSWORD|ADMIN_KEY))(:\?|:-|\})", text)

    assert {name for name, _ in references} == PASSWORDS
    assert {kind for _, kind in references} == {":?"}


@pytest.mark.parametrize("name", ["docker-compose.yml", "Dockerfile", ".env.example"])
def test_every_fingerpost_variable_is_a_setting(name: str) -> None:
    used = set(re.findall(rf"\b{PREFIX}(\w+)", (ROOT / name).read_text(encoding="utf-8")))

    assert used <= {field.upper() for field in Settings.model_fields}


def test_database_and_redis_are_handed_to_the_gateway() -> None:
    environment = environment_of_compose()

    assert environment["FINGERPOST_DATABASE_URL"].endswith("@postgres:5432/fingerpost")
    assert environment["FINGERPOST_REDIS_URL"].endswith("@redis:6379/0")


def test_every_variable_of_the_shipped_catalogue_reaches_the_gateway() -> None:
    rows = load_catalogue(shipped_catalogue_path()).endpoint
    references = [value for row in rows for value in (row.key_ref, row.base_url) if value]
    wanted = {one.removeprefix(ENV_PREFIX) for one in references if one.startswith(ENV_PREFIX)}

    assert wanted and wanted <= set(environment_of_compose())


def test_the_example_names_every_variable_that_compose_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    offered = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))

    assert asked == offered


def test_the_image_starts_a_command_that_exists() -> None:
    program, words = json.loads(instruction("ENTRYPOINT")), json.loads(instruction("CMD"))
    command = typer.main.get_command(app)

    given = command.commands[words[0]].make_context(words[0], words[1:]).params  # type: ignore[attr-defined]

    assert program == ["fingerpost"]
    assert given["host"] == "0.0.0.0"
    assert given["data_dir"] == Path("/data")


def test_an_option_that_does_not_exist_is_noticed() -> None:
    command = typer.main.get_command(app)

    with pytest.raises(Exception, match="No such option"):
        command.commands["serve"].make_context("serve", ["--hosts", "0.0.0.0"])  # type: ignore[attr-defined]


def test_the_image_runs_as_the_user_that_compose_names_and_keeps_data_where_compose_mounts_it() -> None:
    assert instruction("USER") == SERVICES["gateway"]["user"]
    assert SERVICES["gateway"]["volumes"] == [f"data:{instruction('VOLUME')}"]
    assert all(re.search(r":3\.11-slim", base) for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))


def test_image_and_compose_check_health_in_the_same_way() -> None:
    check = re.search(r"HEALTHCHECK .*?CMD (\[.*\])", DOCKERFILE)

    assert check and ["CMD", *json.loads(check.group(1))] == SERVICES["gateway"]["healthcheck"]["test"]
    assert "/health/ready" in check.group(1)


def test_everything_that_the_image_copies_is_let_through() -> None:
    copied = {part for line in re.findall(r"^COPY ([^-].*)$", DOCKERFILE, re.MULTILINE) for part in line.split()[:-1]}
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied == let_through
    assert all((ROOT / one).exists() for one in copied)


def test_docker_itself_accepts_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    asked = [str(docker), "compose", "version"]
    if docker is None or subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("there is no docker compose here")
    variables = tmp_path / "env"
    variables.write_text("".join(f"{name}=x\n" for name in sorted(PASSWORDS)))

    command = [docker, "compose", "--env-file", str(variables), "-f", str(ROOT / "docker-compose.yml"), "config", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
