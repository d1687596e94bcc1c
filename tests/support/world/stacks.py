"""What Terraform says of an installation, as its output `stack` has it."""

from typing import Any

from pipelines.settings.terraform_outputs import StackOutputs, read_stack

SLOTS = {"live": 8100, "trial": 8200, "baseline": 8300}
# A further model, and what stands for it in names.
FURTHER, FURTHER_KEY = "Tenure.Model", "tenure-model-1f3a"


def stack_body(prefix: str = "slipway", **parts: Any) -> dict[str, Any]:
    """Return the output of an installation with this prefix; `parts` take the places of its own."""
    return {
        "edge": {"container": f"{prefix}-edge", "service": None},
        "environments": {name: _environment(prefix, name) for name in ("production", "staging")},
        "image_registry": {
            "authority_file": None,
            "plain_http": True,
            "pull": "127.0.0.1:1",
            "push": "127.0.0.1:1",
        },
        "images": {"app": "sha256:" + "0" * 64, "loadtest": "sha256:" + "1" * 64},
        "installation_id": None,
        "object_store": {
            "buckets": {"artifacts": "mlflow", "dvc": "dvc", "heads": "audit-heads"},
            "endpoint": f"http://{prefix}-minio:9000",
            "region": "us-east-1",
            "url": "http://127.0.0.1:9000",
        },
        "prefix": prefix,
        "services": {
            "api": f"{prefix}-api",
            "database": f"{prefix}-postgres",
            "executor": f"{prefix}-executor",
            "model_registry": f"{prefix}-mlflow",
            "object_store": f"{prefix}-minio",
        },
        "urls": {"api": "http://127.0.0.1:8080", "mlflow": "http://127.0.0.1:5000"},
        **parts,
    }


def stack(prefix: str = "slipway", **parts: Any) -> StackOutputs:
    """Return the same as who uses it reads it."""
    return read_stack(stack_body(prefix, **parts), source="a test")


def further_model(prefix: str = "slipway") -> dict[str, Any]:
    """Return the environments of an installation with one more model."""
    environments = {name: _environment(prefix, name) for name in ("production", "staging")}
    for name, environment in environments.items():
        environment["models"] = {
            FURTHER: {
                "backend": f"{name}.{FURTHER_KEY}",
                "load_urls": {slot: f"http://{prefix}-edge:{port + 2}" for slot, port in SLOTS.items()},
                "replicas": 1,
                "slots": {slot: {"name": f"{prefix}-{name}-{FURTHER_KEY}-{slot}"} for slot in SLOTS},
                "url": f"http://127.0.0.1:8000/models/{FURTHER}",
            }
        }
    return environments


def _environment(prefix: str, name: str) -> dict[str, Any]:
    return {
        "load_network": f"{prefix}-load-{name}",
        "load_urls": {slot: f"http://{prefix}-edge:{port}" for slot, port in SLOTS.items()},
        "network": f"{prefix}-{name}",
        "replicas": 1,
        "slots": {slot: {"name": f"{prefix}-{name}-{slot}"} for slot in SLOTS},
        "url": "http://127.0.0.1:8000",
    }
