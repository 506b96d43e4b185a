//! Runs Diesel's statements on a `tokio_postgres` client.
//!
//! Diesel encodes the values and decodes the rows. The client is used directly because it exposes the SQLSTATE of an
//! error, and because it guarantees the order of pipelined requests (see
//! `docs/explanation/decisions/010-postgres-driver.md`).

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use diesel::connection::{
    Instrumentation, InstrumentationEvent, StrQueryHelper, get_default_instrumentation,
};
use diesel::deserialize::FromSqlRow;
use diesel::pg::{Pg, PgMetadataLookup, PgTypeMetadata};
use diesel::query_builder::BindCollector;
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;
use futures_util::TryStreamExt;
use rustc_hash::FxHashMap;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, Type};
use tokio_postgres::{Client, RowStream, Statement as Prepared};

use super::answer_row::AnswerRow;
use super::error::Fault;
use crate::types::sync::Mutex;

/// Maximum size in bytes of the parameters of one message. The server closes a session that sends 1 GiB or more.
const MESSAGE_LIMIT: usize = 1_000_000_000;

/// Assumed transfer rate of a slow connection, in bytes per second. For each second that parameters take to send at this
/// rate, the timeout is extended by a second.
const SLOW_TRANSFER_RATE: usize = 4 << 20;

/// A statement with its parameters.
pub(super) trait Statement: Sized {
    /// The SQL types of the columns of the answer.
    type Row;

    /// Returns the SQL text and the parameters `$1`, `$2`, …
    fn encode(&self) -> Result<(Cow<'static, str>, Parameters), Fault>;

    /// Runs the statement and returns the rows of its answer.
    async fn load<T: FromSqlRow<Self::Row, Pg>>(
        self,
        connection: &Connection,
    ) -> Result<Vec<T>, Fault> {
        connection.prepare(&self).await?.load().await
    }

    /// Runs the statement and returns the number of rows that it changed.
    async fn execute(self, connection: &Connection) -> Result<u64, Fault> {
        connection.prepare(&self).await?.execute().await
    }
}

/// Encoded parameters of a statement.
#[derive(Default)]
pub(super) struct Parameters {
    types: Vec<Type>,
    values: Vec<Parameter>,
}

impl Parameters {
    /// Appends a value as the given SQL type.
    pub(super) fn push<S, T: ToSql<S, Pg> + ?Sized>(&mut self, value: &T) -> Result<(), Fault>
    where
        Pg: HasSqlType<S>,
    {
        let unencodable = |error: &dyn std::fmt::Display| {
            Fault::Corrupt(format!("a value cannot be encoded: {error}"))
        };
        let mut encoded = RawBytesBindCollector::<Pg>::default();
        encoded
            .push_bound_value::<S, T>(value, &mut NoLookup)
            .map_err(|error| unencodable(&error))?;
        for metadata in encoded.metadata {
            let oid = metadata.oid().map_err(|error| unencodable(&error))?;
            let known = Type::from_oid(oid).ok_or_else(|| unencodable(&"unknown type"))?;
            self.types.push(known);
        }
        self.values.extend(encoded.binds.into_iter().map(Parameter));
        Ok(())
    }

    /// Returns the parameters with one more value, encoded as the given SQL type.
    pub(super) fn with<S, T: ToSql<S, Pg> + ?Sized>(mut self, value: &T) -> Result<Self, Fault>
    where
        Pg: HasSqlType<S>,
    {
        self.push::<S, T>(value)?;
        Ok(self)
    }

    /// Returns the number of the last parameter, which is also the number of parameters.
    pub(super) const fn last(&self) -> usize {
        self.values.len()
    }

    fn bytes(&self) -> usize {
        let sizes = self
            .values
            .iter()
            .map(|value| value.0.as_ref().map_or(0, Vec::len));
        sizes.sum()
    }
}

/// The type lookup that Diesel requires. It is never called, because all types in use are built in and have fixed
/// object ids.
struct NoLookup;

impl PgMetadataLookup for NoLookup {
    fn lookup_type(&mut self, _name: &str, _schema: Option<&str>) -> PgTypeMetadata {
        PgTypeMetadata::new(0, 0)
    }
}

#[derive(Debug)]
struct Parameter(Option<Vec<u8>>);

impl tokio_postgres::types::ToSql for Parameter {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.to_sql(kind, out)
    }
}

