//! Tests of resources: objects that a runner creates once for its tasks and drops when it shuts down (semantics J10).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloacina::{Context, ExecutionStatus, TaskError, TaskHandle, task, workflow};

use super::support::{databases, start};

/// The number of resources that were created, and the number that were dropped.
struct Counts {
    made: AtomicU32,
    dropped: AtomicU32,
}

impl Counts {
    const fn new() -> Self {
        Self {
            made: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
        }
    }

    fn both(&self) -> (u32, u32) {
        let load = |count: &AtomicU32| count.load(Ordering::SeqCst);
        (load(&self.made), load(&self.dropped))
    }
}

/// A connection: its number, and the counters that it updates.
struct Connection(u32, &'static Counts);

impl Connection {
    fn open(counts: &'static Counts) -> Self {
        Self(counts.made.fetch_add(1, Ordering::SeqCst) + 1, counts)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Like many connection pools, this connection starts background work when it is dropped. To start the work, it
        // needs a Tokio runtime.
        drop(tokio::runtime::Handle::current().spawn(async {}));
        self.1.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

mod shared {
    use super::*;

    pub static COUNTS: Counts = Counts::new();
    pub static OTHER: Counts = Counts::new();

    pub async fn connect() -> Result<Connection, TaskError> {
        tokio::task::yield_now().await;
        Ok(Connection::open(&COUNTS))
    }

    /// Creates a connection. This function is not async, so it may block.
    fn connect_other() -> Result<Connection, io::Error> {
        std::fs::metadata(".")?;
        Ok(Connection::open(&OTHER))
    }

    #[task(over = "numbers")]
    pub async fn use_it(
        number: u32,
        #[resource(connect)] connection: Arc<Connection>,
    ) -> Result<(u32, u32), TaskError> {
        Ok((number, connection.0))
    }

    #[task]
    pub async fn write(
        context: &mut Context,
        #[resource(connect_other)] other: Arc<Connection>,
        #[resource(connect)] connection: Arc<Connection>,
        _handle: &TaskHandle,
    ) -> Result<(), TaskError> {
        context.set("same", connection.0)?;
        context.set("other", other.0)?;
        Ok(())
    }

    /// A task whose resource parameter has the name of the task `write`. The parameter receives the resource, not the result of
    /// `write`.
    #[task]
    pub async fn nothing(
        #[resource(|| async { Ok::<_, TaskError>(7_u32) })] write: Arc<u32>,
    ) -> Result<(), TaskError> {
        assert_eq!(*write, 7);
        Ok(())
    }
}

#[tokio::test]
async fn j10_runner_creates_a_resource_once_and_drops_it_at_shutdown() {
    for database in databases() {
        let workflow = workflow! {
            name: "shared_resources",
            tasks: [shared::nothing, shared::use_it, shared::write],
        };
        assert!(workflow.dependencies("nothing").unwrap().is_empty());
        let runner = start(&database).await;
        let before = shared::COUNTS.both();
        let numbers = || Context::from_json(r#"{"numbers":[1,2,3,4,5,6,7,8]}"#).unwrap();
        for _ in 0..2 {
            let result = runner.execute(&workflow, numbers()).await.unwrap();
            let result = result.into_completed().unwrap();
            let context = result.final_context();
            assert_eq!(context.get::<u32>("same").unwrap(), before.0 + 1);
            assert!(
                !context.contains_key("nothing"),
                "the task `nothing` has no result"
            );
            let used: Vec<(u32, u32)> = result.of("use_it").unwrap();
            let expected: Vec<_> = (1..9).map(|number| (number, before.0 + 1)).collect();
            assert_eq!(used, expected);
        }
        assert_eq!(shared::COUNTS.both(), (before.0 + 1, before.1));

        let other = start(&database).await;
        runner.shutdown().await.unwrap();
        assert_eq!(shared::COUNTS.both(), (before.0 + 1, before.1 + 1));
        let (made, dropped) = shared::OTHER.both();
        assert_eq!(made, dropped);
        let result = other.execute(&workflow, numbers()).await.unwrap();
        let same: u32 = result.final_context().get("same").unwrap();
        assert_eq!(same, before.0 + 2, "each runner creates its own resource");
        other.shutdown().await.unwrap();
        assert_eq!(shared::COUNTS.both(), (before.0 + 2, before.1 + 2));
    }
}

mod flaky {
    use super::*;

    pub static TRIES: AtomicU32 = AtomicU32::new(0);

    /// Fails on the first call.
    async fn connect() -> Result<String, io::Error> {
        if TRIES.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "no server",
            ));
        }
        Ok("connected".to_owned())
    }

    #[task(retry_attempts = 2, retry_delay_ms = 1, retry_condition = "transient")]
    pub async fn call(#[resource(connect)] server: Arc<String>) -> Result<String, TaskError> {
        Ok((*server).clone())
    }

    fn refuse() -> Result<u8, TaskError> {
        Err(TaskError::of_type("BadPassword", "wrong password"))
    }

    fn explode() -> Result<u8, TaskError> {
        panic!("no configuration")
    }

    #[task(retry_attempts = 5, retry_delay_ms = 1, never_on = ["BadPassword"])]
    pub async fn refused(#[resource(refuse)] server: Arc<u8>) -> Result<u8, TaskError> {
        Ok(*server)
    }

    #[task(retry_attempts = 2, retry_delay_ms = 1)]
    pub async fn exploded(#[resource(explode)] server: Arc<u8>) -> Result<u8, TaskError> {
        Ok(*server)
    }
}

#[tokio::test]
async fn j10_attempt_fails_if_its_resource_cannot_be_created() {
    for database in databases() {
        flaky::TRIES.store(0, Ordering::SeqCst);
        let workflow = workflow! {
            name: "flaky_resources",
            tasks: [flaky::call, flaky::refused, flaky::exploded],
        };
        let runner = start(&database).await;
        let result = runner.execute(&workflow, Context::new()).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Failed);
        let call = result.task("call").unwrap();
        assert_eq!(call.attempts, 2);
        assert_eq!(result.of::<String>("call").unwrap(), "connected");
        let refused = result.task("refused").unwrap();
        assert_eq!(refused.attempts, 1, "the task's retry policy applies");
        let error = refused.error.unwrap();
        assert_eq!(
            (&*error.kind, &*error.message),
            ("BadPassword", "wrong password")
        );
        let exploded = result.task("exploded").unwrap();
        assert_eq!(exploded.attempts, 2);
        let error = exploded.error.unwrap();
        assert_eq!(
            (&*error.kind, &*error.message),
            ("panic", "no configuration")
        );
        runner.shutdown().await.unwrap();
    }
}

