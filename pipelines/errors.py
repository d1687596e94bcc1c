"""Every refusal that Slipway utters, with its exit code and what to do next.

SlipwayError
├── UsageError (2)          the request or the configuration is wrong
│   ├── UnknownVersion
│   ├── UnknownModel
│   ├── NotServable         a version without ONNX model or signature
│   ├── OtherModel          the home's installation was brought up with another default model
│   ├── OtherInstallation   who was asked belongs to another installation
│   ├── OlderTables         the database's tables are an earlier Slipway's, until "up" changes them
│   ├── PortTaken
│   ├── PolicyInvalid
│   ├── TargetUnavailable
│   └── EngineUnavailable   no container engine answers, or one that can't be used
├── Refused (3)             a gate, a rule or a person said no
│   ├── GateFailed
│   ├── Rejected
│   ├── Cancelled           a person ended the evaluation
│   ├── LeaseHeld
│   ├── LostLease           another executor has taken the lease over
│   ├── ApprovalVoid
│   ├── NotAllowed          unauthenticated, or the wrong person
│   ├── BackupDamaged       a backup that does not hold what it says, or more than it may
│   └── NoRollbackTarget
├── Undecided (4)           could not be measured or reached; nothing was changed
│   ├── Inconclusive        not enough evidence: hold
│   ├── GateError           a gate could not measure
│   ├── JobFailed           a confined job met a bound, or ended without an answer
│   ├── Overdue             an evaluation took longer than the policy allows
│   ├── RegistryUnavailable
│   ├── DatabaseUnavailable
│   ├── ApiUnavailable
│   ├── TooManyRequests     a person asks for too much at once
│   ├── TooManyStreams      a person, or all together, follow too much at once
│   ├── ImageUnavailable    an image can be neither pulled nor built
│   └── ApprovalExpired
└── DeployFailed (5)        the old release still serves
"""

from typing import ClassVar


class SlipwayError(Exception):
    """A refusal: `str()` is what happened, `next` what to do about it."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, next: str = "") -> None:
        super().__init__(message)
        self.next = next

    @property
    def message(self) -> str:
        """What happened, without what to do next."""
        return str(self.args[0])

    def as_dict(self) -> dict[str, str]:
        """Return the wire form `{"code", "message", "next"}`."""
        return {"code": self.code, "message": self.message, "next": self.next}

    @classmethod
    def from_dict(cls, body: dict[str, str]) -> "SlipwayError":
        """Rebuild the refusal that `as_dict` wrote; an unknown code gives the base class."""
        kind = kind_of(body.get("code", ""))
        return kind(body.get("message", "no message"), next=body.get("next", ""))


class UsageError(SlipwayError):
    """The request or the configuration is wrong."""

    code = "usage"
    exit_code = 2


class UnknownVersion(UsageError):
    """No such registered version."""

    code = "unknown_version"


class UnknownModel(UsageError):
    """The installation has no such model."""

    code = "unknown_model"


class NotServable(UsageError):
    """The version lacks what serving needs: an ONNX model, a signature, safe files."""

    code = "not_servable"


class OtherModel(UsageError):
    """The home's installation was brought up with another default model."""

    code = "other_model"


class OtherInstallation(UsageError):
    """Who was asked belongs to another installation than the one meant."""

    code = "other_installation"


class OlderTables(UsageError):
    """The database's tables are an earlier Slipway's until `up` has brought them up to date."""

    code = "older_tables"


class PortTaken(UsageError):
    """Another process listens where Slipway should."""

    code = "port_taken"


class PolicyInvalid(UsageError):
    """The policy has an unknown key or an impossible limit."""

    code = "policy_invalid"


class TargetUnavailable(UsageError):
    """The chosen target does not exist here."""

    code = "target_unavailable"


class EngineUnavailable(UsageError):
    """No container engine answers, or one that can't be used."""

    code = "engine_unavailable"


class Refused(SlipwayError):
    """A gate, a rule or a person said no."""

    code = "refused"
    exit_code = 3


class GateFailed(Refused):
    """A gate measured and said no."""

    code = "gate_failed"


class Rejected(Refused):
    """A person said no."""

    code = "rejected"


class Cancelled(Refused):
    """A person ended the evaluation before it was done."""

    code = "cancelled"


class LeaseHeld(Refused):
    """Another release is under way in that environment."""

    code = "lease_held"


class LostLease(Refused):
    """Another executor took the lease over; this one must stop."""

    code = "lost_lease"


class ApprovalVoid(Refused):
    """What was approved is not what would be released now."""

    code = "approval_void"


class NotAllowed(Refused):
    """The caller is unknown, or is not the person who may do this."""

    code = "not_allowed"


class BackupDamaged(Refused):
    """A backup does not hold what it says, or holds what no backup may."""

    code = "backup_damaged"


class NoRollbackTarget(Refused):
    """There is no good release to go back to."""

    code = "no_rollback_target"


class Undecided(SlipwayError):
    """It could not be measured or reached; nothing was changed."""

    code = "undecided"
    exit_code = 4


class Inconclusive(Undecided):
    """The evidence is not enough to decide."""

    code = "inconclusive"


class GateError(Undecided):
    """A gate could not measure."""

    code = "gate_error"


class JobFailed(Undecided):
    """A confined job met one of its bounds, or ended without an answer."""

    code = "job_failed"


class Overdue(Undecided):
    """An evaluation took longer than the policy allows."""

    code = "overdue"


class RegistryUnavailable(Undecided):
    """MLflow does not answer."""

    code = "registry_unavailable"


class DatabaseUnavailable(Undecided):
    """Slipway's database does not answer."""

    code = "database_unavailable"


class ApiUnavailable(Undecided):
    """Slipway's API does not answer."""

    code = "api_unavailable"


class TooManyRequests(Undecided):
    """As much is asked at once as one person may."""

    code = "too_many_requests"


class TooManyStreams(Undecided):
    """As much is followed at once as one person, or all together, may."""

    code = "too_many_streams"


class ImageUnavailable(Undecided):
    """An image can be neither pulled nor built."""

    code = "image_unavailable"


class ApprovalExpired(Undecided):
    """Nobody said yes or no in time."""

    code = "approval_expired"


class DeployFailed(SlipwayError):
    """The new release did not come up; the old one still serves."""

    code = "deploy_failed"
    exit_code = 5


def kind_of(code: str) -> type[SlipwayError]:
    """Return the class in the tree that carries `code`, or the base class."""
    pending: list[type[SlipwayError]] = [SlipwayError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind
        pending.extend(kind.__subclasses__())
    return SlipwayError
