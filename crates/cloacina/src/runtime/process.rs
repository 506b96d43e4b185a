//! Which process a runner lives in, and whether another one is still alive (semantics E3).

use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};

/// Names this machine and this boot of it: only within both does a process id mean something.
pub fn host() -> String {
    let name = read("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned());
    match read("/proc/sys/kernel/random/boot_id") {
        // Containers share a boot id but not process ids: their namespace tells them apart.
        Some(boot) => {
            let namespace =
                fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string());
            format!("{name}/{boot}/{}", namespace.unwrap_or_default())
        }
        None => name,
    }
}

/// The machine's name in what [`host`] says.
pub fn name_of(host: &str) -> &str {
    host.split('/').next().unwrap_or(host)
}

/// What was read of this process, so that it is read once. No lock: a child may be forked while one is held, and its id differs.
static PID: AtomicI64 = AtomicI64::new(0);
static STARTED: AtomicI64 = AtomicI64::new(0);

/// This process's id and start time.
pub fn current() -> (i64, i64) {
    let pid = i64::from(std::process::id());
    if PID.load(Ordering::Acquire) != pid {
        STARTED.store(started(pid).unwrap_or(0), Ordering::Release);
        PID.store(pid, Ordering::Release);
    }
    (pid, STARTED.load(Ordering::Acquire))
}

/// Whether a process of this host is certainly gone. Unsure means no.
pub fn is_dead(pid: i64, pid_started: i64) -> bool {
    if (pid, pid_started) == current()
        || pid_started == 0
        || !fs::exists("/proc/self/stat").unwrap_or(false)
    {
        return false;
    }
    started(pid) != Some(pid_started)
}

/// When a process started, in the kernel's ticks since boot; `None` if there is none or it is only a zombie.
fn started(pid: i64) -> Option<i64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The command's name in parentheses may hold spaces: fields count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e3_this_process_lives_and_a_reused_pid_is_not_it() {
        let (pid, pid_started) = current();
        assert!(pid_started > 0);
        assert!(!is_dead(pid, pid_started));
        assert!(is_dead(pid, pid_started + 1));
    }
}
