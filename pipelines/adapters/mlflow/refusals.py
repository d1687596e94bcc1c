"""What MLflow does not know, forbids or does not answer, as Slipway refuses it: for its own clients and MLflow's."""

from pipelines.errors import NotAllowed, RegistryUnavailable, UnknownVersion

# What MLflow calls that which is not there.
UNKNOWN = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})


def unknown(subject: str) -> UnknownVersion:
    """Return the refusal of what MLflow does not know."""
    return UnknownVersion(
        f"MLflow knows no {subject}",
        next='see what is registered on MLflow\'s page, or register a version with "make candidate"',
    )


def forbidden(subject: str) -> NotAllowed:
    """Return the refusal of what MLflow does not let this process do."""
    return NotAllowed(f"MLflow forbids {subject}", next="check this process's credential")


def unavailable(url: str, subject: str, why: str) -> RegistryUnavailable:
    """Return the refusal for a server that does not answer, or not as MLflow does."""
    return RegistryUnavailable(
        f"MLflow at {url} did not answer for {subject}: {why}",
        next='run "make up", or look at the log of the model registry with "make logs"',
    )
