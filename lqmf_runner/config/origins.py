"""Origins of web pages, as the setting `server.cors_origins` has them and as browsers send them."""

from __future__ import annotations

import re

from ..errors import UserInputError

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/?#@:*\[\]]*)(?P<port>:\d+)?(?:[/?#]\S*)?"
)
_USUAL_PORTS = {"http": ":80", "https": ":443"}


def browser_origin(setting: str) -> str:
    """The origin as a browser sends it: no path, no usual port, in lower case, international names in ASCII.

    "*" is every origin, and "null" is that of pages without one, such as local files.

    Raises:
        UserInputError: no page can have this origin.
    """
    given = setting.strip().lower()
    if given in ("*", "null"):
        return given
    match = _ORIGIN.fullmatch(given)
    if match is None or not (match["host"] or match["scheme"] == "file"):
        raise UserInputError(f"server.cors_origins: no page has the origin '{setting}'", hint=_hint(given))
    scheme, host, port = match["scheme"], match["host"], match["port"] or ""
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise UserInputError(f"server.cors_origins: '{setting}' is not a name: {error}") from None
    return f"{scheme}://{host}{'' if port == _USUAL_PORTS.get(scheme) else port}"


def _hint(given: str) -> str:
    if "*" in given:
        return 'a * inside an origin is not supported: list each origin, or allow all with a single "*"'
    if "://" not in given:
        return f"an origin begins with its scheme, such as https://{given or 'app.example.com'}"
    return "an origin is a scheme, a host and perhaps a port, such as https://app.example.com"
