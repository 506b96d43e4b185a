"""The redirect from the path of a mount without a final slash, for both adapters."""

from __future__ import annotations

from urllib.parse import quote

# The characters that are not escaped in the first part of a relative URL. A colon is escaped,
# because it would make the text before it a scheme.
_PART = "-._~!$&'()*+,;=@"


def with_slash(root: str | bytes, query: str) -> str | None:
    """Returns a relative URL of a mount with a final slash; `None` if `root` has no last part.

    Without the slash, the page's relative links would lead out of the mount. The service cannot
    distinguish the two URLs, because it receives an empty path as "/".

    Args:
        root: The path of the mount, decoded.
        query: The query of the request, without the question mark.
    """
    mount = (root if isinstance(root, bytes) else root.encode()).rpartition(b"/")[2]
    if not mount:
        return None
    location = f"{quote(mount, safe=_PART)}/"
    return f"{location}?{query}" if query else location
