"""The MiniPOS relay: every terminal of a restaurant shows the same floor."""

__version__ = "0.1.0"
