"""Signed statements: DSSE envelopes with Ed25519, whose signature of the same bytes is always the same."""

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from modelway.errors import ImageInvalid, ModelwayError
from modelway.oci.manifest import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

STATEMENT = "application/vnd.in-toto+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"


def signed(statement: bytes, *, key: Path) -> bytes:
    """Return the envelope of a statement.

    :param key: a PEM file with an Ed25519 private key without a password
    :raises ModelwayError: the file has no such key
    """
    signature = _private_key(key).sign(_encoded(statement))
    return canonical_json(
        {
            "payloadType": STATEMENT,
            "payload": base64.b64encode(statement).decode(),
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        }
    )


def opened(envelope: bytes, *, key: Path) -> bytes:
    """Return the statement of an envelope that the key's owner signed.

    :param key: a PEM file with an Ed25519 public key
    :raises ImageInvalid: nobody signed it with that key
    :raises ModelwayError: the file has no such key
    """
    from cryptography.exceptions import InvalidSignature

    public = _public_key(key)
    try:
        document = json.loads(envelope)
        statement = base64.b64decode(document["payload"])
        signatures = [base64.b64decode(each["sig"]) for each in document["signatures"]]
        matching = document["payloadType"] == STATEMENT
    except (ValueError, KeyError, TypeError) as error:
        raise ImageInvalid("the provenance is no signed statement", do="Build the image with a signing key") from error
    for signature in signatures if matching else ():
        try:
            public.verify(signature, _encoded(statement))
            return statement
        except InvalidSignature:
            continue
    raise ImageInvalid("the provenance is not signed with this key", where=str(key), do="Do not use this image")


def _encoded(statement: bytes) -> bytes:
    """Return what is signed: DSSE's encoding of the kind and the bytes with their lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(STATEMENT), STATEMENT.encode(), len(statement), statement)


def _private_key(path: Path) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise _no_key(path, "private", "openssl genpkey -algorithm ed25519 -out FILE makes one")
    return found


def _public_key(path: Path) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        found = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, TypeError):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise _no_key(path, "public", "openssl pkey -in FILE -pubout makes it of the private one")
    return found


def _no_key(path: Path, kind: str, do: str) -> ModelwayError:
    return ModelwayError(f"the file has no Ed25519 {kind} key without a password (PEM)", where=str(path), do=do)
