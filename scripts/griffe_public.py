"""Keeps out of the reference what the package's docstrings call private."""

from __future__ import annotations

from griffe import Class, Extension, GriffeLoader, Module, Object


class PublicOnly(Extension):
    """Drops every object whose docstring ends with "Private." or begins with it."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: object) -> None:
        """Prunes the package once it is loaded."""
        self._prune(pkg)

    def _prune(self, parent: Object) -> None:
        for name, member in list(parent.members.items()):
            if member.is_alias:
                continue
            text = member.docstring.value if member.docstring else ""
            if text.startswith("Private") or text.rstrip().endswith("Private."):
                if name != "__init__":
                    del parent.members[name]
                else:
                    # The class is public, making one is not: neither its text nor its arguments.
                    member.docstring = None
            elif isinstance(member, (Class, Module)):
                self._prune(member)
