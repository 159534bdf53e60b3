"""Regular expressions in settings: one that does not compile is found when the file is read."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


Regex = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
