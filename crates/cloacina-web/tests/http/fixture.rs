//! The fixture of these tests: a database with executions, and a router that serves it.

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use cloacina::{Context, DefaultRunner, TaskError, task, workflow};
use cloacina_web::{Access, Database, Permission, Web, router};
use http_body_util::BodyExt;
use serde_json::Value;
use tower_service::Service;

/// The token that the server of a fixture accepts.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[task(id = "extract")]
async fn extract(context: &mut Context) -> Result<(), TaskError> {
    context.set("rows", [1, 2, 3])?;
    context.set("nested", serde_json::json!({"api_key": "sk-live-12345"}))?;
    Ok(())
}

#[task(id = "load", dependencies = ["extract"], retry_attempts = 1)]
async fn load(context: &mut Context) -> Result<(), TaskError> {
    match context.get_optional::<String>("password")? {
        Some(password) => Err(TaskError::new(format!("cannot log in with {password}"))),
        None => Ok(()),
    }
}

/// A database with two ended executions of the workflow `etl`.
pub struct Fixture {
    /// The folder of the database. It is removed when the fixture is dropped.
    _folder: tempfile::TempDir,
    pub url: String,
    /// The id of a completed execution.
    pub completed: String,
    /// The id of a failed execution. The error quotes the password in the execution's input.
    pub failed: String,
    /// The id of a schedule.
    pub schedule: String,
}

impl Fixture {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = sqlite(folder.path());
        let runner = DefaultRunner::new(&url).await.expect("a runner");
        let etl = workflow! {
            name: "etl",
            description: "Load the daily file",
            tasks: [extract, load],
        };
        let input = Context::from_json(r#"{"day":"2026-01-01","big":12345678901234567890123}"#);
        let completed = runner
            .execute(&etl, input.expect("a context"))
            .await
            .expect("a result");
        let input = Context::from_json(r#"{"password":"hunter2-long"}"#);
        let failed = runner
            .execute(&etl, input.expect("a context"))
            .await
            .expect("a result");
        let schedule = runner
            .register_cron_workflow(&etl, "30 2 * * *", "Europe/Berlin")
            .await;
        let fixture = Self {
            completed: completed.execution_id().to_string(),
            failed: failed.execution_id().to_string(),
            schedule: schedule.expect("a schedule").to_string(),
            _folder: folder,
            url,
        };
        runner.shutdown().await.expect("the runner shuts down");
        fixture
    }

    pub fn database(&self) -> Database {
        Database::open(&self.url, None).expect("a database")
    }

    /// Returns a server that accepts `TOKEN`.
    pub fn server(&self) -> Server {
        Server::new(Web::with_token(self.database(), TOKEN))
    }

    /// Returns a server that grants only these permissions to every caller.
    pub fn server_for(&self, permissions: &'static [Permission]) -> Server {
        Server::new(Web::new(self.database(), move |_| {
            Some(Access::new("ann", permissions.iter().copied()))
        }))
    }

    /// Returns the executions and the schedules. A refused request must not change them.
    pub async fn state(&self) -> Value {
        let mut state = self.server().get("/api/v1/executions").await.json();
        state["schedules"] = self.server().get("/api/v1/schedules").await.json();
        state
    }
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:///{}", folder.join("web.db").display())
}

/// A router that receives requests without a socket.
#[derive(Clone)]
pub struct Server {
    router: Router,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// Returns the error code of a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    pub fn new(web: Web) -> Self {
        Self {
            router: router(web),
        }
    }

    /// Returns the router below a path prefix.
    pub fn nested(&self, prefix: &str) -> Self {
        Self {
            router: Router::new().nest(prefix, self.router.clone()),
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().call(request).await.expect("an answer");
        let (head, mut body) = response.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE);
        let bytes = if kind.is_some_and(|kind| kind == "text/event-stream") {
            // A stream does not end, so only its first event is read. An answer to HEAD has no event.
            let frame = body.frame().await.and_then(Result::ok);
            frame
                .and_then(|frame| frame.into_data().ok())
                .unwrap_or_default()
        } else {
            body.collect().await.expect("a body").to_bytes()
        };
        Answer {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).expect("UTF-8"),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, "")).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(request(Method::POST, path, body)).await
    }
}

/// Returns a request with every header that the gate requires.
#[expect(
    clippy::needless_pass_by_value,
    reason = "tests write the method in place"
)]
pub fn request(method: Method, path: &str, body: &str) -> Request<Body> {
    let mut request = Request::builder()
        .method(&method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:8765")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    if method != Method::GET && method != Method::HEAD {
        request = request
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-cloaca", "1");
    }
    request
        .body(Body::from(body.to_owned()))
        .expect("a request")
}

/// Returns the ids of the items in a list.
pub fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap_or_default().to_owned())
        .collect()
}
