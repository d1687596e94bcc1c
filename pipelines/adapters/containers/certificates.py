"""Certificates for one name: made by an authority of an installation's own, or made by somebody else and checked."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipelines.errors import UsageError

AUTHORITY_DAYS = 3650
# What clients accept at most.
CERTIFICATE_DAYS = 397
RENEW_DAYS = 30
# Clocks differ.
_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class Certified:
    """A certificate, with those that lead from it to an authority, and its key; both in PEM."""

    certificate: str
    key: str = field(repr=False)


def make_authority(name: str, now: datetime) -> Certified:
    """Make an authority that can speak for `name` and nothing else, whoever gets hold of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("Slipway certificate authority")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    limits = x509.NameConstraints([x509.DNSName(name)], None)
    builder = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(limits, critical=True)
    )
    return _signed(builder, key, key)


def issue(authority: Certified, name: str, now: datetime) -> Certified:
    """Make a certificate for a server called `name`."""
    signer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signing = _signing_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_subject(name[:64]), signer.subject, key.public_key(), now, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    return _signed(builder, key, signing)


def is_due(certificate: str, name: str, now: datetime) -> bool:
    """Whether a made certificate should be replaced: it is for another name, or ends soon."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    return not _covers(found, name) or found.not_valid_after_utc < now + timedelta(days=RENEW_DAYS)


def is_authority_due(certificate: str, name: str, now: datetime) -> bool:
    """Whether an authority should be replaced: it speaks for another name, or could end before what it signs now."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    limits = found.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    ends_soon = found.not_valid_after_utc < now + timedelta(days=CERTIFICATE_DAYS)
    return [each.value for each in limits] != [name] or ends_soon


def check(certified: Certified, name: str, now: datetime, *, authority: str | None = None) -> None:
    """Raise UsageError unless clients that trust the authority will take this certificate for `name`, now."""
    chain = _certificates(certified.certificate, "SLIPWAY_TLS_CERT")
    own, last = chain[0], chain[-1]
    if _public(_key(certified.key.encode(), "SLIPWAY_TLS_KEY").public_key()) != _public(own.public_key()):
        raise UsageError(
            "the key of SLIPWAY_TLS_KEY does not belong to the certificate of SLIPWAY_TLS_CERT",
            next="give the pair; the server's own certificate comes first in its file",
        )
    for each in chain:
        if now > each.not_valid_after_utc:
            raise UsageError(f"the certificate expired on {each.not_valid_after_utc:%Y-%m-%d}", next="renew it")
        if now < each.not_valid_before_utc:
            raise UsageError(
                f"the certificate is not valid before {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
                next="look at this machine's clock",
            )
    if not _covers(own, name):
        raise UsageError(
            f"the certificate is for {', '.join(_names(own)) or 'no name'}, not for {name}",
            next="have one made for the name of SLIPWAY_EXTERNAL_URL",
        )
    if authority and not any(_leads_to(last, each) for each in _certificates(authority, "SLIPWAY_TLS_CA")):
        raise UsageError(
            "the certificate of SLIPWAY_TLS_CERT is not signed by that of SLIPWAY_TLS_CA",
            next="put the certificates in between into SLIPWAY_TLS_CERT, or correct SLIPWAY_TLS_CA",
        )


def ends(certificate: str) -> datetime:
    """Return until when a certificate holds."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signing: ec.EllipticCurvePrivateKey
) -> Certified:
    pem = serialization.Encoding.PEM
    shape, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    made = builder.sign(signing, hashes.SHA256()).public_bytes(pem)
    return Certified(made.decode(), key.private_bytes(pem, shape, plain).decode())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(**granted: bool) -> x509.KeyUsage:
    every = [
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ]
    return x509.KeyUsage(**{name: granted.get(name, False) for name in every})


def _certificates(pem: str, setting: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise UsageError(f"the file of {setting} holds no certificate in PEM", next="give one that does") from None


def _key(pem: bytes, what: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise UsageError(f"{what} has a passphrase, which no server here can know", next="take it off") from None
    except ValueError:
        # Its text must not get into a message, nor into what led to one.
        raise UsageError(f"{what} is no private key in PEM", next="give one that is") from None


def _signing_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = _key(pem.encode(), "the authority's key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError("the authority's key was not made here", next="slipway secrets rotate tls-ca")
    return key


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in found.value.get_values_for_type(x509.DNSName)]


def _covers(certificate: x509.Certificate, name: str) -> bool:
    """Whether one of its names is this one; a star stands for the first part alone."""
    names = _names(certificate)
    return name in names or f"*.{name.partition('.')[2]}" in names


def _leads_to(last: x509.Certificate, authority: x509.Certificate) -> bool:
    if last == authority:
        return True
    try:
        last.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True
