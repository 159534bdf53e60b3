"""What the gateway's process is started with: its settings, and the secrets that no file may hold."""

from pathlib import Path

from pydantic import Field

from configs.gateway import GatewayConfig


class Settings(GatewayConfig):
    """The settings together with what the process's environment adds."""

    admin_token: str = Field("", repr=False)  # without one there is no admin listener
    upstream_api_key: str = Field("", repr=False)
    traces_endpoint: str = ""  # an OTLP/HTTP collector's base URL; without one nothing is traced

    @property
    def budgets_file(self) -> Path | None:
        """Where the keys' budgets are kept: where the settings say, else beside the kept table."""
        if self.budget_state is not None or self.table_state is None or self.api_keys is None:
            return self.budget_state
        return self.table_state.with_suffix(".budgets.json")
