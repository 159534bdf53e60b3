"""A store's errors in words that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from fsspec.exceptions import FSTimeoutError

from delivery.clients.store.errors import AGAIN, LOGIN, DamagedError, StoreAwayError, StoreError


def lacks_bucket(error: FileNotFoundError) -> bool:
    """Whether it is the whole bucket that is not there."""
    return isinstance(error.__cause__, ClientError) and error.__cause__.response["Error"]["Code"] == "NoSuchBucket"


@contextmanager
def explained(what: str, where: str) -> Iterator[None]:
    """Turns a store's errors into one of the above. `what` completes "the store did not ..."."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreError(f"there is no login for the store: {error}", where=where, cure=LOGIN) from error
    except FileNotFoundError as error:
        if not lacks_bucket(error):
            raise DamagedError(f"the store did not {what}: it has no {error}", where=where, cure=AGAIN) from error
        cure = "make the bucket, or mend store.url in environment.yaml: Slipway makes none"
        raise StoreError(f"the store did not {what}: {error}", where=where, cure=cure) from error
    except PermissionError as error:
        cure = f"{LOGIN}; it needs the rights to list, read, write and delete there"
        raise StoreError(f"the store did not {what}: {error}", where=where, cure=cure) from error
    except (BotoCoreError, ClientError, FSTimeoutError, OSError) as error:
        said = str(error) or type(error).__name__
        cure = f"see that it runs, and store.url and store.endpoint_url in environment.yaml; {AGAIN}"
        raise StoreAwayError(f"the store did not {what}: {said}", where=where, cure=cure) from error
