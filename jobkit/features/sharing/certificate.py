"""The certificate of a gateway: signed by itself and pinned by its fingerprint, so no authority is needed."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobkit.access.own_machine import write_private

#: Clocks of other machines may be wrong, and a pinned certificate needs no end.
_BEFORE, _AFTER = timedelta(days=365), timedelta(days=365 * 20)


def own_certificate(folder: Path, host: str) -> Path:
    """Return the file with certificate and key of a gateway, made by the first call.

    `host` is one of its names, for browsers; members look at the fingerprint only. Raises OSError.
    """
    path = folder / "certificate.pem"
    if not path.exists():
        write_private(path, _made(host), replaces=False)
    return path


def certificate_in(path: Path) -> str:
    """Return the certificate (PEM) without its key."""
    text = path.read_text("ascii")
    return text[text.index("-----BEGIN CERTIFICATE") :]


def fingerprint_of(certificate: str | bytes) -> bytes:
    """Return the SHA-256 of a certificate, which is PEM or DER."""
    der = ssl.PEM_cert_to_DER_cert(certificate) if isinstance(certificate, str) else certificate
    return hashlib.sha256(der).digest()


def server_tls(path: Path) -> ssl.SSLContext:
    """Return the TLS of a gateway: HTTP for those who ask for it, Redis for all others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(path)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _made(host: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"jobkit on {socket.gethostname()}"[:64])])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    for each in dict.fromkeys((socket.gethostname(), host)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(each)))
        except ValueError:
            with suppress(ValueError):  # not ASCII
                names.append(x509.DNSName(each))
    now = datetime.now(UTC)
    use = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _AFTER)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, encipher_only=False, decipher_only=False, **use), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()
