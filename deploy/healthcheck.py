"""The image's health check: exit code 0 if the server on LQMF_PORT (8000) answers /health, else 1 with the reason."""

import os
import sys
import urllib.request

url = f"http://127.0.0.1:{os.environ.get('LQMF_PORT', '8000')}/health"
try:
    # No proxy of the environment: the server is in this container.
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=4).close()
except OSError as error:
    sys.exit(f"{url}: {error}")
