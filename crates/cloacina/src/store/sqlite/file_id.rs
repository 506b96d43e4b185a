//! The identity of a database file.

/// The identity of a file, which does not depend on its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(pub(super) u64, pub(super) u64);

impl FileId {
    /// Returns the identity of the file that currently has this name; `None` if no such file can be found.
    #[cfg(unix)]
    pub(super) fn of(path: &std::path::Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino()))
    }

    #[cfg(not(unix))]
    pub(super) const fn of(_: &std::path::Path) -> Option<Self> {
        None
    }
}
