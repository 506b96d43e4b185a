//! File locks that are kept when the process forks, and when it closes another descriptor for the same file (decision
//! 001).
//!
//! SQLite uses POSIX record locks. A process loses all its record locks on a file when it closes any descriptor for
//! that file. Also, a second copy of SQLite in the same process does not see these locks. Linux's open file description
//! locks have neither problem, so SQLite's calls of `fcntl` are redirected to them. SQLite counts its locks per process
//! and file, and can release a lock on a different descriptor from the one on which it took the lock. [`LockTable`]
//! therefore keeps all locks of a database file on one descriptor: the one that took the first lock.
//!
//! A forked child shares its parent's file descriptions and inherits SQLite's lock counters. If it kept the
//! descriptions open, the locks of a dead parent would remain. The child therefore replaces the descriptors, and does
//! not inherit the mapped memory. The child cannot open a database file that was open at the fork ([`is_inherited`]).
//!
//! See docs/explanation/decisions/001-sqlite-locks.md

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use libsqlite3_sys as ffi;

use super::file_id::FileId;
use crate::types::sync::{Mutex, MutexGuard};

/// Byte that SQLite locks before a connection's first lock on a database file.
const PENDING_BYTE: i64 = 0x4000_0000;
/// The last byte that SQLite locks in the `-shm` file. It stays locked while the file is in use.
const DEAD_MAN_SWITCH: i64 = 128;

/// A file that this process or one of its ancestors has locked.
struct LockedFile {
    file: FileId,
    /// The descriptor that holds the locks.
    descriptor: c_int,
    /// Whether an ancestor had locked the file when it forked. SQLite's counters for the file are then wrong in this
    /// process.
    inherited: bool,
}

type LockTable = Vec<LockedFile>;

type SystemCall = unsafe extern "C" fn();
type SetLock = unsafe extern "C" fn(c_int, c_int, *mut libc::flock) -> c_int;
type Close = unsafe extern "C" fn(c_int) -> c_int;
type MapMemory =
    unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, libc::off_t) -> *mut c_void;

static TABLE: Mutex<LockTable> = Mutex::new(Vec::new());
/// Whether SQLite may have taken POSIX locks, either before [`install`] was called or because the kernel has no
/// description locks.
static HAS_POSIX_LOCKS: AtomicBool = AtomicBool::new(false);
/// Whether an ancestor of this process has used SQLite.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The guard of the locked table while this thread forks, otherwise `None`.
    static FORKING: RefCell<Option<MutexGuard<'static, LockTable>>> = const { RefCell::new(None) };
}

/// Redirects SQLite's system calls. Called before each connection is opened; only the first call has an effect.
#[expect(
    unsafe_code,
    reason = "SQLite's system calls and the C library's fork handlers need unsafe code"
)]
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the functions have the parameters of `fcntl`, `close` and `mmap`; Linux passes variadic arguments
        // like other arguments. The fork handlers use only functions that are safe in a forked child.
        unsafe {
            HAS_POSIX_LOCKS.store(ffi::sqlite3_memory_used() > 0, Ordering::Relaxed);
            let vfs = ffi::sqlite3_vfs_find(c"unix".as_ptr());
            if let Some(set) = vfs.as_ref().and_then(|vfs| vfs.xSetSystemCall) {
                set(
                    vfs,
                    c"fcntl".as_ptr(),
                    Some(std::mem::transmute::<SetLock, SystemCall>(fcntl)),
                );
                set(
                    vfs,
                    c"close".as_ptr(),
                    Some(std::mem::transmute::<Close, SystemCall>(close)),
                );
                set(
                    vfs,
                    c"mmap".as_ptr(),
                    Some(std::mem::transmute::<MapMemory, SystemCall>(mmap)),
                );
            }
            libc::pthread_atfork(
                Some(before_fork),
                Some(after_fork_in_parent),
                Some(after_fork_in_child),
            );
        }
    });
}

/// Returns whether SQLite must not open a file in this process, because an ancestor had the file open when it forked.
pub(super) fn is_inherited(path: &Path) -> bool {
    FileId::of(path).is_some_and(|file| {
        TABLE
            .lock()
            .iter()
            .any(|locked| locked.inherited && locked.file == file)
    })
}

#[expect(unsafe_code, reason = "called by SQLite in place of fcntl")]
unsafe extern "C" fn fcntl(descriptor: c_int, command: c_int, argument: *mut libc::flock) -> c_int {
    let command = match command {
        libc::F_SETLK => libc::F_OFD_SETLK,
        libc::F_SETLKW => libc::F_OFD_SETLKW,
        libc::F_GETLK => libc::F_OFD_GETLK,
        // SAFETY: the arguments are passed on unchanged.
        _ => return unsafe { libc::fcntl(descriptor, command, argument) },
    };
    if IS_CHILD.load(Ordering::Relaxed) && is_replaced(descriptor) {
        // SAFETY: errno belongs to this thread.
        unsafe { *libc::__errno_location() = libc::EIO };
        return -1;
    }
    // SAFETY: with these commands, SQLite passes a pointer to a lock.
    let lock = unsafe { &mut *argument };
    let descriptor = if (1..=DEAD_MAN_SWITCH).contains(&lock.l_start) {
        // SQLite takes all locks of a process in the `-shm` file on one descriptor, so the lock can stay on this
        // descriptor.
        if lock.l_start == DEAD_MAN_SWITCH && c_int::from(lock.l_type) == libc::F_RDLCK {
            set_descriptor(&mut TABLE.lock(), descriptor);
        }
        descriptor
    } else {
        let mut table = TABLE.lock();
        let is_first = c_int::from(lock.l_type) == libc::F_RDLCK && lock.l_start == PENDING_BYTE;
        if is_first {
            set_descriptor(&mut table, descriptor)
        } else {
            descriptor_of(&table, descriptor)
        }
    };
    set_lock(descriptor, command, lock)
}

