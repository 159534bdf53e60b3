"""Licences as SPDX writes them. What nobody said is None, and stays unknown: no licence is ever guessed."""

from typing import Annotated

from pydantic import AfterValidator, Field

OWN = "LicenseRef-"  # SPDX's beginning for a licence that its list does not have


def spdx(value: str | None) -> str | None:
    """The expression with SPDX's own spelling of each licence. ValueError for one that SPDX does not know."""
    if value is None:
        return None
    from license_expression import ExpressionError, get_spdx_licensing

    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(value, validate=False)
        if parsed is None:
            raise ValueError("it is empty")
        unknown = [key for key in licensing.unknown_license_keys(parsed) if not key.startswith(OWN)]
    except (ExpressionError, ValueError) as error:
        raise ValueError(
            f"{value!r} is no SPDX expression: {error} -> e.g. Apache-2.0, or MIT AND CC-BY-4.0"
        ) from error
    if unknown:
        raise ValueError(
            f"SPDX knows no licence {', '.join(unknown)} -> a short name of https://spdx.org/licenses, "
            f"e.g. Apache-2.0, or {OWN}NAME for a licence of its own"
        )
    return str(parsed.render())


License = Annotated[str | None, AfterValidator(spdx)]


def license_field(of_what: str) -> str | None:
    """A setting's default and its description."""
    default: str | None = Field(
        None, min_length=1, description=f"the licence of {of_what}, by SPDX's short name; unknown where it is left out"
    )
    return default
