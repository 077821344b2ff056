"""The examples' bucket on the S3 server, seen without the worker."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devkit.s3 import S3Server
from tests.e2e.media import BUCKET


@dataclass(frozen=True)
class Bucket:
    """Objects by key."""

    client: Any = field(repr=False)

    def keys(self, prefix: str) -> list[str]:
        return [each["Key"] for each in self.listed(prefix)]

    def listed(self, prefix: str) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [each for page in pages for each in page.get("Contents", [])]

    def get(self, key: str) -> dict[str, Any]:
        answer = self.client.get_object(Bucket=BUCKET, Key=key)
        return answer | {"Body": answer["Body"].read()}

    def put(self, key: str, path: Path) -> None:
        with path.open("rb") as file:
            self.client.put_object(Bucket=BUCKET, Key=key, Body=file)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)


def store_settings(server: S3Server) -> dict[str, str]:
    """The settings that lead a worker to the server."""
    return {
        "store__kind": "s3",
        "store__endpoint_url": server.endpoint,
        "store__addressing": "path",
        "store__access_key_id": server.access_key,
        "store__secret_access_key": server.secret_key,
    }
