//! PostgreSQL servers for tests, each on a free port: one that all test programs share, and servers for single tests. A server
//! is stopped when the last program that uses it has ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The options of the server. Tests need no durability, so the server does not wait for the disk.
const OPTIONS: &str = "-c fsync=off -c full_page_writes=off -c max_connections=300";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/private_postgres.sh")
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
        let name = env!("CARGO_MANIFEST_DIR")
            .replace(|character: char| !character.is_ascii_alphanumeric(), "-");
        let directory = std::env::temp_dir().join(format!("cloacina-postgres{name}"));
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
        let directory = std::env::temp_dir().join(format!("cloacina-private-{}", fresh_name()));
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
