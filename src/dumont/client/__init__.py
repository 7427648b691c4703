"""The SDK, and the only door for outsiders: `Dumont` (async) and `Blocking`."""

from dumont.client.blocking import Blocking
from dumont.client.dumont import Dumont
from dumont.client.home import Home, find_home

__all__ = ["Blocking", "Dumont", "Home", "find_home"]
