"""Ed25519 signatures of bundles (RFC 8032): over SHA256SUMS, which holds the digest of every other file.

A signature is 64 bytes in SHA256SUMS.KEYID.sig; there may be several, so that keys can be rotated. KEYID is the first
16 hex digits of the SHA-256 of the public key's SubjectPublicKeyInfo in DER. Keys are PEM, as OpenSSL writes and reads
them: `openssl pkeyutl -verify -rawin -pubin -inkey KEY.pem -sigfile SHA256SUMS.KEYID.sig -in SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclip.atomic import atomic_write
from edgeclip.errors import ConfigError, DataError, reason_of
from edgeclip.registry import resolve

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEYS = Path("/etc/edgeclip/keys.d")
SIGNATURE = re.compile(r"SHA256SUMS\.([0-9a-f]{16})\.sig")
SIGNATURE_BYTES = 64
SERIALIZATION = "cryptography.hazmat.primitives.serialization"
MAX_KEY_BYTES = 1 << 16


@dataclass(frozen=True)
class Signed:
    """by: the trusted keys, as "NAME (KEYID)", whose signatures are good. unknown: ids of keys not trusted here."""

    by: tuple[str, ...]
    unknown: tuple[str, ...]


def check_signatures(
    sums: bytes, signatures: Mapping[str, bytes], keys: Path, *, required: bool, origin: str
) -> Signed:
    """Check every signature that a trusted key made. signatures: by file name. keys: directory of public keys.

    Raises DataError where one is bad, or where one is required and no trusted key made any. ConfigError for the keys.
    """
    found = {match.group(1): data for name, data in signatures.items() if (match := SIGNATURE.fullmatch(name))}
    if not found and not required:
        return Signed((), ())
    trusted = trusted_keys(keys, required)
    by = []
    for key_id in sorted(set(found) & set(trusted)):
        name, key = trusted[key_id]
        try:
            key.verify(found[key_id], sums)
        except _crypto("cryptography.exceptions:InvalidSignature") as error:
            raise DataError(
                f"bundle {origin}: the signature of {name} ({key_id}) does not match: it was altered after signing",
                "get it again from where it was signed",
            ) from error
        by.append(f"{name} ({key_id})")
    unknown = tuple(sorted(set(found) - set(trusted)))
    if required and not by:
        who = f"signed by {', '.join(unknown)}, which is not trusted here" if unknown else "not signed"
        raise DataError(
            f"bundle {origin} is {who}, and require_signature is set",
            f"sign it with `edgeclip bundle sign`, and put the public key into {keys}",
        )
    return Signed(tuple(by), unknown)


def trusted_keys(keys: Path, required: bool = True) -> dict[str, tuple[str, Ed25519PublicKey]]:
    """Key id -> (file name without .pem, key). Raises ConfigError for a file that is no public Ed25519 key."""
    files = sorted(keys.glob("*.pem")) if keys.is_dir() else []
    if required and not files:
        raise ConfigError(
            f"require_signature is set, and there is no key in {keys}", "put public keys there, as NAME.pem"
        )
    trusted = {}
    for path in files:
        key = _load(path, private=False)
        trusted[key_id(key)] = (path.stem.removesuffix(".pub"), key)
    return trusted


def sign(sums: bytes, key: Path) -> tuple[str, bytes]:
    """(file name, signature) by the private key. Raises ConfigError where `key` is none."""
    private: Ed25519PrivateKey = _load(key, private=True)
    return f"SHA256SUMS.{key_id(private.public_key())}.sig", private.sign(sums)


def make_keys(private: Path) -> tuple[Path, str]:
    """Write a new private key (mode 0600) and, beside it, NAME.pub.pem. (public key, key id)."""
    public = private.with_name(f"{private.name.removesuffix('.pem')}.pub.pem")
    for path in (private, public):
        if path.exists():
            raise ConfigError(f"{path} exists: a key is never written over", "give another --out")
    key: Ed25519PrivateKey = _crypto("cryptography.hazmat.primitives.asymmetric.ed25519:Ed25519PrivateKey").generate()
    secret = key.private_bytes(
        _crypto(f"{SERIALIZATION}:Encoding").PEM,
        _crypto(f"{SERIALIZATION}:PrivateFormat").PKCS8,
        _crypto(f"{SERIALIZATION}:NoEncryption")(),
    )
    private.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(secret)
    with atomic_write(public) as stream:
        stream.write(_public_bytes(key.public_key(), "PEM"))
    return public, key_id(key.public_key())


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(_public_bytes(key, "DER")).hexdigest()[:16]


def _public_bytes(key: Ed25519PublicKey, encoding: str) -> bytes:
    form = _crypto(f"{SERIALIZATION}:PublicFormat").SubjectPublicKeyInfo
    return key.public_bytes(getattr(_crypto(f"{SERIALIZATION}:Encoding"), encoding), form)


def _load(path: Path, *, private: bool) -> Any:
    what = "private" if private else "public"
    wanted = _crypto(f"cryptography.hazmat.primitives.asymmetric.ed25519:Ed25519{what.capitalize()}Key")
    load = _crypto(f"{SERIALIZATION}:load_pem_{what}_key")
    try:
        if path.stat().st_size > MAX_KEY_BYTES:
            raise ValueError("it is too large")
        key = load(path.read_bytes(), None) if private else load(path.read_bytes())
    except (OSError, ValueError, TypeError, _crypto("cryptography.exceptions:UnsupportedAlgorithm")) as error:
        reason = reason_of(error).partition(".")[0]  # cryptography goes on about OpenSSL
        raise ConfigError(f"{path} is no {what} key: {reason}", f"give an Ed25519 {what} key in PEM") from error
    if not isinstance(key, wanted):
        raise ConfigError(f"{path} is no Ed25519 {what} key", "make one with `edgeclip bundle keygen`")
    return key


def _crypto(target: str) -> Any:
    return resolve(target, extra="sign", what="signing", error=ConfigError)
