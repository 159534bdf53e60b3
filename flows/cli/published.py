"""What the command line shows of bundles that were pushed, pulled, verified."""

from collections import Counter

from configs.canonical import short
from configs.registry import Signatures
from delivery.build.bundle import Bundle
from delivery.clients.registry.pull import Pulled
from delivery.clients.registry.push import Pushed
from delivery.clients.registry.verify import Verified


def render_push(pushed: Pushed) -> str:
    """The reference to pull it by, and how its blobs got there."""
    how: Counter[str] = Counter(pushed.blobs.values())
    words = {"sent": "sent", "mounted": "mounted from another repository", "there": "there already"}
    counted = ", ".join(f"{how[key]} {text}" for key, text in words.items() if how[key])
    lines = [f"pushed     {pushed.reference.by_digest()}"]
    if pushed.reference.tag:
        lines.append(f"tag        {pushed.reference.tag}")
    lines += [*_of(pushed.bundle), f"blobs      {counted}", f"signatures {pushed.signatures}"]
    return "\n".join(lines)


def render_pull(pulled: Pulled) -> str:
    """Where it lies, and what to do with it next."""
    return "\n".join(
        [
            f"pulled     {pulled.reference}",
            *_of(pulled.bundle),
            f"fetched    {pulled.fetched_bytes:,} bytes",
            f"signed by  {', '.join(pulled.signed_by) or 'nobody whose signature counts'}",
            f"release it: slipway release {short(pulled.bundle.digest)}",
        ]
    )


def render_verified(found: Verified, policy: Signatures) -> str:
    """Every digest fits, and whose signatures count."""
    unsigned = "nobody whose signature counts" if policy.signers else "nobody is asked: no signers in environment.yaml"
    return "\n".join(
        [
            f"verified   {found.digest}",
            *_of(found.bundle),
            f"signed by  {', '.join(found.signed_by) or unsigned}",
        ]
    )


def _of(bundle: Bundle) -> list[str]:
    what = "no adapter" if bundle.adapter is None else f"adapter {short(bundle.adapter.digest)}"
    return [f"bundle     {short(bundle.digest)} of route {bundle.route}, {what}, on {bundle.base_model}"]
