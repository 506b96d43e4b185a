//! The server on a port or on a Unix socket, for `cloaca ui` and for programs that have no web server.

use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use cloacina::{Error, ErrorCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::router::router;
use crate::web::{Authentication, Web};

#[cfg(unix)]
mod unix_socket;

/// Maximum number of connections that are open at once.
const MAX_CONNECTIONS: usize = 64;
/// Maximum time that a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of the head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// A server that listens on a port or on a Unix socket, and runs on its own threads. Dropping this value stops the server.
///
/// Since 1.0.
#[derive(Debug)]
pub struct Listening {
    /// The unspecified address and port 0 if the server listens on a Unix socket.
    address: SocketAddr,
    runtime: Option<Runtime>,
    /// The file of the Unix socket, which is removed when the server stops.
    #[cfg(unix)]
    _socket: Option<unix_socket::SocketFile>,
}

impl Listening {
    /// Starts a server on an address. Port 0 means any free port.
    ///
    /// # Errors
    /// `Configuration` if the address is not a loopback address and callers need no credentials; `Connection` if the address
    /// is taken or cannot be used.
    ///
    /// Since 1.0.
    pub fn start(web: Web, address: SocketAddr) -> Result<Self, Error> {
        if !address.ip().is_loopback() && matches!(web.authentication, Authentication::Open) {
            let message = format!(
                "cannot listen on {address} without authentication: other machines can reach this address"
            );
            return Err(Error::new(ErrorCode::Configuration, message)
                .with_hint("require a token, or listen on 127.0.0.1 only"));
        }
        let failed = |what: &str, error: &io::Error| {
            Error::new(
                ErrorCode::Connection,
                format!("cannot {what} {address}: {error}"),
            )
        };
        let listener = TcpListener::bind(address).map_err(|error| failed("listen on", &error))?;
        let prepared = listener
            .set_nonblocking(true)
            .and_then(|()| listener.local_addr());
        let address = prepared.map_err(|error| failed("listen on", &error))?;
        let runtime = runtime_of(&web).map_err(|error| failed("serve on", &error))?;
        let router = router(web.on_port(address.port()));
        runtime.spawn(accept(Socket::Tcp(listener), router));
        Ok(Self {
            address,
            runtime: Some(runtime),
            #[cfg(unix)]
            _socket: None,
        })
    }

    /// Starts a server on a Unix socket, for a proxy. Only the user of this process can connect to the socket. A socket file
    /// that no process listens on is replaced.
    ///
    /// # Errors
    /// `Connection` if a process listens on the socket already, or if the socket cannot be created.
    ///
    /// Since 1.0.
    #[cfg(unix)]
    pub fn start_unix(web: Web, path: &Path) -> Result<Self, Error> {
        let failed = |error: &io::Error| {
            let message = format!("cannot listen on {}: {error}", path.display());
            Error::new(ErrorCode::Connection, message)
        };
        let (listener, socket) = unix_socket::bind(path).map_err(|error| failed(&error))?;
        let runtime = runtime_of(&web).map_err(|error| failed(&error))?;
        runtime.spawn(accept(Socket::Unix(listener), router(web)));
        Ok(Self {
            address: ([0, 0, 0, 0], 0).into(),
            runtime: Some(runtime),
            _socket: Some(socket),
        })
    }

    /// The address with the port. A server on a Unix socket has the address 0.0.0.0 and the port 0. Since 1.0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

fn runtime_of(web: &Web) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cloaca-web")
        .on_thread_start(web.on_thread_start())
        .enable_all()
        .build()
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A socket that accepts connections.
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

/// A socket that accepts connections, registered with the server's threads.
enum Listener {
    Tcp(tokio::net::TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

/// An accepted connection. All connections have one type, so that the compiler makes one copy of the HTTP protocol.
type Connection = Pin<Box<dyn Duplex>>;

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

impl Listener {
    fn of(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Self::Tcp),
            #[cfg(unix)]
            Socket::Unix(listener) => tokio::net::UnixListener::from_std(listener).map(Self::Unix),
        }
    }

    /// Accepts a connection. Returns it with the address of the client; a Unix socket has no addresses.
    async fn accept(&self) -> io::Result<(Connection, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Box::pin(stream), Some(peer)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => Ok((Box::pin(listener.accept().await?.0), None)),
        }
    }
}

async fn accept(socket: Socket, router: Router) {
    let listener = match Listener::of(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the web server cannot accept connections");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Above the maximum number of connections, a new connection waits until another connection is closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let service = match peer {
            Some(peer) => router.clone().layer(axum::Extension(ConnectInfo(peer))),
            None => router.clone(),
        };
        tokio::spawn(async move {
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}
