"""Certificate, key and client CA of the server: files → an SSLContext (TLS 1.2 or later).

The files are looked at whenever somebody connects, so that what cert-manager and the kubelet renew serves the next
connection. Files that can't be used leave those that were read before in force: a renewal may be half done.
"""

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from announcer.log import fields

log = logging.getLogger(__name__)
CERTIFICATE, KEY, CLIENT_CA = "--metrics-cert", "--metrics-key", "--metrics-client-ca"


class TlsError(Exception):
    """Names the option, the file, what is wrong with it, and a remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """All PEM. With `client_ca`, /metrics is for clients whose certificate it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Tls:
    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[tuple[int, ...], ...] = ()

    def context(self) -> ssl.SSLContext:
        """Of the files as they are now. Raises TlsError where there never were any that can be used."""
        seen = tuple(
            _signature(file) for file in (self.files.certificate, self.files.key, self.files.client_ca) if file
        )
        if self._context is not None and seen == self._seen:
            return self._context
        try:
            made = _context(self.files)
        except TlsError as error:
            if self._context is None:
                raise
            log.warning("the certificate of metrics was not renewed, the one before stays", extra=fields(error=error))
        else:
            if self._context is not None:
                log.info("the certificate of metrics was renewed", extra=fields(file=self.files.certificate))
            self._context = made
        self._seen = seen
        return self._context


def _signature(file: Path) -> tuple[int, ...]:
    """Of the file behind all links, as the kubelet renews Secrets by changing a link."""
    try:
        found = file.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # Debian's Python leaves that to the machine's openssl.cnf
    # Each connection shows its certificate anew: a ticket would outlive a client CA that is no more.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), CERTIFICATE, files.certificate)
    _read(KEY, files.key)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except ssl.SSLError as error:
        is_other = error.reason == "KEY_VALUES_MISMATCH"
        wrong = f"is not the key of {files.certificate}" if is_other else "has no PEM private key"
        raise TlsError(f"{KEY} {files.key} {wrong}: give the key that the certificate was made with") from error
    except _EncryptedError as error:
        raise TlsError(f"{KEY} {files.key} is encrypted: give it without a passphrase") from error
    if files.client_ca is not None:
        _trust(context, CLIENT_CA, files.client_ca)
        # Asked for and not demanded, as the kubelet's probes have none: the server demands it for /metrics.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _trust(context: ssl.SSLContext, option: str, file: Path) -> None:
    """Also the way to see that a file has certificates at all."""
    _read(option, file)
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError as error:
        raise TlsError(
            f"{option} {file} has no PEM certificate: give a file with -----BEGIN CERTIFICATE-----"
        ) from error


def _read(option: str, file: Path) -> None:
    try:
        file.read_bytes()
    except OSError as error:
        who = f"user {os.geteuid()}"
        raise TlsError(f"{option} {file}: {error.strerror}: give a file that {who} may read") from error


class _EncryptedError(Exception):
    pass


def _refuse_password() -> str:
    """Without this, OpenSSL would ask on the terminal."""
    raise _EncryptedError
