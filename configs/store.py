"""Object storage, or a shared folder, that keeps what a build makes when the machine that made it goes away.

No secret is written here: whoever reaches an S3 server takes the login where Amazon's own clients do, from
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or from the machine's role.
"""

import re
from typing import Literal

from pydantic import Field, field_validator

from configs.strict import Strict
from configs.urls import BaseUrl

S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*")
FOLDER = re.compile(r"file://(/[^/?#]+)+")


class StoreConfig(Strict):
    """Where datasets, checkpoints, adapters, eval results and bundles are kept besides the state folder."""

    url: str = Field(description="s3://BUCKET/FOLDER, or file:///FOLDER on a volume that all machines mount")
    endpoint_url: BaseUrl | None = Field(None, description="of an S3 server that is not Amazon's")
    timeout_s: float = Field(60.0, gt=0, le=3600, description="for an answer; a connection gets a tenth of it")
    tries: int = Field(4, ge=1, le=20, description="of each request before it is given up")

    @field_validator("url")
    @classmethod
    def _is_one(cls, text: str) -> str:
        found = text.rstrip("/")
        if "@" in found:
            raise ValueError("it holds a name or a password -> set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if not (S3.fullmatch(found) or FOLDER.fullmatch(found)) or ".." in found.split("/"):
            raise ValueError("no store -> s3://BUCKET/FOLDER in Amazon's own spelling, or file:///FOLDER")
        return found

    @property
    def scheme(self) -> Literal["s3", "file"]:
        """How it is reached."""
        return "s3" if self.url.startswith("s3://") else "file"

    @property
    def root(self) -> str:
        """The bucket with the folder in it, or the folder's path."""
        return self.url.removeprefix(f"{self.scheme}://")
