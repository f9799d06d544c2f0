"""The processes that train one network together. The only room that imports an engine of processes."""

from .team import Team

__all__ = ["Team"]
