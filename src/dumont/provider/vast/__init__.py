"""The driver for Vast.ai, a market of strangers' GPUs: who rents there bids, and may be outbid."""

from dumont.provider.vast.driver import IMAGE, URL, Settings
from dumont.provider.vast.provider import VastProvider

__all__ = ["IMAGE", "URL", "Settings", "VastProvider"]
