"""Keeps artifacts in S3 and serves every byte through MLflow, so that clients need to reach MLflow alone.

MLflow sends its clients to the object store, with an address and a signature, wherever the store's class can make one.
In an installation that address is known inside only, and a signature would let its bearer past MLflow's permissions.
"""

from typing import Any

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository


class ServedS3(ArtifactRepository):
    """MLflow's own S3 store without the parts that hand out addresses."""

    def __init__(self, artifact_uri: str, **options: Any) -> None:
        super().__init__(artifact_uri, **options)
        self._s3 = S3ArtifactRepository(artifact_uri, **options)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a file."""
        self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store a directory's files."""
        self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return what lies in a directory."""
        return list(self._s3.list_artifacts(path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, or all in a directory."""
        self._s3.delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._s3._download_file(remote_file_path, local_path)
