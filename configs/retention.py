"""What `slipway gc` keeps besides what is needed: the newest few, and whatever is young."""

from pydantic import Field

from configs.strict import Strict


class Retention(Strict):
    """Both must be missed before anything goes; what is live, or may be gone back to, stays whatever they say."""

    keep_bundles: int = Field(10, ge=1, description="the newest bundles of each route")
    keep_days: float = Field(
        14.0, ge=0, description="nothing that is younger goes: bundles, adapters, datasets, caches"
    )
