"""The report of an evaluation: what was measured, frozen, and the same facts for people: page, summary and card."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.domain.bundle import Schema, schema_breaks, schema_gains
from pipelines.domain.description import Description, label_text
from pipelines.domain.figures import Figures
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.report import Breaking, Compared, Report
from pipelines.domain.texts import one_line
from pipelines.domain.verdict import GateResult, overall
from pipelines.evaluation.gates.code import gates_digest
from pipelines.evaluation.subject import Subject

_MOST_CLASSES, _CLASS_CHARS = 100, 60
_MOST_CHANGES, _CHANGE_CHARS = 50, 200


@dataclass(frozen=True)
class Bundles:
    """What the bundles of a version and of the champion say of themselves; None where nothing serves production."""

    candidate: Description
    champion: Description | None = None

    @property
    def breaking(self) -> Breaking | None:
        """What the version declares to break for the champion's clients; None where it declares, or breaks, nothing."""
        reason, changes = self.candidate.provenance.breaking, self._breaks
        return Breaking(reason=reason, changes=changes) if reason and changes else None

    @property
    def schema_changes(self) -> tuple[str, ...] | None:
        """How requests and answers differ, the first fifty in a line each; None without a champion."""
        if self.champion is None:
            return None
        gains = schema_gains(Schema.of(self.champion), Schema.of(self.candidate))
        changes = [one_line(each, _CHANGE_CHARS) for each in (*self._breaks, *gains)]
        more = [f"and {len(changes) - _MOST_CHANGES:,} more"] * (len(changes) > _MOST_CHANGES)
        return tuple(changes[:_MOST_CHANGES] + more)

    @property
    def _breaks(self) -> tuple[str, ...]:
        return schema_breaks(Schema.of(self.champion), Schema.of(self.candidate)) if self.champion else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The texts of the classes, short ones, the first hundred."""
        texts = map(label_text, self.candidate.output.classes[:_MOST_CLASSES])
        return tuple(one_line(text, _CLASS_CHARS) for text in texts)


def build_report(
    subject: Subject,
    *,
    results: Sequence[GateResult],
    figures: Figures | None,
    champion: ReleaseRecord | None,
    bundles: Bundles,
    created_at: str,
) -> Report:
    """Return the report of what the gates found of `subject`, and of what changes for clients of the champion."""
    return Report(
        model=subject.model,
        version=subject.version,
        bundle_digest=subject.bundle_digest,
        policy_digest=subject.policy.digest,
        profile=subject.policy.profile,
        evalset_digest=subject.evalset_digest,
        evalset_version=subject.evalset_version,
        evalset_number=subject.evalset_number,
        evalsets={name: each.digest for name, each in subject.policy.evaluation.sets.items()} or None,
        # Where another Slipway has gone on with it, no one state of the code has measured all.
        gates_digest=subject.gates_digest if subject.gates_digest == gates_digest() else None,
        champion=Compared(release=champion.id, version=champion.version, bundle_digest=champion.bundle_digest)
        if champion
        else None,
        breaking=bundles.breaking,
        task=bundles.candidate.task,
        classes=bundles.classes,
        schema_changes=bundles.schema_changes,
        figures=figures,
        gates=tuple(results),
        verdict=overall(results),
        created_at=created_at,
    )
