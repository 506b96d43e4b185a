//! Creates Unix sockets that only the user of this process can connect to.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Maximum number of names that are tried for the private folder.
const MAX_NAMES: u32 = 100;

/// The file of a Unix socket. Dropping this value removes the file, unless another server has replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The device and the inode of the file.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // A file that cannot be removed is replaced by the next server on this path.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a socket with the mode 0600. Replaces a socket file that no process listens on.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("the file exists and is not a socket"));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::other("another process listens on it")),
            // No process listens on the socket, or its file was removed meanwhile.
            Err(error) if is_unused(&error) => {}
            Err(error) => return Err(error),
        },
        Err(_) => {}
    }
    // The socket is created in a private folder, because it has its final mode only after its creation.
    let private = private_folder(path.parent().unwrap_or_else(|| Path::new("")))?;
    let created = create(&private.join("s"), path);
    let _ = fs::remove_dir_all(&private);
    created
}

fn is_unused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::NotFound
    )
}

/// Creates a folder that only this user can enter. Its name is short, because the path of a socket may have only about
/// 100 bytes. A process that was killed can have left a folder with the same name.
fn private_folder(parent: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut tries = 0;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!(".{:x}{number:x}", std::process::id()));
        tries += 1;
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < MAX_NAMES => {}
            Err(error) => return Err(error),
        }
    }
}

fn create(at: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = UnixListener::bind(at)?;
    fs::set_permissions(at, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(at)?,
    };
    fs::rename(at, path)?;
    Ok((listener, file))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
