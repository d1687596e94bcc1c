"""Whatever is kept in a form of its own is refused in the same way when a newer Slipway wrote it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.domain import description, policy, report
from pipelines.domain.backup import FORMAT, Manifest
from pipelines.domain.description import Description
from pipelines.domain.formats import refuse_newer
from pipelines.domain.policy import Policy
from pipelines.domain.report import Report
from pipelines.errors import SlipwayError
from pipelines.settings import installation
from pipelines.settings.installation import InstallationRecord


def read_home(home: Path) -> None:
    newer = {"format": installation.FORMAT + 1, "id": "x", "settings": {}, "what_is_new": 1}
    (home / installation.FILE).write_text(json.dumps(newer))
    InstallationRecord.read(home)


READERS: dict[str, tuple[int, Callable[[Path], object]]] = {
    "backup": (FORMAT, lambda home: Manifest.read(json.dumps({"format": FORMAT + 1}).encode())),
    "bundle": (description.VERSION, lambda home: Description.read({"schema_version": description.VERSION + 1})),
    "home": (installation.FORMAT, read_home),
    "policy": (policy.VERSION, lambda home: Policy.read({"schema_version": policy.VERSION + 1})),
    "report": (report.VERSION, lambda home: Report.read({"schema_version": report.VERSION + 1})),
}


@pytest.mark.parametrize("form", READERS)
def test_a_newer_form_is_refused_with_both_versions(form: str, tmp_path: Path) -> None:
    known, read = READERS[form]
    with pytest.raises(
        SlipwayError, match=f"is of version {known + 1}, and this Slipway reads {known} at most"
    ) as told:
        read(tmp_path)
    assert told.value.exit_code == 2
    assert "newer" in told.value.next or "that wrote it" in told.value.next


def test_versions_are_compared_by_their_numbers() -> None:
    refuse_newer("x", found="3.9.10", known="3.17.1")
    refuse_newer("x", found=None, known=1)
    with pytest.raises(SlipwayError, match=r"3\.17\.2"):
        refuse_newer("x", found="3.17.2", known="3.17.1")
