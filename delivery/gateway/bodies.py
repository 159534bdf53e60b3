"""Users' bodies on their way in: whole, in time, decoded, and near in memory to what they have in bytes."""

import asyncio
from dataclasses import dataclass

from delivery.gateway.admission import overloaded
from delivery.gateway.http.messages import BodyBrokenError, BodyTooLargeError, NoRoomError, Request
from delivery.gateway.openai.bodies import decoded, holds_too_many, may_hold_too_many, too_many_values
from delivery.gateway.openai.errors import ApiError


@dataclass(frozen=True)
class Bodies:
    """Reads them."""

    most_bytes: int
    timeout_s: float = 30.0

    async def read(self, http: Request) -> bytes:
        """The body without its codings. Raises ApiError."""
        try:
            if http.is_whole:
                raw = http.content()
            else:
                async with asyncio.timeout(self.timeout_s):
                    raw = await http.read()
        except BodyTooLargeError:
            raise ApiError(413, "The body is larger than this gateway accepts.", code="body_too_large") from None
        except TimeoutError:
            raise ApiError(408, "The body did not arrive in time.", code="body_timeout") from None
        except BodyBrokenError:
            raise ApiError(400, "The body could not be read to its end.", code="invalid_body") from None
        except NoRoomError:
            raise overloaded() from None
        if coding := http.headers.get("content-encoding"):
            raw = await asyncio.to_thread(decoded, raw, coding, self.most_bytes)
        if may_hold_too_many(raw) and await asyncio.to_thread(holds_too_many, raw):
            raise too_many_values()
        return raw
