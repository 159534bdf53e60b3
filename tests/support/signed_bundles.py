"""Bundles, keys and certificates for what is pushed, pulled and verified."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.registry import Signatures, Signer, SigningKey
from delivery.build.bundle import Bundle
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from delivery.clients.registry.signatures import sign
from delivery.clients.registry.verify import add_signature

NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
AT = NOW.timestamp()


@dataclass(frozen=True)
class Owner:
    """One who can sign, and what others know of them."""

    key: SigningKey
    signer: Signer


def make_bundle(home: Path, prompt: str = "Ask.", number: int = 1) -> tuple[Bundle, Path]:
    """In a state folder: the bundle and its layout."""
    write_tiny_lora(home.parent / f"trained-{number}", number)
    adapter = describe(home.parent / f"trained-{number}")
    bundle = tiny_bundle(prompt, adapter)
    return bundle, write_bundle(bundle, home.parent / f"trained-{number}", home)


def key_owner(folder: Path, name: str = "key", **known: object) -> Owner:
    key = ec.generate_private_key(ec.SECP256R1())
    file = folder / f"{name}.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return Owner(SigningKey(private_key=file), Signer(public_key=public, **known))


def certificate_owner(
    folder: Path,
    name: str = "release@example.com",
    days: tuple[int, int] = (-1, 1),
    authority_days: tuple[int, int] = (-9, 9),
    *,
    between: bool = False,
) -> Owner:
    """A certificate of an authority of its own, valid so many days before and after NOW; `between`: by another one."""
    root, root_key = _certificate("An authority", authority_days)
    above, above_key, chain = root, root_key, ()
    if between:
        above, above_key = _certificate("Between", authority_days, root, root_key)
        (folder / f"{name}.between").write_bytes(above.public_bytes(Encoding.PEM))
        chain = (folder / f"{name}.between",)
    leaf, key = _certificate(name, days, above, above_key, is_authority=False)
    file, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    signer = Signer(authority=root.public_bytes(Encoding.PEM).decode(), names=("release@example.com",))
    return Owner(SigningKey(private_key=file, certificate=certificate, chain=chain), signer)


def _certificate(
    name: str,
    days: tuple[int, int],
    issuer: x509.Certificate | None = None,
    issuer_key: ec.EllipticCurvePrivateKey | None = None,
    *,
    is_authority: bool = True,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Signed by its issuer, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = {"content_commitment": False, "key_encipherment": False, "data_encipherment": False, "key_agreement": False}
    usage |= {"crl_sign": False, "encipher_only": False, "decipher_only": False}
    usage |= {"digital_signature": not is_authority, "key_cert_sign": is_authority}
    made = (
        x509.CertificateBuilder(issuer.subject if issuer else own, own, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(issuer_key or key, hashes.SHA256())
    )
    return made, key


def sign_layout(layout: Path, owner: Owner) -> None:
    add_signature(layout, sign(layout / "index.json", owner.key, environ={}))


def required(**owners: Owner) -> Signatures:
    """Signatures are required, and those of these owners count."""
    return Signatures(required=True, signers={name: owner.signer for name, owner in owners.items()})
