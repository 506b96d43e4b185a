//! Tests of the store with a transaction pooler (pgbouncer) between the store and the server.

use std::collections::HashSet;
use std::fs::{File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use cloacina::store::Store;
use cloacina::store::postgres::PostgresStore;
use cloacina::types::ExecutionId;

use super::private_postgres::{is_root, shared, temp_folder};
use super::records::{NOW, SECOND, ready, workflow};
use super::{PATIENCE, all, claim, pinned, register, submit};

/// A running pgbouncer that serves more clients than it has connections to the server.
struct Pooler {
    child: std::process::Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Errors are ignored, because the test has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets the permissions of a folder or file. All users must be able to read it, because pgbouncer can run as another
/// user.
fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Starts pgbouncer. Returns `None` if it is not installed (Debian: `apt-get install pgbouncer`).
fn pooler(server: &str) -> Option<Pooler> {
    let program = "/usr/sbin/pgbouncer";
    if !Path::new(program).exists() {
        return None;
    }
    let folder = tempfile::tempdir_in(temp_folder()).unwrap();
    set_mode(folder.path(), 0o755);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server_port = server
        .rsplit_once(':')
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
    set_mode(&users, 0o644);
    let settings = format!(
        "[databases]\npostgres = host=127.0.0.1 port={server_port} dbname=postgres user=postgres\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
         pool_mode = transaction\ndefault_pool_size = 3\nserver_round_robin = 1\n",
        users.display()
    );
    let path = folder.path().join("pgbouncer.ini");
    std::fs::write(&path, settings).unwrap();
    set_mode(&path, 0o644);
    // Like the server, pgbouncer refuses to run as root.
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--reuid", "postgres"]);
        command.args(["--clear-groups", program]);
        command
    } else {
        Command::new(program)
    };
    let log = folder.path().join("log");
    command.arg(&path).stderr(File::create(&log).unwrap());
    let url =
        format!("postgresql://postgres@127.0.0.1:{port}/postgres?pgbouncer=true&sslmode=disable");
    let mut pooler = Pooler {
        child: command.spawn().unwrap(),
        url,
        _folder: folder,
    };
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = pooler.child.try_wait().unwrap();
        assert!(
            ended.is_none() && start.elapsed() < PATIENCE,
            "pgbouncer did not start: {ended:?}\n{}",
            std::fs::read_to_string(&log).unwrap()
        );
        std::thread::yield_now();
    }
    Some(pooler)
}

#[test]
fn the_store_works_behind_a_transaction_pooler() {
    const THREADS: usize = 6;
    const EACH: usize = 40;
    let Some(pooler) = pooler(shared()) else {
        println!("skipped: pgbouncer is not installed");
        return;
    };
    let options = pinned(&pooler.url);
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (options, barrier) = (options.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                let store = PostgresStore::open(&options).unwrap();
                let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
                let runner = register(&store, NOW);
                let mut claimed = Vec::new();
                for _ in 0..EACH {
                    let record = ready(definition, NOW);
                    submit(&store, runner, std::slice::from_ref(&record)).unwrap();
                    assert_eq!(store.load(&[record.id]).unwrap().len(), 1);
                    claimed.extend(claim(&store, runner, definition, 2));
                    assert!(store.heartbeat(runner, NOW, NOW + 15 * SECOND).unwrap());
                    store.changes(None).unwrap();
                }
                claimed
            })
        })
        .collect();
    let claimed: Vec<ExecutionId> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), claimed.len());
    let store = PostgresStore::open(&options).unwrap();
    assert_eq!(all(&store).len(), THREADS * EACH);
}
