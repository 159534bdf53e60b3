"""Several workers' pairs of answers as one sequence, for `GET /admin/pairs`: as bounded as one worker's, as brief."""

from collections.abc import Mapping
from typing import Any

import orjson

from configs.routing import RoutingTable
from delivery.gateway.records.pairs import KEPT, KEPT_BYTES, Bounded, captured


class MergedPairs:
    """A source is one process: its successor is another source."""

    def __init__(self, boot_id: str, kept: int = KEPT, kept_bytes: int = KEPT_BYTES):
        self._boot_id = boot_id
        self._kept: Bounded[int, dict[str, Any]] = Bounded(kept, kept_bytes)
        self._cursors: dict[int, int] = {}
        self._left_out_of: dict[int, int] = {}
        self._last_seq = self._left_out = 0

    def cursor(self, source: int) -> int:
        """Up to where its pairs are here."""
        return self._cursors.get(source, 0)

    def add(self, source: int, page: Mapping[str, Any], table: RoutingTable | None) -> None:
        """Takes a page that was asked for with `after=cursor(source)`, as far as the table still asks for its pairs."""
        wanted = captured(table) if table is not None else frozenset()
        for pair in page["pairs"]:
            if pair["seq"] > self.cursor(source):
                self._cursors[source] = pair["seq"]
                if (pair["route"], pair["epoch"]) in wanted:
                    self._last_seq += 1
                    pair["seq"] = self._last_seq
                    self._kept.put(self._last_seq, pair, len(orjson.dumps(pair)))
        self._left_out += page["left_out"] - self._left_out_of.get(source, 0)
        self._left_out_of[source] = page["left_out"]

    def ended(self, source: int) -> None:
        """The process is no more; what it told stays."""
        self._cursors.pop(source, None)
        self._left_out_of.pop(source, None)

    def keep_only(self, table: RoutingTable) -> None:
        """Forgets what this table does not ask for."""
        wanted = captured(table)
        for seq, pair in self._kept.items():
            if (pair["route"], pair["epoch"]) not in wanted:
                self._kept.pop(seq)

    def page(self, after: int, limit: int) -> dict[str, Any]:
        """A `PairPage`: the oldest of what is kept after this number."""
        pairs = [pair for seq, pair in self._kept.items() if seq > after][:limit]
        return {"boot_id": self._boot_id, "pairs": pairs, "last_seq": self._last_seq, "left_out": self._left_out}
