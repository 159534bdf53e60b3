"""Why a store could not be used: away, no login, no right, no bucket, damaged. Importing this imports no S3 client."""

from configs.errors import SlipwayError

LOGIN = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a work pool: from its secret), or give the machine a role"
AGAIN = "nothing was lost: the same run started again goes on from what is there"


class StoreError(SlipwayError):
    """The store could not be read or written."""


class StoreAwayError(StoreError):
    """No usable answer. The same call may work later."""


class DamagedError(StoreError):
    """What is there is not what was put there."""
