"""`fingerpost`: the commands put together."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from gateway.admission.terms import SecretKeyError
from gateway.cli import (
    artifact,
    ask,
    audit,
    batch,
    budget,
    cache,
    data,
    db,
    doctor,
    dry_run,
    evaluate,
    key,
    limit,
    local,
    models,
    moe,
    offpolicy,
    org,
    policy,
    privacy,
    secrets,
    serve,
    team,
    train,
    trial,
)
from gateway.cli.output import fail
from gateway.ledger.engine import DatabaseUrlError
from gateway.ledger.faults import DatabaseUnavailable, SchemaError
from gateway.redis_url import RedisUrlError
from gateway.server import PortTaken
from gateway.ui.oidc import SignOnUnusable
from policies.errors import PolicyError

app = typer.Typer(
    name="fingerpost",
    help="An LLM router and multi-model gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.add_typer(db.app, name="db")
app.add_typer(key.app, name="key")
app.add_typer(org.app, name="org")
app.add_typer(team.app, name="team")
app.add_typer(budget.app, name="budget")
app.add_typer(limit.app, name="limit")
app.add_typer(secrets.app, name="secrets")
app.add_typer(audit.app, name="audit")
policy.app.command("dry-run")(dry_run.dry_run_command)
app.add_typer(policy.app, name="policy")
app.add_typer(trial.app, name="trial")
app.add_typer(privacy.app, name="privacy")
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.command("models")(models.models)
app.command("route")(ask.route)
app.command("chat")(ask.chat)
app.command("batch")(batch.batch)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("offpolicy")(offpolicy.offpolicy)
app.add_typer(artifact.app, name="artifact")
app.add_typer(moe.app, name="moe")
app.add_typer(local.app, name="local")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"fingerpost {version('fingerpost')}")
        raise typer.Exit


@app.callback()
def _every_command(
    _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = (
        False
    ),
) -> None:
    """An LLM router and multi-model gateway."""


def main() -> None:
    """Entry point of the console script: what a user can mend ends in one clear line, not in a traceback."""
    try:
        app()
    except (PolicyError, SchemaError, DatabaseUrlError, SecretKeyError, SignOnUnusable, PortTaken) as error:
        fail(str(error))
    except RedisUrlError as error:
        fail(f"FINGERPOST_REDIS_URL: {error}")
    except DatabaseUnavailable as error:
        fail(f"{error}; `fingerpost doctor` looks closer, `fingerpost db upgrade` makes tables")
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        fail(f"{error.filename or 'a file'} can't be used: {error.strerror or error}; FINGERPOST_DATA_DIR moves files")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
