"""The Terraform state of an older installation: what it made is found again under the addresses of today."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.terraform.conftest import Terraform, resources_of

OLD: dict[str, str] = json.loads(
    (Path(__file__).resolve().parents[1] / "fixtures" / "terraform_1" / "addresses.json").read_text()
)
ID = f"sha256:{'0' * 64}"
IMAGES = ("app", "control", "edge", "image_registry", "loadtest", "minio", "mlflow", "postgres")
SECRETS = (
    *("audit-objects-password", "audit-objects-user", "minio-root-password", "minio-root-user", "mlflow-admin"),
    *("mlflow-database", "mlflow-objects-password", "mlflow-objects-user", "mlflow-promoter", "mlflow-reader"),
    *("mlflow-session-key", "mlflow-webhook-key", "postgres", "slipway-database", "slipway-owner", "tokens"),
    "workflows-database",
)


def planned_root(terraform: Terraform, place: Path) -> dict[str, Any]:
    """Return what the root module would make anew: address -> values."""
    given, plan = place / "given.tfvars.json", place / "plan"
    secrets = {name: {"id": "s" * 25, "name": f"slipway-{name}"} for name in SECRETS}
    given.write_text(json.dumps({"images": dict.fromkeys(IMAGES, ID), "secrets": secrets}))
    done = terraform(
        ".", "init", "-reconfigure", "-input=false", "-no-color", f"-backend-config=path={place / 'state'}"
    )
    assert done.returncode == 0, done.stderr
    done = terraform(".", "plan", "-refresh=false", "-no-color", f"-var-file={given}", f"-out={plan}")
    assert done.returncode == 0, done.stderr
    shown = json.loads(terraform(".", "show", "-json", str(plan)).stdout)
    return {each["address"]: each["values"] for each in resources_of(shown["planned_values"]["root_module"])}


def test_what_an_older_slipway_made_stays_where_the_state_has_it(
    terraform: Terraform, initialised: Callable[[str], str], tmp_path: Path
) -> None:
    initialised(".")
    today = {address: values.get("name") for address, values in planned_root(terraform, tmp_path).items()}
    # An address that changes needs a `moved` block, and its new form here; else volumes would be made anew, and empty.
    assert {address: name for address, name in OLD.items() if today.get(address) != name} == {}
