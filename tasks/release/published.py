"""Bundles between this state folder and registries, and the signatures without which none is released."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from configs.canonical import short
from configs.environment import Environment
from configs.errors import Problem, SlipwayError
from configs.registry import Signatures
from delivery.clients.bundles.base_image import put_on_base
from delivery.clients.bundles.images import find_bundle
from delivery.clients.registry.pull import Pulled, pull, resolve
from delivery.clients.registry.push import Pushed, push
from delivery.clients.registry.reference import Reference, is_reference, parse
from delivery.clients.registry.signatures import (
    KEY,
    check_signer,
    is_made_with,
    sign,
    signing_key,
    why_not_signed_by,
)
from delivery.clients.registry.verify import Verified, add_signature, signatures_in, verify
from delivery.clients.registry.wire import Wire
from delivery.progress import Progress, silent


@dataclass(frozen=True)
class Signed:
    """What `sign_layout` did."""

    layout: Path
    is_new: bool  # it had no signature of this key yet


def sign_layout(layout: Path, policy: Signatures) -> Signed | None:
    """Signs a bundle's index with this machine's key, once. None: no key is named, so nothing is signed."""
    key = signing_key(policy.sign_with)
    if key is None:
        return None
    index = layout / "index.json"
    is_new = not any(is_made_with(key, one, index.read_bytes()) for one in signatures_in(layout).values())
    if is_new:
        add_signature(layout, sign(index, key))
    return Signed(layout, is_new)


def sign_bundle(environment: Environment, home: Path, bundle: str) -> Signed:
    """As `sign_layout`, of a bundle by its digest's beginning. Raises SlipwayError when no key is named."""
    layout = find_bundle(home, bundle)
    verify(layout, None, Signatures(), 0.0)
    signed = sign_layout(layout, environment.signatures)
    if signed is None:
        raise SlipwayError(
            "no key to sign with is named", cure=f"set {KEY}, or signatures.sign_with in environment.yaml"
        )
    return signed


def push_bundle(
    environment: Environment,
    home: Path,
    bundle: str,
    reference: str | None,
    *,
    move_tag: bool = False,
    on_progress: Progress = silent,
) -> Pushed:
    """A bundle into a registry, signed where a key is named; by default under its variant's name as a tag."""
    layout = find_bundle(home, bundle)
    found = verify(layout, None, Signatures(), 0.0)
    to = parse(reference) if reference is not None else _default(environment, found.bundle.variant_name)
    if to.digest is not None:
        raise SlipwayError("what is pushed has the digest that it has", where=str(to), cure="leave out the digest")
    if environment.registry.base_image is not None:
        layout = put_on_base(found.bundle, home, environment.registry.base_image)
    sign_layout(layout, environment.signatures)
    wire = Wire(to.host, environment.registry)
    return push(wire, to, layout, home, move_tag=move_tag, on_progress=on_progress)


def pull_bundle(
    environment: Environment, home: Path, reference: str, now: float, on_progress: Progress = silent
) -> Pulled:
    """The bundle of a digest, or of the digest that a tag leads to now, verified by the environment's policy."""
    given = parse(reference)
    wire = Wire(given.host, environment.registry)
    found = resolve(wire, given, home)
    if given.digest is None:
        on_progress(0, 0, f"{given} is {found.digest}")
    return pull(wire, found, home, environment.signatures, now, on_progress)


def verify_bundle(
    environment: Environment, home: Path, what: str, now: float, on_progress: Progress = silent
) -> Verified:
    """A bundle here, or one of a registry, which is fetched, verified, and not kept."""
    if not is_reference(what):
        return verify(find_bundle(home, what), None, environment.signatures, now)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".verifying-") as folder:
        found = pull_bundle(environment, Path(folder), what, now, on_progress)
        return Verified(found.bundle, str(found.reference.digest), found.folder, found.signed_by)


def require_signed(environment: Environment, home: Path, digest: str, now: float) -> None:
    """Before vLLM loads a bundle's adapter. Raises SlipwayError where signatures are required and none counts."""
    policy = environment.signatures
    if policy.required:
        found = verify(find_bundle(home, digest), None, policy, now)
        if found.bundle.digest != digest:
            raise SlipwayError(
                f"{short(found.bundle.digest)} lies where {short(digest)} should", where=str(found.folder)
            )


def require_signable(environment: Environment, route: str, now: float) -> None:
    """Where signatures are required, this machine's counts for the route: what is built here can be released."""
    policy = environment.signatures
    if not policy.required:
        return
    key = signing_key(policy.sign_with)
    where, cure = (
        "environment.yaml: signatures",
        f"set {KEY}, or signatures.sign_with, to the key of one of the signers",
    )
    if key is None:
        raise SlipwayError("signatures are required, and no key to sign with is named", where=where, cure=cure)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "index.json"
        trial.write_bytes(b"{}")
        signature = sign(trial, key)
    for name, signer in policy.signers.items():
        check_signer(name, signer)
    theirs = {name: one for name, one in policy.signers.items() if not one.routes or route in one.routes}
    whys = {name: why_not_signed_by(signer, signature, b"{}", now) for name, signer in theirs.items()}
    if all(whys.values()):
        problems = [Problem(f"signatures.signers.{name}", why) for name, why in whys.items()]
        what = f"the signature of {key.private_key} does not count for route {route}"
        raise SlipwayError(what, where=where, problems=problems, cure=cure)


def _default(environment: Environment, tag: str) -> Reference:
    repository = environment.registry.repository
    if repository is None:
        cure = "name it: slipway push BUNDLE HOST/PATH:TAG, or registry.repository in environment.yaml"
        raise SlipwayError("no registry to push to is named", cure=cure)
    return parse(f"{repository}:{tag}")
