//! The server on a port, for `cloaca ui` and for programs that have no web server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use cloacina::{Error, ErrorCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::router::router;
use crate::web::{Authentication, Web};

/// Maximum number of connections that are open at once.
const MAX_CONNECTIONS: usize = 64;
/// Maximum time that a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of the head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// A server that listens on a port and runs on its own threads. Dropping this value stops the server.
///
/// Since 1.0.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    runtime: Option<Runtime>,
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
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cloaca-web")
            .on_thread_start(web.on_thread_start())
            .enable_all()
            .build()
            .map_err(|error| failed("serve on", &error))?;
        runtime.spawn(accept(listener, router(web.on_port(address.port()))));
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }

    /// The address with the port. Since 1.0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
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
        let service = router.clone().layer(axum::Extension(ConnectInfo(peer)));
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
