"""What flows are asked for, with its bounds: Prefect's form shows them, and checks them before a run begins."""

from typing import Annotated

from pydantic import Field

from configs.watch import LARGEST_HOLDBACK_BP, LONGEST_S, SHORTEST_S

PersonName = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(min_length=1)]
WatchSeconds = Annotated[float, Field(ge=SHORTEST_S, le=LONGEST_S)]
HoldbackBp = Annotated[int, Field(ge=0, le=LARGEST_HOLDBACK_BP)]
BundleReference = Annotated[str, Field(min_length=1)]
