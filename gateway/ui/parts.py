"""What the console's pages reach for beside the gateway itself; made in `gateway.build`."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.dispatch.health import Health
from gateway.ui.oidc import Oidc
from gateway.ui.rendering import Rendering
from gateway.ui.sessions import SessionStore
from gateway.ui.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Parts:
    """`oidc` is None where there is no single sign-on."""

    rendering: Rendering
    sessions: SessionStore
    throttle: Throttle
    oidc: Oidc | None
    health: Health
