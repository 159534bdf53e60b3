"""Where tests find the checkout and the children that they start as processes of their own."""

from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]
