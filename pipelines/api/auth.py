"""Who calls: a bearer token names one person, and nothing works without one."""

import hmac

from pipelines.errors import NotAllowed


def person_of(authorization: str | None, tokens: dict[str, str]) -> str:
    """Return whose token an `Authorization` header carries; raise NotAllowed for none of them."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        for person, token in tokens.items():
            if hmac.compare_digest(token.encode(), given.strip().encode()):
                return person
    raise NotAllowed(
        "no valid token", next="check SLIPWAY_TOKEN, or send the header Authorization: Bearer <token of tokens.json>"
    )