/// An open connection that runs statements.
pub(super) struct Connection {
    client: Client,
    /// Statements that the session has prepared, by text. `None` behind a pooler, where the next transaction can run in
    /// another session.
    prepared: Option<Mutex<FxHashMap<Cow<'static, str>, Prepared>>>,
    instrumentation: Option<Mutex<Box<dyn Instrumentation>>>,
    silence: Mutex<Silence>,
}

/// The time of the server's last answer, and the number of bytes sent since then. These bytes extend the timeout.
struct Silence {
    since: Instant,
    sent: usize,
}

impl Connection {
    pub(super) fn new(client: Client, keeps_statements: bool) -> Self {
        Self {
            client,
            prepared: keeps_statements.then(Mutex::default),
            instrumentation: get_default_instrumentation().map(Mutex::new),
            silence: Mutex::new(Silence {
                since: Instant::now(),
                sent: 0,
            }),
        }
    }

    /// Restarts the timeout, because the server has answered or the first statement is about to be sent.
    pub(super) fn note_answer(&self) {
        *self.silence.lock() = Silence {
            since: Instant::now(),
            sent: 0,
        };
    }

    /// Completes when the server has not answered for `answer_timeout`. Large parameters extend this time.
    pub(super) async fn silence(&self, answer_timeout: Duration) {
        loop {
            let until = {
                let silence = self.silence.lock();
                let allowance =
                    u64::try_from(silence.sent / SLOW_TRANSFER_RATE).unwrap_or_default();
                silence.since + answer_timeout + Duration::from_secs(allowance)
            };
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Runs statements without parameters.
    pub(super) async fn batch_execute(&self, text: &str) -> Result<(), Fault> {
        self.instrument_query(text);
        Ok(self.client.batch_execute(text).await?)
    }

    /// Encodes a statement, and lets the server prepare it on first use. Refuses a statement that is too large to send.
    pub(super) async fn prepare<S: Statement>(
        &self,
        statement: &S,
    ) -> Result<Request<'_, S::Row>, Fault> {
        let (text, parameters) = statement.encode()?;
        Ok(Request {
            row: PhantomData,
            encoded: self.prepare_encoded(text, parameters).await?,
        })
    }

    /// Lets the server prepare an encoded statement on first use. This function has no type parameters, so it is
    /// compiled once.
    async fn prepare_encoded(
        &self,
        text: Cow<'static, str>,
        parameters: Parameters,
    ) -> Result<EncodedRequest<'_>, Fault> {
        let bytes = parameters.bytes();
        if bytes > MESSAGE_LIMIT {
            return Err(Fault::TooLarge(bytes));
        }
        let prepared = match &self.prepared {
            None => None,
            Some(known) => {
                let found = known.lock().get(&text).cloned();
                Some(if let Some(prepared) = found {
                    prepared
                } else {
                    self.instrument_prepare(&text);
                    let made = self.client.prepare_typed(&text, &parameters.types).await?;
                    known.lock().insert(text.clone(), made.clone());
                    made
                })
            }
        };
        Ok(EncodedRequest {
            connection: self,
            text,
            prepared,
            parameters,
            bytes,
        })
    }

    fn instrument_query(&self, text: &str) {
        if let Some(instrumentation) = &self.instrumentation {
            let query = StrQueryHelper::new(text);
            let event = InstrumentationEvent::start_query(&query);
            instrumentation.lock().on_connection_event(event);
        }
    }

    fn instrument_prepare(&self, text: &str) {
        if let Some(instrumentation) = &self.instrumentation {
            let event = InstrumentationEvent::cache_query(text);
            instrumentation.lock().on_connection_event(event);
        }
    }
}

/// A statement that is ready to be sent. `R` is the SQL type of the rows of the answer.
pub(super) struct Request<'a, R> {
    row: PhantomData<R>,
    encoded: EncodedRequest<'a>,
}

