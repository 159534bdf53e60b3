"""A request's bytes before they are JSON: content codings, and shapes that take far more memory than bytes."""

import zlib

from delivery.gateway.openai.errors import ApiError

MOST_VALUES = 65_536  # in one body: an empty list has two bytes, and takes sixty
PIECE = 64 * 1024  # bytes that are looked through at once
WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's names of the formats


def too_many_values() -> ApiError:
    """The body would take many times its size."""
    return ApiError(413, f"The body holds more than {MOST_VALUES} JSON values.", code="body_too_large")


def may_hold_too_many(raw: bytes) -> bool:
    """Whether `holds_too_many` has to look: a text may be full of commas."""
    return len(raw) > MOST_VALUES and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MOST_VALUES


def holds_too_many(raw: bytes) -> bool:
    """Whether this JSON holds more than MOST_VALUES values, texts not looked into. Not for the event loop."""
    found, is_in_text, carried = 0, False, b""
    for at in range(0, len(raw), PIECE):
        piece = carried + raw[at : at + PIECE]
        run = len(piece) - len(piece.rstrip(b"\\"))
        carried = b"\\" * (run % 2)  # the first half of an escape
        parts = piece[: len(piece) - run].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = parts[1 if is_in_text else 0 :: 2]
        is_in_text ^= len(parts) % 2 == 0
        found += sum(part.count(b",") + part.count(b"[") + part.count(b"{") for part in outside)
        if found > MOST_VALUES:
            return True
    return False


def decoded(raw: bytes, coding: str, most: int) -> bytes:
    """The body without its content codings, at most so many bytes. Raises ApiError. Not for the event loop."""
    for name in reversed([part.partition(";")[0].strip().lower() for part in coding.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in WINDOWS:
            what = f"Bodies coded as `{name[:20]}` are not read here; gzip and deflate are."
            raise ApiError(415, what, code="unsupported_encoding")
        raw = _inflated(raw, WINDOWS[name], most)
    return raw


def _inflated(raw: bytes, window: int, most: int) -> bytes:
    reader = zlib.decompressobj(window)
    try:
        plain = reader.decompress(raw, most + 1)
    except zlib.error:
        raise ApiError(400, "The body is not coded as its Content-Encoding says.", code="invalid_body") from None
    if len(plain) > most:
        raise ApiError(413, "The body is larger than this gateway accepts.", code="body_too_large")
    if not reader.eof or reader.unused_data:
        raise ApiError(400, "The body is not coded as its Content-Encoding says.", code="invalid_body")
    return plain
