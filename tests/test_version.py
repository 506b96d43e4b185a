"""The Rust and Python packages have the same version, and the documentation states this version."""

from __future__ import annotations

import re
import tomllib

import cloaca
from documentation import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]


def in_python(version: str) -> str:
    """Converts a version from Cargo's spelling to Python's."""
    return re.sub(r"-(a|b|rc)[a-z]*\.", r"\1", version)


def test_rust_and_python_packages_have_the_same_version() -> None:
    assert in_python("2.1.0-alpha.3") == "2.1.0a3"
    version = WORKSPACE["package"]["version"]
    assert cloaca.__version__ == PROJECT["version"] == in_python(version)
    for crate in ("cloacina", "cloacina-macros"):
        assert WORKSPACE["dependencies"][crate]["version"] == version
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    ours = [entry for entry in locked if entry["name"].startswith("cloacina")]
    cloacina_versions = {entry["version"] for entry in ours}
    assert cloacina_versions <= {version, "0.0.0"}, cloacina_versions


def test_readme_changelog_and_quick_start_state_the_version() -> None:
    version = PROJECT["version"]
    assert f"Version {version} " in (ROOT / "README.md").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    for page in ("README.md", "docs/quick-start.md"):
        assert f'"cloaca>={version}"' in (ROOT / page).read_text(), page
