//! The identity of this process, and whether another process is still running (semantics E3).

use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};

/// The identity of this machine, of its boot and of its process id namespace. Process ids are comparable only if all three are
/// equal.
pub fn host() -> String {
    let name = read("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned());
    match read("/proc/sys/kernel/random/boot_id") {
        // Containers on one machine have the same boot id but different process ids, so the namespace is part of the identity.
        Some(boot) => {
            let namespace =
                fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string());
            format!("{name}/{boot}/{}", namespace.unwrap_or_default())
        }
        None => name,
    }
}

/// The name of the machine, from a result of [`host`].
pub fn name_of(host: &str) -> &str {
    host.split('/').next().unwrap_or(host)
}

/// The cached id of this process. It has no lock, because a process may be forked while another thread holds a lock.
static PID: AtomicI64 = AtomicI64::new(0);
/// The cached start time of the process with the id `PID`.
static STARTED: AtomicI64 = AtomicI64::new(0);

/// The id and start time of this process. The start time is 0 if it is unknown.
pub fn current() -> (i64, i64) {
    let pid = i64::from(std::process::id());
    if PID.load(Ordering::Acquire) != pid {
        STARTED.store(started(pid).unwrap_or(0), Ordering::Release);
        PID.store(pid, Ordering::Release);
    }
    (pid, STARTED.load(Ordering::Acquire))
}

/// Whether a process of this host has certainly ended. `false` if this cannot be determined.
pub fn is_dead(pid: i64, pid_started: i64) -> bool {
    if (pid, pid_started) == current() || pid_started == 0 {
        return false;
    }
    match stat(pid) {
        Some(Stat::Ended) => true,
        Some(Stat::Started(at)) => at != pid_started,
        None => is_absent(pid),
    }
}

/// Whether the kernel reports that no such process exists. A file in `/proc` that cannot be read proves nothing, because the
/// process may be hidden (`hidepid`, systemd's `ProtectProc`), or this process may have no free file descriptor.
#[cfg(unix)]
fn is_absent(pid: i64) -> bool {
    use rustix::process::{Pid, test_kill_process};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
const fn is_absent(_: i64) -> bool {
    false
}

/// The start time of a process, in the kernel's ticks since boot. `None` if it is unknown.
fn started(pid: i64) -> Option<i64> {
    match stat(pid)? {
        Stat::Started(at) => Some(at),
        Stat::Ended => None,
    }
}

enum Stat {
    /// The process is a zombie.
    Ended,
    /// The start time of a live process, in the kernel's ticks since boot.
    Started(i64),
}

fn stat(pid: i64) -> Option<Stat> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The command's name in parentheses can contain spaces, so fields are counted from the closing parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let threads: i64 = fields.nth(16)?.parse().ok()?;
    // A process also has the state of a zombie if its first thread has ended while other threads are still running.
    if matches!(state, "Z" | "X") && threads <= 1 {
        return Some(Stat::Ended);
    }
    fields.nth(1)?.parse().ok().map(Stat::Started)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[test]
    fn e3_process_whose_pid_was_reused_is_dead() {
        let (pid, pid_started) = current();
        assert!(pid_started > 0);
        assert!(!is_dead(pid, pid_started));
        assert!(is_dead(pid, pid_started + 1));
    }

    #[test]
    fn e3_killed_process_is_dead_before_and_after_it_is_reaped() {
        let mut child = sleeper();
        let (pid, pid_started) = identity(&child);
        assert!(!is_dead(pid, pid_started));
        child.kill().unwrap();
        // A killed process is a zombie until its parent waits for it.
        while !is_dead(pid, pid_started) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_dead(pid, pid_started));
    }

    #[test]
    fn a7_process_without_free_descriptors_sees_a_live_process() {
        let with_few = ["-c", "ulimit -n 40; exec \"$@\"", "sh"];
        assert_sees_living_and_dead("sh", &with_few);
    }

    /// This test needs the permission to mount file systems, which root has in most containers. Without this
    /// permission, nothing is tested.
    #[test]
    fn a7_hidden_process_is_not_dead() {
        let hidden = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
        let arguments = ["-m", "sh", "-c", hidden, "sh"];
        let may_hide = Command::new("unshare")
            .args(arguments)
            .arg("true")
            .stderr(Stdio::null())
            .status();
        if may_hide.is_ok_and(|status| status.success()) {
            assert_sees_living_and_dead("unshare", &arguments);
        }
    }

    /// Runs `report_dead` under the given command, with the ids of a live process and of a killed process, and checks its
    /// report.
    fn assert_sees_living_and_dead(command: &str, arguments: &[&str]) {
        let (mut living, mut killed) = (sleeper(), sleeper());
        let pairs = [identity(&living), identity(&killed)];
        killed.kill().unwrap();
        killed.wait().unwrap();
        let report = Command::new(command)
            .args(arguments)
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "runtime::process::tests::report_dead",
                "--ignored",
                "--nocapture",
            ])
            .env("PROCESSES", format!("{pairs:?}"))
            .output()
            .unwrap();
        living.kill().unwrap();
        living.wait().unwrap();
        let printed = String::from_utf8_lossy(&report.stdout);
        assert!(printed.contains("dead: [false, true]"), "{report:?}");
    }

    #[test]
    #[ignore = "other tests run it in a separate process"]
    fn report_dead() {
        let processes = std::env::var("PROCESSES").unwrap();
        let pairs: Vec<i64> = processes
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        // Uses up all file descriptors if their limit is low.
        let mut files = Vec::new();
        while files.len() < 1000
            && let Ok(file) = fs::File::open("/dev/null")
        {
            files.push(file);
        }
        if files.len() == 1000 {
            files.clear();
        }
        let dead: Vec<bool> = pairs
            .chunks(2)
            .map(|pair| is_dead(pair[0], pair[1]))
            .collect();
        println!("dead: {dead:?}");
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    fn identity(child: &Child) -> (i64, i64) {
        let pid = i64::from(child.id());
        (pid, started(pid).unwrap())
    }
}
