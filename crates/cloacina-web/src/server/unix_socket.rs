//! Creates Unix sockets that only the user of this process can connect to.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens on a socket with the mode 0600. Replaces a socket file that no process listens on.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("the file exists and is not a socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::other("another process listens on it"));
        }
        _ => {}
    }
    // The socket is created in a private folder, because it has its final mode only after its creation.
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let private = folder.join(format!(".{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&private)?;
    let created = create(&private.join("s"), path);
    let _ = fs::remove_dir_all(&private);
    created
}

fn create(at: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(at)?;
    fs::set_permissions(at, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    fs::rename(at, path)?;
    Ok(listener)
}
