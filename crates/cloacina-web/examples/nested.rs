//! An application that serves the API of its database below a path, with its own login.
//!
//! Run it with `cargo run -p cloacina-web --example nested`, then:
//! `curl -H 'X-User: ann' http://127.0.0.1:8080/cloaca/api/v1/executions`.

#![expect(clippy::print_stdout, reason = "the program prints its address")]

use axum::Router;
use axum::routing::get;
use cloacina::{Context, DefaultRunner, TaskError, task, workflow};
use cloacina_web::{Access, Database, Permission, Web, router};

#[task]
async fn greet(context: &mut Context) -> Result<(), TaskError> {
    let name: String = context.get("name")?;
    context.set("greeting", format!("Hello {name}"))?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = "sqlite:///nested.db";
    let runner = DefaultRunner::new(url).await?;
    let hello = workflow! { name: "hello", tasks: [greet] };
    let input = Context::from_json(r#"{"name": "world"}"#)?;
    runner.execute(&hello, input).await?;

    // The application identifies the caller: this example by a header, a real application by its session.
    let web = Web::new(Database::open(url, None)?, |head| {
        let user = head.headers.get("x-user")?.to_str().ok()?;
        Some(match user {
            "ann" => Access::full(user),
            _ => Access::new(user, [Permission::View]),
        })
    });
    let app = Router::new()
        .route("/", get(|| async { "the application" }))
        .nest_service("/cloaca", router(web));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("http://{}/cloaca/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    runner.shutdown().await?;
    Ok(())
}