/// Returns whether a descriptor belongs to a connection of an ancestor. Such a descriptor was replaced, so it cannot
/// take locks.
fn is_replaced(descriptor: c_int) -> bool {
    TABLE
        .lock()
        .iter()
        .any(|locked| locked.inherited && locked.descriptor == descriptor)
}

/// Makes `descriptor` the descriptor that holds the locks of its file.
fn set_descriptor(table: &mut LockTable, descriptor: c_int) -> c_int {
    if let Some(file) = file_of(descriptor) {
        table.retain(|locked| locked.inherited || locked.file != file);
        table.push(LockedFile {
            file,
            descriptor,
            inherited: false,
        });
    }
    descriptor
}

/// Returns the descriptor that holds the locks of the file of `descriptor`.
fn descriptor_of(table: &LockTable, descriptor: c_int) -> c_int {
    file_of(descriptor)
        .and_then(|file| {
            table
                .iter()
                .find(|locked| !locked.inherited && locked.file == file)
        })
        .map_or(descriptor, |locked| locked.descriptor)
}

#[expect(unsafe_code, reason = "system call")]
fn set_lock(descriptor: c_int, command: c_int, lock: &mut libc::flock) -> c_int {
    // These commands require the process id 0, which SQLite does not set.
    lock.l_pid = 0;
    let posix = match command {
        libc::F_OFD_SETLK => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_SETLKW,
        _ => libc::F_GETLK,
    };
    let kind = c_int::from(lock.l_type);
    // SAFETY: the descriptor belongs to SQLite, and `lock` is a valid lock.
    let mut result = unsafe { libc::fcntl(descriptor, command, &raw mut *lock) };
    let error = || std::io::Error::last_os_error().raw_os_error();
    if result == -1 && error() == Some(libc::EINVAL) {
        // The kernel or the file system does not support description locks.
        HAS_POSIX_LOCKS.store(true, Ordering::Relaxed);
        // SAFETY: the descriptor belongs to SQLite, and `lock` is a valid lock.
        result = unsafe { libc::fcntl(descriptor, posix, &raw mut *lock) };
    } else if kind == libc::F_UNLCK && HAS_POSIX_LOCKS.load(Ordering::Relaxed) {
        // SAFETY: the descriptor belongs to SQLite, and `lock` is a valid lock.
        unsafe { libc::fcntl(descriptor, posix, &raw mut *lock) };
    }
    if result == -1 && error() == Some(libc::EBADF) && kind == libc::F_WRLCK {
        // The descriptor that holds the locks is read-only, so it cannot take a write lock. SQLite is told that there
        // is a conflicting lock.
        // SAFETY: errno belongs to this thread.
        unsafe { *libc::__errno_location() = libc::EAGAIN };
    }
    result
}

#[expect(unsafe_code, reason = "system call")]
fn file_of(descriptor: c_int) -> Option<FileId> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the structure when it succeeds.
    let status = unsafe {
        if libc::fstat(descriptor, status.as_mut_ptr()) != 0 {
            return None;
        }
        status.assume_init()
    };
    Some(FileId(status.st_dev, status.st_ino))
}

#[expect(unsafe_code, reason = "called by SQLite in place of close")]
unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    TABLE
        .lock()
        .retain(|locked| locked.inherited || locked.descriptor != descriptor);
    // SAFETY: the descriptor belongs to SQLite, which no longer uses it.
    unsafe { libc::close(descriptor) }
}

/// Maps memory that a forked child does not inherit, because inherited memory would keep the file description open.
#[expect(unsafe_code, reason = "called by SQLite in place of mmap")]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: the other arguments are passed on unchanged, and the mapped memory belongs to SQLite.
    unsafe {
        let mapped = libc::mmap(address, length, protection, flags, descriptor, offset);
        if mapped != libc::MAP_FAILED {
            libc::madvise(mapped, length, libc::MADV_DONTFORK);
        }
        mapped
    }
}

extern "C" fn before_fork() {
    let table = TABLE.lock();
    // A thread that is ending has no thread-local storage. If it forks, the table may stay locked in the child.
    let _ = FORKING.try_with(|forking| *forking.borrow_mut() = Some(table));
}

extern "C" fn after_fork_in_parent() {
    let _ = FORKING.try_with(|forking| forking.borrow_mut().take());
}

#[expect(
    unsafe_code,
    reason = "system calls that are allowed in a forked child"
)]
extern "C" fn after_fork_in_child() {
    let _ = FORKING.try_with(|forking| {
        let Some(mut table) = forking.borrow_mut().take() else {
            return;
        };
        // SAFETY: the descriptors in the table are this process's copies of SQLite's descriptors. They are replaced
        // with /dev/null and not closed, so that SQLite's inherited state never refers to a file that the program opens
        // later.
        unsafe {
            IS_CHILD.store(true, Ordering::Relaxed);
            let dev_null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            for locked in table.iter_mut().filter(|locked| !locked.inherited) {
                if dev_null >= 0 {
                    libc::dup3(dev_null, locked.descriptor, libc::O_CLOEXEC);
                }
                locked.inherited = true;
            }
            if dev_null >= 0 {
                libc::close(dev_null);
            }
        }
    });
}
