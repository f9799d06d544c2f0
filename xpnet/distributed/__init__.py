"""The processes that train one network together. The only room that imports an engine of processes."""

from .about import about, computes_with
from .agreement import agree, differences
from .starting import abandon, engine, launched, started
from .team import Team

__all__ = ["Team", "abandon", "about", "agree", "computes_with", "differences", "engine", "launched", "started"]
