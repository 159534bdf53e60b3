"""A ledger that cannot be written for a while."""

from typing import Any

from delivery.clients.ledger.ledger import Ledger, LedgerError

AWAY = LedgerError("the ledger cannot be used: connection refused", where="postgresql://db/slipway")


class AwayLedger(Ledger):
    """Refuses what would be written while it is `away`; it is read as ever."""

    away = False

    def _write(self) -> Any:
        if self.away:
            raise AWAY
        return super()._write()
