//! Tests of TLS and passwords.

use std::path::Path;
use std::process::Command;

use cloacina::store::StoreError;
use cloacina::store::postgres::PostgresStore;

use super::options;
use super::private_postgres::{Private, administer};

/// Starts a server that requires TLS and passwords. Returns the server and the folder with its certificates.
fn with_tls_and_passwords() -> (Private, std::path::PathBuf) {
    let server = Private::start();
    server.stop("fast");
    let folder = server.directory.clone();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=authority",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.crt -extfile names",
    );
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout other.key -out other.pem -subj /CN=other",
    );
    let data = folder.join("data");
    for name in ["server.key", "server.crt"] {
        std::fs::copy(folder.join(name), data.join(name)).unwrap();
        private(&data, name);
    }
    let rules = "local all all trust\nhostssl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let mut settings = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
    settings.push_str("\nssl = on\n");
    std::fs::write(data.join("postgresql.conf"), settings).unwrap();
    server.restart();
    (server, folder)
}

/// Makes a file readable only by the owner of the data folder, as PostgreSQL requires.
fn private(data: &Path, name: &str) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let owner = std::fs::metadata(data).unwrap();
    let path = data.join(name);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[test]
fn tls_modes_and_passwords_work_as_in_libpq() {
    let (server, folder) = with_tls_and_passwords();
    let port = server
        .url
        .rsplit_once(':')
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let socket = folder.display();
    let admin = format!("host={socket} port={port} user=postgres dbname=postgres");
    administer(
        &admin,
        "CREATE ROLE worker LOGIN PASSWORD 's3cret' SUPERUSER",
    );
    let open = |host: &str, login: &str, parameters: &str| {
        let url =
            format!("postgresql://{login}@{host}:{port}/postgres?connect_timeout=5&{parameters}");
        PostgresStore::open(&options(&url)).map(drop)
    };
    let (ca, other) = (folder.join("ca.pem"), folder.join("other.pem"));
    let (ca, other) = (ca.display(), other.display());
    let works = [
        ("localhost", "sslmode=prefer".to_owned()),
        ("localhost", "sslmode=allow".to_owned()),
        ("localhost", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={ca}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}")),
    ];
    for (host, parameters) in works {
        open(host, "worker:s3cret", &parameters)
            .unwrap_or_else(|error| panic!("{parameters}: {error}"));
    }
    let fails = [
        // The server requires TLS.
        ("localhost", "sslmode=disable".to_owned(), "sslmode"),
        // The certificate has another name, or another CA signed it.
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            "certificate",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={other}"),
            "certificate",
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            "certificate",
        ),
        (
            "localhost",
            format!("sslmode=require&sslrootcert={other}"),
            "certificate",
        ),
        // The CA file does not exist.
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/no/such/file".to_owned(),
            "/no/such/file",
        ),
    ];
    for (host, parameters, word) in fails {
        let error = open(host, "worker:s3cret", &parameters).expect_err(&parameters);
        let text = error.to_string();
        assert!(
            text.contains(word) && text.contains(host),
            "{parameters}: {text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
    }
    for mode in ["require", "prefer", "allow"] {
        let error = open("localhost", "worker:wr0ng", &format!("sslmode={mode}")).unwrap_err();
        let StoreError::Failed(text) = &error else {
            panic!("{error:?}")
        };
        assert!(
            text.contains("worker") && text.contains("password") && !text.contains("wr0ng"),
            "{text}"
        );
    }
    // A socket connection needs neither TLS nor a password.
    open(
        &socket.to_string().replace('/', "%2F"),
        "worker",
        "sslmode=prefer",
    )
    .unwrap();
}
