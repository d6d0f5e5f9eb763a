"""Trust in the certificate of one server, which is its own and seldom names the address that a client uses."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)


def trust(certfile: str | None) -> ssl.SSLContext | bool:
    """What an httpx client takes as `verify`: exactly the first certificate of a PEM file, for any host.

    Without a file, or if it cannot be read, the authorities that this machine trusts decide.
    """
    if not certfile:
        return True
    try:
        found = _CERTIFICATE.search(Path(certfile).read_text("ascii", "replace"))
        if found is None:
            return True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be an authority's
        context.load_verify_locations(cadata=found[0])
    except (OSError, ssl.SSLError):
        return True
    return context
