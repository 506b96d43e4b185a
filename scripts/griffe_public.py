"""Selects the contents of the reference: public names, with the Rust module's docstrings."""

from __future__ import annotations

import importlib
import inspect
import re

from griffe import Alias, Class, Docstring, Extension, GriffeLoader, Module, Object

PRIVATE = re.compile(r"(?:^|\s)Private(?:\.|:)")


class PublicOnly(Extension):
    """Drops items whose docstrings call them private; reads docstrings of compiled classes."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: object) -> None:
        """Goes through the package once it is loaded."""
        core = pkg.members.get("_core")
        if isinstance(core, Module):
            self._read_compiled(core, importlib.import_module(f"{pkg.name}._core"))
        self._prune(pkg)

    def _name_examples(self, member: Object) -> None:
        """Uses the plural name that griffe knows for this section."""
        if member.docstring is not None:
            text = member.docstring.value
            member.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)

    def _read_compiled(self, known: Object, compiled: object) -> None:
        """The stubs have types, the compiled module has the texts."""
        for name, found in list(known.members.items()):
            value = getattr(compiled, name, None)
            text = inspect.getdoc(value)
            if name.startswith("_") or inspect.ismodule(value) or value is None:
                continue
            # A class whose `__module__` is another module is an alias here.
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
                # The class is public but its constructor is not, so its docstring and arguments are
                # dropped.
                del parent.members[name]
            elif isinstance(member, (Class, Module)):
                # A private class may be the base of a public one.
                self._prune(member)
            elif is_private:
                del parent.members[name]
