"""Signatures of model-signing over a bundle's index, which pins every byte below it; and whose of them count.

The index is signed as the one file `index.json`, so `model_signing verify` reads these signatures too. model-signing
judges a certificate at the moment when it was issued: that it has not expired is seen to here.
"""

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID

from configs.canonical import digest_bytes
from configs.errors import Problem, SlipwayError
from configs.registry import PEM, Signer, SigningKey

KEY, CERTIFICATE = "SLIPWAY_SIGNING_KEY", "SLIPWAY_SIGNING_CERTIFICATE"
CHAIN, PASSWORD = "SLIPWAY_SIGNING_CHAIN", "SLIPWAY_SIGNING_KEY_PASSWORD"
MOST_BYTES = 1024 * 1024
INDEX_FILE = "index.json"


def signing_key(configured: SigningKey | None, environ: Mapping[str, str] = os.environ) -> SigningKey | None:
    """What to sign with: what the environment names, else what environment.yaml does; None: nothing."""
    if not environ.get(KEY):
        return configured
    chain = tuple(Path(part) for part in environ.get(CHAIN, "").split(os.pathsep) if part)
    certificate = environ.get(CERTIFICATE)
    return SigningKey(private_key=Path(environ[KEY]), certificate=certificate and Path(certificate), chain=chain)


def sign(index: Path, key: SigningKey, environ: Mapping[str, str] = os.environ) -> bytes:
    """A signature of an index.json. Raises SlipwayError for a key or a certificate that cannot be used."""
    from model_signing import signing

    files = [key.private_key, *([key.certificate] if key.certificate else []), *key.chain]
    missing = [Problem(str(file), "the file does not exist or cannot be read") for file in files if not _readable(file)]
    if missing:
        raise SlipwayError("the bundle cannot be signed", problems=missing)
    password = _password(environ)
    try:
        load_pem_private_key(key.private_key.read_bytes(), password)
        config = signing.Config()
        if key.certificate is None:
            config.use_elliptic_key_signer(private_key=key.private_key, password=password)
        elif password:
            raise ValueError("a key with a password cannot sign by certificate")
        else:
            config.use_certificate_signer(
                private_key=key.private_key,
                signing_certificate=key.certificate,
                certificate_chain=key.chain or [key.certificate],  # model-signing fails at an empty chain
            )
        with tempfile.TemporaryDirectory() as folder:
            config.sign(index, Path(folder) / "signature")
            return (Path(folder) / "signature").read_bytes()
    except (ValueError, TypeError, AttributeError) as error:
        raise SlipwayError(
            f"the bundle cannot be signed: {error}",
            where=str(key.private_key),
            cure=f"it takes a key in PEM on P-256, P-384 or P-521, whose password is in {PASSWORD}",
        ) from error


def is_made_with(key: SigningKey, signature: bytes, index: bytes) -> bool:
    """Whether it says that it was made with this key, or certificate, over these bytes: no need to sign them again."""
    try:
        material = json.loads(signature)
        made = material["verificationMaterial"]
        if key.certificate is not None:
            own = x509.load_pem_x509_certificate(key.certificate.read_bytes()).public_bytes(Encoding.DER)
            is_own = base64.b64decode(made["x509CertificateChain"]["certificates"][0]["rawBytes"]) == own
        else:
            private = load_pem_private_key(key.private_key.read_bytes(), _password(os.environ))
            public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            is_own = made["publicKey"]["hint"] == hashlib.sha256(public).hexdigest()
        return is_own and _signed_digest(material) == digest_bytes(index)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def why_not_signed_by(signer: Signer, signature: bytes, index: bytes, now: float) -> str:
    """Why this is no signature of the signer's over these bytes, at a time in UNIX seconds; empty when it is one."""
    try:
        if len(signature) > MOST_BYTES:
            return f"it has more than {MOST_BYTES} bytes"
        material = json.loads(signature)
        signed = _signed_digest(material)
        if signed != digest_bytes(index):
            return f"it is a signature of {signed}"
        if signer.authority is not None:
            problem = _problem_with_certificates(material, signer, now)
            if problem:
                return problem
        elif not material["verificationMaterial"].get("publicKey", {}).get("hint"):
            return "it does not say by which key it was made"
        _verify(signer, signature, index, now)
    except SlipwayError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever model-signing fails at, it has not verified
        return f"it does not verify: {str(error) or type(error).__name__}"
    return ""