/// A statement with encoded parameters that is ready to be sent.
struct EncodedRequest<'a> {
    connection: &'a Connection,
    text: Cow<'static, str>,
    prepared: Option<Prepared>,
    parameters: Parameters,
    bytes: usize,
}

impl<R> Request<'_, R> {
    /// Sends the statement when the future is first polled, and returns the rows of the answer.
    pub(super) async fn load<T: FromSqlRow<R, Pg>>(self) -> Result<Vec<T>, Fault> {
        let mut decoded = Vec::new();
        let mut decode = |row: &AnswerRow| {
            let value =
                T::build_from_row(row).map_err(|error| Fault::Unreadable(error.to_string()))?;
            decoded.push(value);
            Ok(())
        };
        self.encoded.for_each_row(&mut decode).await?;
        Ok(decoded)
    }

    /// Sends the statement when the future is first polled, and returns the number of changed rows.
    pub(super) async fn execute(self) -> Result<u64, Fault> {
        self.encoded.for_each_row(&mut |_| Ok(())).await
    }
}

impl EncodedRequest<'_> {
    /// Sends the statement when the future is first polled, and calls `take` with each row of the answer. Returns the
    /// number of changed rows.
    async fn for_each_row(
        self,
        take: &mut dyn FnMut(&AnswerRow) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        let connection = self.connection;
        let mut rows = pin!(self.send().await?);
        while let Some(row) = rows.try_next().await? {
            connection.note_answer();
            take(&AnswerRow(row))?;
        }
        Ok(rows.rows_affected().unwrap_or_default())
    }

    async fn send(self) -> Result<RowStream, Fault> {
        let Parameters { types, values } = self.parameters;
        let client = &self.connection.client;
        self.connection.instrument_query(&self.text);
        self.connection.silence.lock().sent += self.bytes;
        Ok(if let Some(prepared) = &self.prepared {
            client.query_raw(prepared, values).await?
        } else {
            let values = values.into_iter().zip(types);
            client.query_typed_raw(&self.text, values).await?
        })
    }
}

/// A step of a pipeline: one request to the server.
pub(super) type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + 'a>>;

/// Returns a step that runs statements without parameters, such as `BEGIN`.
pub(super) fn control<'a, T: Default + 'a>(
    connection: &'a Connection,
    text: &'a str,
) -> Step<'a, T> {
    Box::pin(async move {
        connection.batch_execute(text).await?;
        Ok(T::default())
    })
}

/// Sends all steps in order before it reads the first answer.
///
/// The client sends a request when the request's future is first polled. The server answers requests in the order of
/// sending.
pub(super) async fn pipeline<T>(mut steps: Vec<Step<'_, T>>) -> Result<Vec<T>, Fault> {
    let mut answers: Vec<Option<T>> = steps.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut waits = false;
        for (step, answer) in steps.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match step.as_mut().poll(context) {
                    Poll::Ready(Ok(value)) => *answer = Some(value),
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    })
    .await?;
    Ok(answers.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn long_pipeline_sends_its_steps_in_order() {
        let sent = RefCell::new(Vec::new());
        let steps: Vec<Step<'_, usize>> = (0..100)
            .map(|index| {
                let sent = &sent;
                let step: Step<'_, usize> = Box::pin(async move {
                    sent.borrow_mut().push(index);
                    // Answers arrive late and in reverse order.
                    for _ in 0..(100 - index) {
                        tokio::task::yield_now().await;
                    }
                    Ok(index)
                });
                step
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let answers = runtime.block_on(pipeline(steps)).unwrap();
        let expected: Vec<usize> = (0..100).collect();
        assert_eq!(*sent.borrow(), expected);
        assert_eq!(answers, expected);
    }

    #[test]
    fn first_failing_step_ends_the_pipeline() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let steps: Vec<Step<'_, ()>> = vec![
            Box::pin(async { Ok(()) }),
            Box::pin(async { Err(Fault::RunnerLost) }),
            Box::pin(std::future::pending()),
        ];
        let fault = runtime.block_on(pipeline(steps)).unwrap_err();
        assert!(matches!(fault, Fault::RunnerLost));
    }
}