mod waiting {
    use super::*;

    pub static TRIES: AtomicU32 = AtomicU32::new(0);
    static ASKED: AtomicU32 = AtomicU32::new(0);

    /// Waits until all four items have decoded their `number`, and then fails. An item requests the resource right
    /// after it has decoded its `number`.
    async fn connect() -> Result<u8, TaskError> {
        TRIES.fetch_add(1, Ordering::SeqCst);
        while !ASKED.load(Ordering::SeqCst).is_multiple_of(4) {
            tokio::task::yield_now().await;
        }
        Err(TaskError::new("no server"))
    }

    /// A number whose decoding increments `ASKED`.
    pub struct Asked(u8);

    impl<'de> serde::Deserialize<'de> for Asked {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let number = u8::deserialize(from)?;
            ASKED.fetch_add(1, Ordering::SeqCst);
            Ok(Self(number))
        }
    }

    #[task(over = "numbers", retry_attempts = 1)]
    pub async fn call(
        number: Asked,
        #[resource(connect)] server: Arc<u8>,
    ) -> Result<u8, TaskError> {
        Ok(number.0 + *server)
    }
}

#[tokio::test]
async fn j10_items_fail_if_their_resource_cannot_be_created() {
    for database in databases() {
        waiting::TRIES.store(0, Ordering::SeqCst);
        let workflow = workflow! { name: "waiting_resource", tasks: [waiting::call] };
        let runner = start(&database).await;
        let numbers = Context::from_json(r#"{"numbers":[1,2,3,4]}"#).unwrap();
        let result = runner.execute(&workflow, numbers).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Failed);
        let tries = waiting::TRIES.load(Ordering::SeqCst);
        assert!(
            (1..4).contains(&tries),
            "{tries} calls of `connect` for 4 items"
        );
        runner.shutdown().await.unwrap();
    }
}

mod slow {
    use super::*;

    pub static OPENS: AtomicU32 = AtomicU32::new(0);

    /// Blocks for longer than the timeout of an attempt.
    #[expect(
        clippy::disallowed_methods,
        clippy::unnecessary_wraps,
        reason = "the function blocks on purpose, and has the signature of a function that can fail"
    )]
    fn connect() -> Result<u32, TaskError> {
        let number = OPENS.fetch_add(1, Ordering::SeqCst) + 1;
        std::thread::sleep(Duration::from_millis(300));
        Ok(number)
    }

    #[task(
        retry_attempts = 40,
        retry_backoff = "fixed",
        retry_delay_ms = 1,
        timeout_ms = 30
    )]
    pub async fn call(#[resource(connect)] server: Arc<u32>) -> Result<u32, TaskError> {
        Ok(*server)
    }
}

#[tokio::test]
async fn j10_blocking_resource_is_created_once_despite_timeouts() {
    for database in databases() {
        slow::OPENS.store(0, Ordering::SeqCst);
        let workflow = workflow! { name: "slow_resource", tasks: [slow::call] };
        let runner = start(&database).await;
        let result = runner.execute(&workflow, Context::new()).await.unwrap();
        assert_eq!(result.of::<u32>("call").unwrap(), 1);
        assert!(result.task("call").unwrap().attempts > 1);
        assert_eq!(slow::OPENS.load(Ordering::SeqCst), 1);
        runner.shutdown().await.unwrap();
    }
}

mod before {
    use super::*;

    #[task]
    pub async fn store(number: u8) -> Result<u8, TaskError> {
        Ok(number)
    }
}

mod after {
    use super::*;

    #[task]
    pub async fn store(
        number: u8,
        #[resource(shared::connect)] _connection: Arc<Connection>,
    ) -> Result<u8, TaskError> {
        Ok(number)
    }
}

#[test]
fn j11_resource_does_not_change_the_version() {
    let before = workflow! { name: "resource_version", tasks: [before::store] };
    let after = workflow! { name: "resource_version", tasks: [after::store] };
    assert_eq!(before.version(), after.version());
}