def check_signer(name: str, signer: Signer) -> None:
    """Raises SlipwayError for a key or an authority that cannot be read."""
    field = "public_key" if signer.public_key is not None else "authority"
    where = f"environment.yaml: signatures.signers.{name}.{field}"
    pem = _pem(str(signer.public_key or signer.authority), where)
    try:
        if signer.public_key is not None:
            load_pem_public_key(pem)
        elif not x509.load_pem_x509_certificates(pem):
            raise ValueError("no certificate in it")
    except (ValueError, TypeError) as error:
        what = "no public key" if signer.public_key is not None else "no certificates"
        raise SlipwayError(f"{what} in PEM: {error}", where=where, cure="the text from BEGIN to END") from error


def _verify(signer: Signer, signature: bytes, index: bytes, now: float) -> None:
    """Raises whatever model-signing raises for what is not signed by the signer."""
    from model_signing import hashing, verifying

    config = verifying.Config().set_hashing_config(hashing.Config().use_file_serialization())
    with _files(index=index, signature=signature, trusted=_trusted(signer, now)) as files:
        if signer.public_key is not None:
            config.use_elliptic_key_verifier(public_key=files["trusted"])
        else:
            config.use_certificate_verifier(certificate_chain=[files["trusted"]])
        config.verify(files["index"], files["signature"])


def _trusted(signer: Signer, now: float) -> bytes:
    pem = _pem(str(signer.public_key or signer.authority), "environment.yaml: signatures.signers")
    if signer.public_key is not None:
        return pem
    valid = [one for one in x509.load_pem_x509_certificates(pem) if not _why_not_valid(one, now)]
    if not valid:
        raise ValueError("every certificate of the authority has expired")
    return b"".join(one.public_bytes(Encoding.PEM) for one in valid)


def _signed_digest(material: Any) -> str:
    """The digest that a signature is of. ValueError for a signature of anything but one file."""
    statement = json.loads(base64.b64decode(material["dsseEnvelope"]["payload"]))
    resources = statement["predicate"]["resources"]
    if statement["predicateType"] != "https://model_signing/signature/v1.0" or len(resources) != 1:
        raise ValueError("it is not a signature of one file")
    if resources[0]["algorithm"] != "sha256":
        raise ValueError(f"it goes by {resources[0]['algorithm']}, not by sha256")
    return f"sha256:{resources[0]['digest']}"


def _problem_with_certificates(material: Any, signer: Signer, now: float) -> str:
    chain = material["verificationMaterial"].get("x509CertificateChain", {}).get("certificates", [])
    if not chain:
        return "it was made by a key without a certificate"
    certificates = [x509.load_der_x509_certificate(base64.b64decode(one["rawBytes"])) for one in chain]
    for one in certificates:
        problem = _why_not_valid(one, now)
        if problem:
            return problem
    names = _names(certificates[0])
    if not set(names) & set(signer.names):
        return f"its certificate is that of {', '.join(names) or 'nobody'}"
    return ""


def _why_not_valid(certificate: x509.Certificate, now: float) -> str:
    at = datetime.fromtimestamp(now, UTC)
    if at > certificate.not_valid_after_utc:
        return f"the certificate of {certificate.subject.rfc4514_string()} expired on {certificate.not_valid_after_utc}"
    if at < certificate.not_valid_before_utc:
        return f"the certificate of {certificate.subject.rfc4514_string()} begins on {certificate.not_valid_before_utc}"
    return ""


def _names(certificate: x509.Certificate) -> list[str]:
    found = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
        found += [str(name) for name in alternatives.get_values_for_type(kind)]
    return found


def _pem(text: str, where: str) -> bytes:
    if PEM in text:
        return text.encode()
    try:
        return Path(text).read_bytes()
    except OSError as error:
        cure = "name a file that this user may read, or write the text itself"
        raise SlipwayError(f"{text} cannot be read: {error.strerror}", where=where, cure=cure) from error


def _password(environ: Mapping[str, str]) -> bytes | None:
    return environ.get(PASSWORD, "").encode() or None


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


@contextmanager
def _files(**contents: bytes) -> Iterator[dict[str, Path]]:
    """model-signing wants everything as files; the index under the name that it was signed by."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / (INDEX_FILE if name == "index" else name) for name in contents}
        for name, content in contents.items():
            paths[name].write_bytes(content)
        yield paths
