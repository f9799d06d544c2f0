"""What the index of packages shows: the README, whose links and pictures lead to the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURES = (".gif", ".jpg", ".png", ".svg", ".webp")

_CODE = r"^```.*?^```|`[^`\n]*`"
_LINK = r"(?P<before>\]\(|\b(?:src|srcset|href)=\")(?P<target>(?![a-z]+:|#)[^)\s\"]+)"


def absolute(text: str, repository: str) -> str:
    """A page of Markdown with links and pictures that lead to the repository's main branch; code stays as it is."""

    def whole(found: re.Match[str]) -> str:
        if found["target"] is None:
            return found[0]
        picture = found["target"].partition("#")[0].lower().endswith(PICTURES)
        return f"{found['before']}{repository}/{'raw' if picture else 'blob'}/main/{found['target'].removeprefix('./')}"

    return re.sub(f"{_CODE}|{_LINK}", whole, text, flags=re.MULTILINE | re.DOTALL)


class Readme(MetadataHookInterface):
    """Sets the description, after the project's other metadata have been read."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set it, by the address of the source among the project's."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, metadata["urls"]["Source"])}
