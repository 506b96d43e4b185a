//! File locks that neither a foreign `close` nor a fork takes away (decision 001).
//!
//! SQLite locks with POSIX record locks. A process loses all of them on a file as soon as any of its descriptors for that
//! file is closed, and a second copy of SQLite in the same process does not see them. Linux's locks of open file
//! descriptions have neither flaw, so SQLite's calls of `fcntl` are redirected to them. SQLite counts its locks per process
//! and file and may release on one descriptor what it took on another: [`Table`] keeps all locks of a database file on
//! the descriptor that took the first one.
//!
//! A forked child shares its parent's descriptions and inherits SQLite's counters. It lets go of the descriptors and does not
//! inherit the mapped memory, so that it cannot hold locks of a parent that died, and [`is_inherited`] keeps it away from those files.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use libsqlite3_sys as ffi;

use super::file_id::FileId;
use crate::types::sync::{Mutex, MutexGuard};

/// SQLite's byte that a connection locks before its first lock of a database file.
const PENDING_BYTE: i64 = 0x4000_0000;
/// SQLite's last byte of the locks in the `-shm` file: held for as long as the file is in use.
const DEAD_MAN_SWITCH: i64 = 128;

/// A file that this process, or an ancestor of it, has locked.
struct Locked {
    file: FileId,
    /// The descriptor whose description has the locks.
    descriptor: c_int,
    /// Locked by an ancestor when it forked: SQLite's counters for the file are wrong in this process.
    inherited: bool,
}

type Table = Vec<Locked>;

type SystemCall = unsafe extern "C" fn();
type SetLock = unsafe extern "C" fn(c_int, c_int, *mut libc::flock) -> c_int;
type Close = unsafe extern "C" fn(c_int) -> c_int;
type MapMemory =
    unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, libc::off_t) -> *mut c_void;

static TABLE: Mutex<Table> = Mutex::new(Vec::new());
/// Whether locks that SQLite took as POSIX locks may exist, on a kernel without the others or from before [`install`].
static HAS_POSIX_LOCKS: AtomicBool = AtomicBool::new(false);
/// Whether an ancestor of this process used SQLite.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The table, locked by this thread while it forks.
    static FORKING: RefCell<Option<MutexGuard<'static, Table>>> = const { RefCell::new(None) };
}

/// Redirects SQLite's calls; called before each opening, and works once.
#[expect(
    unsafe_code,
    reason = "SQLite's interface to its system calls, and the C library's to forks"
)]
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the functions take what `fcntl` and `close` take; on Linux a call with variable arguments passes them like
        // any other. The handlers only use what is safe in a forked child.
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

/// Whether SQLite cannot be used on a file in this process, because an ancestor had it open when it forked.
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
        // SAFETY: passed on as it came.
        _ => return unsafe { libc::fcntl(descriptor, command, argument) },
    };
    if IS_CHILD.load(Ordering::Relaxed) && is_let_go(descriptor) {
        // SAFETY: errno is this thread's.
        unsafe { *libc::__errno_location() = libc::EIO };
        return -1;
    }
    // SAFETY: for these commands SQLite passes a lock.
    let lock = unsafe { &mut *argument };
    let descriptor = if (1..=DEAD_MAN_SWITCH).contains(&lock.l_start) {
        // All of a process's locks in the `-shm` file are on one descriptor.
        if lock.l_start == DEAD_MAN_SWITCH && c_int::from(lock.l_type) == libc::F_RDLCK {
            remember(&mut TABLE.lock(), descriptor);
        }
        descriptor
    } else {
        let mut table = TABLE.lock();
        let is_first = c_int::from(lock.l_type) == libc::F_RDLCK && lock.l_start == PENDING_BYTE;
        if is_first {
            remember(&mut table, descriptor)
        } else {
            descriptor_of(&table, descriptor)
        }
    };
    set_lock(descriptor, command, lock)
}

/// Whether a descriptor is one of an ancestor's connections, which has no file any more: nothing can be locked with it.
fn is_let_go(descriptor: c_int) -> bool {
    TABLE
        .lock()
        .iter()
        .any(|locked| locked.inherited && locked.descriptor == descriptor)
}

/// Keeps the locks of the descriptor's file on it from now on.
fn remember(table: &mut Table, descriptor: c_int) -> c_int {
    if let Some(file) = file_of(descriptor) {
        table.retain(|locked| locked.inherited || locked.file != file);
        table.push(Locked {
            file,
            descriptor,
            inherited: false,
        });
    }
    descriptor
}

/// The descriptor that has the locks of the file of another one.
fn descriptor_of(table: &Table, descriptor: c_int) -> c_int {
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
    // Required to be 0 by these commands, and not set by SQLite.
    lock.l_pid = 0;
    let posix = match command {
        libc::F_OFD_SETLK => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_SETLKW,
        _ => libc::F_GETLK,
    };
    let kind = c_int::from(lock.l_type);
    // SAFETY: the descriptor is SQLite's, and `lock` is a lock.
    let mut result = unsafe { libc::fcntl(descriptor, command, &raw mut *lock) };
    let error = || std::io::Error::last_os_error().raw_os_error();
    if result == -1 && error() == Some(libc::EINVAL) {
        // A kernel or file system without such locks.
        HAS_POSIX_LOCKS.store(true, Ordering::Relaxed);
        // SAFETY: as above.
        result = unsafe { libc::fcntl(descriptor, posix, &raw mut *lock) };
    } else if kind == libc::F_UNLCK && HAS_POSIX_LOCKS.load(Ordering::Relaxed) {
        // SAFETY: as above.
        unsafe { libc::fcntl(descriptor, posix, &raw mut *lock) };
    }
    if result == -1 && error() == Some(libc::EBADF) && kind == libc::F_WRLCK {
        // The locks are on a descriptor of a connection that only reads: that is another one's lock in the way.
        // SAFETY: errno is this thread's.
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
    // SAFETY: the descriptor is SQLite's, which is done with it.
    unsafe { libc::close(descriptor) }
}

/// Memory that is mapped from a file keeps the file's description open: a forked child must not inherit it.
#[expect(unsafe_code, reason = "called by SQLite in place of mmap")]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: passed on as it came; what was mapped is SQLite's.
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
    // A thread that is ending has no place for it; its child then finds the table locked or not, as chance has it.
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
        // SAFETY: the descriptors in the table are this process's copies of SQLite's. They stay taken, by another file:
        // what the child inherited of SQLite must not find a new file of the program behind them.
        unsafe {
            IS_CHILD.store(true, Ordering::Relaxed);
            let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            for locked in table.iter_mut().filter(|locked| !locked.inherited) {
                if nothing >= 0 {
                    libc::dup3(nothing, locked.descriptor, libc::O_CLOEXEC);
                }
                locked.inherited = true;
            }
            if nothing >= 0 {
                libc::close(nothing);
            }
        }
    });
}
