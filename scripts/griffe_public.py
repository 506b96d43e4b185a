"""Selects the public names for the API reference, and adds docstrings from the compiled module."""

from __future__ import annotations

import importlib
import inspect
import re

from griffe import Alias, Class, Docstring, Extension, GriffeLoader, Module, Object

PRIVATE = re.compile(r"(?:^|\s)Private(?:\.|:)")


class PublicOnly(Extension):
    """Drops items whose docstrings call them private. Adds the docstrings of compiled classes."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: object) -> None:
        """Adds the compiled docstrings and drops private items, once the package is loaded."""
        core = pkg.members.get("_core")
        if isinstance(core, Module):
            self._read_compiled(core, importlib.import_module(f"{pkg.name}._core"))
        self._prune(pkg)

    def _name_examples(self, member: Object) -> None:
        """Renames the section `Example` to `Examples`, because griffe knows only the plural."""
        if member.docstring is not None:
            text = member.docstring.value
            member.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)

    def _read_compiled(self, known: Object, compiled: object) -> None:
        """Copies docstrings from the compiled module, because the stubs contain only types."""
        for name, found in list(known.members.items()):
            value = getattr(compiled, name, None)
            text = inspect.getdoc(value)
            if name.startswith("_") or inspect.ismodule(value) or value is None:
                continue
            # If a class's `__module__` names another module, the class is an alias in this module.
            member = found.final_target if isinstance(found, Alias) else found
            if text and (isinstance(known, Class) or isinstance(member, Class)):
                member.docstring = Docstring(text, parent=member, parser="google")
            if isinstance(member, Class):
                self._read_compiled(member, value)
                self._prune(member)

    def _prune(self, parent: Object) -> None:
        for name, member in list(parent.members.items()):
            if member.is_alias:
                continue
            self._name_examples(member)
            is_private = PRIVATE.search(member.docstring.value if member.docstring else "")
            if name == "__init__" and is_private:
                # The class is public but its constructor is not, so the constructor's docstring and
                # arguments are dropped.
                del parent.members[name]
            elif isinstance(member, (Class, Module)):
                # Private classes are kept too, because a public class may inherit from them.
                self._prune(member)
            elif is_private:
                del parent.members[name]
