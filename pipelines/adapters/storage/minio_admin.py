"""Users of MinIO and their rights: the only module that knows MinIO's own admin interface.

The rest speaks S3, which any object store does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from pipelines.adapters.storage.object_store import ATTEMPTS, CONNECT_S, READ_S, REGION, S3Access
from pipelines.errors import SlipwayError, Undecided, UsageError


class MinioUsers:
    """The users of one MinIO, as its root sees them."""

    def __init__(self, root: S3Access) -> None:
        from minio.credentials.providers import StaticProvider
        from minio.minioadmin import MinioAdmin
        from urllib3 import PoolManager, Retry, Timeout

        place = urlsplit(root.endpoint)
        self._root = root
        self._http = PoolManager(
            timeout=Timeout(connect=CONNECT_S, read=READ_S),
            retries=Retry(total=ATTEMPTS - 1, backoff_factor=0.2),
            ca_certs=str(root.authority) if root.authority else None,
        )
        self._admin = MinioAdmin(
            endpoint=place.netloc,
            credentials=StaticProvider(root.access_key, root.secret_key),
            secure=place.scheme == "https",
            http_client=self._http,
        )

    def ensure(self, name: str, secret: str, policy: dict[str, Any]) -> None:
        """Make a user with this secret and exactly this policy, or give both to the one there is.

        With another secret the old one is refused from then on, and so is every session that was begun with it.
        """
        with self._answered(name):
            self._admin.policy_add(policy_name=name, policy=policy)
            self._admin.user_add(access_key=name, secret_key=secret)
            self._admin.policy_set(policy_name=name, user=name)
            self._end_sessions(name)

    def _end_sessions(self, name: str) -> None:
        """End what a user began by AssumeRole: no policy can deny it, and a session may last a year."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        from minio.error import MinioAdminException

        query = urlencode({"user": name, "fullRevoke": "true"})
        # The package has no call for it.
        request = AWSRequest("POST", f"{self._root.endpoint}/minio/admin/v3/revoke-tokens/builtin?{query}")
        S3SigV4Auth(Credentials(self._root.access_key, self._root.secret_key), "s3", REGION).add_auth(request)
        answer = self._http.request("POST", request.url, headers=dict(request.headers.items()))
        if answer.status >= 300:
            raise MinioAdminException(str(answer.status), answer.data.decode(errors="replace"))

    @contextmanager
    def _answered(self, name: str) -> Iterator[None]:
        from minio.error import MinioAdminException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except MinioAdminException as error:
            # Its text holds the status first; what follows may be long.
            kind: type[SlipwayError] = UsageError if "Status: 4" in str(error) else Undecided
            raise kind(
                f"MinIO refuses to make user {name!r}: {str(error)[:200]}", next="check its root user and the secret"
            ) from error
        except HTTPError as error:
            raise Undecided(
                f"MinIO at {self._root.endpoint} does not answer: {str(error)[:200]}", next="see that it runs"
            ) from error
