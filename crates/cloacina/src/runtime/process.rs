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
    if (pid, pid_started) == current() || pid_started == 0 {
        return false;
    }
    match stat(pid) {
        Some(Stat::Ended) => true,
        Some(Stat::Started(at)) => at != pid_started,
        None => is_absent(pid),
    }
}

/// Whether the kernel says that there is no such process. A file of `/proc` that cannot be read does not say it: it may be
/// hidden (`hidepid`, systemd's `ProtectProc`), or this process may have no descriptor left.
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

/// When a process started, in the kernel's ticks since boot; `None` where it cannot be told.
fn started(pid: i64) -> Option<i64> {
    match stat(pid)? {
        Stat::Started(at) => Some(at),
        Stat::Ended => None,
    }
}

enum Stat {
    /// It is a zombie.
    Ended,
    /// When it started, in the kernel's ticks since boot.
    Started(i64),
}

fn stat(pid: i64) -> Option<Stat> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The command's name in parentheses may hold spaces: fields count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let threads: i64 = fields.nth(16)?.parse().ok()?;
    // A process whose first thread has ended while others run looks like a zombie too.
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
    fn e3_this_process_lives_and_a_reused_pid_is_not_it() {
        let (pid, pid_started) = current();
        assert!(pid_started > 0);
        assert!(!is_dead(pid, pid_started));
        assert!(is_dead(pid, pid_started + 1));
    }

    #[test]
    fn e3_a_process_is_dead_once_it_is_killed() {
        let mut child = sleeper();
        let (pid, pid_started) = identity(&child);
        assert!(!is_dead(pid, pid_started));
        child.kill().unwrap();
        // A zombie: nobody has waited for it.
        while !is_dead(pid, pid_started) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_dead(pid, pid_started));
    }

    #[test]
    fn a7_a_process_without_descriptors_does_not_take_a_living_one_for_dead() {
        let with_few = ["-c", "ulimit -n 40; exec \"$@\"", "sh"];
        assert_looks("sh", &with_few);
    }

    /// Needs the right to mount, as root has it in most containers; without it nothing is tested.
    #[test]
    fn a7_a_hidden_process_is_not_taken_for_dead() {
        let hidden = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
        let arguments = ["-m", "sh", "-c", hidden, "sh"];
        let may_hide = Command::new("unshare")
            .args(arguments)
            .arg("true")
            .stderr(Stdio::null())
            .status();
        if may_hide.is_ok_and(|status| status.success()) {
            assert_looks("unshare", &arguments);
        }
    }

    /// Runs `look` behind a command: it sees that the first of two processes lives and that the second does not.
    fn assert_looks(command: &str, arguments: &[&str]) {
        let (mut living, mut killed) = (sleeper(), sleeper());
        let pairs = [identity(&living), identity(&killed)];
        killed.kill().unwrap();
        killed.wait().unwrap();
        let looked = Command::new(command)
            .args(arguments)
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "runtime::process::tests::look",
                "--ignored",
                "--nocapture",
            ])
            .env("PROCESSES", format!("{pairs:?}"))
            .output()
            .unwrap();
        living.kill().unwrap();
        living.wait().unwrap();
        let said = String::from_utf8_lossy(&looked.stdout);
        assert!(said.contains("dead: [false, true]"), "{looked:?}");
    }

    #[test]
    #[ignore = "is run in a process of its own, by others"]
    fn look() {
        let said = std::env::var("PROCESSES").unwrap();
        let pairs: Vec<i64> = said
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        // Takes every descriptor where the limit is low, and none where it is not.
        let mut hoard = Vec::new();
        while hoard.len() < 1000
            && let Ok(file) = fs::File::open("/dev/null")
        {
            hoard.push(file);
        }
        if hoard.len() == 1000 {
            hoard.clear();
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
