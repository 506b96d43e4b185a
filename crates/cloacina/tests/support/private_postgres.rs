//! PostgreSQL servers for tests, each on a free port: one that all test programs share, and servers for single tests. A
//! server is stopped when the last program that uses it has ended.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The options of the server. Tests need no durability, so the server does not wait for the disk. Without autovacuum,
/// statistics and plans do not change during a test. A machine with many cores runs many tests at once, and each test
/// may open several connections.
const OPTIONS: &str =
    "-c fsync=off -c full_page_writes=off -c autovacuum=off -c max_connections=1000";
/// Maximum length of the path of the temporary folder, in bytes. The path of a socket in it must not exceed 107 bytes.
const MAX_TEMP_PATH: usize = 50;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/private_postgres.sh")
}

/// Returns whether this process runs as root. If it does, the servers run as the user `postgres`.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the folder that contains the folders of the servers: the folder for temporary files, or `/tmp` if a server
/// could not use the folder for temporary files.
pub fn temp_folder() -> PathBuf {
    let folder = std::env::temp_dir();
    let can_enter = |part: &Path| part.metadata().is_ok_and(|data| data.mode() & 0o001 != 0);
    let all_can_enter = |path: PathBuf| path.ancestors().all(can_enter);
    if folder.as_os_str().len() <= MAX_TEMP_PATH
        && (!is_root() || folder.canonicalize().is_ok_and(all_can_enter))
    {
        folder
    } else {
        PathBuf::from("/tmp")
    }
}

fn run(verb: &str, directory: &Path, mode: &str) -> String {
    let output = Command::new(script())
        .args([verb.as_ref(), directory.as_os_str(), mode.as_ref()])
        .env("POSTGRES_OPTIONS", OPTIONS)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "private_postgres.sh {verb} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Starts a process that stops the server when no program holds a lock on the `users` file.
#[expect(clippy::zombie_processes, reason = "the guard outlives this program")]
fn guard(directory: &Path) {
    Command::new("setsid")
        .arg(script())
        .arg("guard")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
}

struct Shared {
    url: String,
    _lock: File,
}

/// Returns the URL of the server that all test programs of this checkout share while they run.
pub fn shared() -> &'static str {
    static SERVER: OnceLock<Shared> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        // The name contains only a hash of the checkout's path, because the path of a socket must be short.
        let mut hasher = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
        let name = format!("cloacina-postgres-{:016x}", hasher.finish());
        let directory = temp_folder().join(name);
        let lock = File::create(directory.with_extension("users")).unwrap();
        lock.lock_shared().unwrap();
        let starting = File::create(directory.with_extension("start")).unwrap();
        starting.lock().unwrap();
        let url = run("start", &directory, "");
        // The server may be running without a guard. A second guard does no harm.
        guard(&directory);
        Shared { url, _lock: lock }
    });
    &server.url
}

/// Runs SQL as the superuser and returns the first column of every row.
pub fn administer(url: &str, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let rows = client.simple_query(sql).await.unwrap();
        rows.iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    })
}

/// Returns a name that no other test uses.
pub fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "t_{}_{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A server for one test. The test can stop and restart the server.
pub struct Private {
    pub directory: PathBuf,
    pub url: String,
    _lock: File,
}

impl Private {
    pub fn start() -> Self {
        let directory = temp_folder().join(format!("cloacina-private-{}", fresh_name()));
        let lock = File::create(directory.with_extension("users")).unwrap();
        lock.lock_shared().unwrap();
        let url = run("start", &directory, "");
        guard(&directory);
        Self {
            directory,
            url,
            _lock: lock,
        }
    }

    /// Stops the server. `mode` is a shutdown mode of `pg_ctl`, such as `fast` or `immediate`.
    pub fn stop(&self, mode: &str) {
        run("stop", &self.directory, mode);
    }

    pub fn restart(&self) {
        run("start", &self.directory, "");
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.stop("immediate");
        // The guard process removes the folder.
        let _ = std::fs::remove_file(self.directory.with_extension("users"));
    }
}
