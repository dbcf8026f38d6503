"""Files fetched by the admin machine: from an https address or a path, once, in parts if need be, and checked."""

from clusteradm.fetch.address import name_of
from clusteradm.fetch.download import Fetched, Progress, fetch
from clusteradm.fetch.errors import FetchFailed, WrongContent
from clusteradm.fetch.store import default_cache

__all__ = ["FetchFailed", "Fetched", "Progress", "WrongContent", "default_cache", "fetch", "name_of"]
