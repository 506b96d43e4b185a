//! Errors of the API, which are sent as problems (RFC 9457).

use std::fmt;
use std::ops::{Deref, DerefMut};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cloacina::{Error, ErrorCode, ExecutionId, ExecutionStatus};
use serde::Serialize;
use tokio::task::JoinError;
use utoipa::ToSchema;

use crate::redact::Redactor;

/// The folder of the pages that explain the codes. The path is relative to the root of the documentation, because the API
/// does not know where the documentation is published.
const PAGES: &str = "reference";

/// An invalid part of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Invalid {
    /// A JSON pointer into the body, or the name of a parameter.
    pub pointer: String,
    /// A sentence that says what is wrong.
    pub detail: String,
}

/// The body of an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// The page that explains the code, relative to the root of the documentation.
    #[serde(rename = "type")]
    page: String,
    /// The title of the HTTP status.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A sentence that says what failed and where.
    detail: String,
    /// The id of this failure. If the status is 500, the server's log has a line with this id.
    instance: String,
    /// A stable name of the kind of error.
    code: String,
    /// How to fix the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The current state of the execution, if the state does not allow the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    /// The invalid parts of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Invalid>,
}

/// An error of the API.
#[derive(Clone, Debug)]
pub struct Problem(Box<Details>);

/// The contents of a problem.
#[derive(Clone, Debug)]
pub struct Details {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    detail: String,
    hint: Option<String>,
    current: Option<ExecutionStatus>,
    errors: Vec<Invalid>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Deref for Problem {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

/// The error codes that only the API uses, each with its HTTP status and its meaning.
pub const CODES: &[(&str, StatusCode, &str)] = &[
    (
        "bad_request",
        StatusCode::BAD_REQUEST,
        "The request cannot be read.",
    ),
    (
        "unknown_parameter",
        StatusCode::BAD_REQUEST,
        "The route has no query parameter or body member with this name.",
    ),
    (
        "invalid_parameter",
        StatusCode::UNPROCESSABLE_ENTITY,
        "A query parameter, a body member or a part of the path has an invalid value.",
    ),
    (
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "The request has no valid credentials.",
    ),
    (
        "forbidden",
        StatusCode::FORBIDDEN,
        "The caller lacks the permission that the route needs, or may not use the tenant.",
    ),
    (
        "read_only",
        StatusCode::FORBIDDEN,
        "The server is in read-only mode and refuses changes.",
    ),
    (
        "cross_site",
        StatusCode::FORBIDDEN,
        "The request comes from a page of another site, or a change lacks the header X-Cloaca.",
    ),
    (
        "not_found",
        StatusCode::NOT_FOUND,
        "The route or the object does not exist.",
    ),
    (
        "method_not_allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "The route does not have this method; the header Allow lists its methods.",
    ),
    (
        "revision_mismatch",
        StatusCode::PRECONDITION_FAILED,
        "The execution or schedule has changed since the revision in If-Match.",
    ),
    (
        "too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body, the URL or the headers exceed a limit.",
    ),
    (
        "unsupported_media_type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "A change needs the header Content-Type: application/json.",
    ),
    (
        "host_not_allowed",
        StatusCode::MISDIRECTED_REQUEST,
        "The Host header names a host that the server does not answer for.",
    ),
    (
        "too_many_requests",
        StatusCode::TOO_MANY_REQUESTS,
        "There were too many failed logins, or the caller has too many open streams.",
    ),
    (
        "deadline",
        StatusCode::GATEWAY_TIMEOUT,
        "The database did not answer within the deadline of the request.",
    ),
    (
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "The request failed because of an unexpected error in the server.",
    ),
];

impl Problem {
    /// Returns a problem with a code of [`CODES`].
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let known = CODES.iter().find(|(name, ..)| *name == code);
        let status = known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status, _)| *status);
        Self(Box::new(Details {
            status,
            code,
            detail: detail.into(),
            hint: None,
            current: None,
            errors: Vec::new(),
            header: None,
        }))
    }

    /// Returns the problem that a part of the request is invalid. `pointer` is a JSON pointer into the body (empty for the whole
    /// body), or the name of a parameter.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        let message = match pointer.as_str() {
            "" => format!("the body: {detail}"),
            _ => format!("{pointer}: {detail}"),
        };
        let mut problem = Self::new("invalid_parameter", message);
        problem.errors.push(Invalid { pointer, detail });
        problem
    }

    /// Returns the problem that a request's work on another thread did not end normally.
    pub(crate) fn of_work(error: &JoinError) -> Self {
        // A server that stops cancels the work that has not started.
        if error.is_cancelled() {
            return Error::new(ErrorCode::RunnerClosed, "the server is stopping").into();
        }
        tracing::error!(%error, "a request failed");
        Self::new(
            "internal",
            "the request failed because of an unexpected error in the server",
        )
    }

    pub(crate) fn unauthenticated() -> Self {
        Self::new("unauthenticated", "the request has no valid credentials")
            .hint("send the header Authorization: Bearer TOKEN, or open the link that `cloaca ui` prints")
            .header(header::WWW_AUTHENTICATE, "Bearer")
    }

    pub(crate) fn no_route(method: &Method, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new("not_found", format!("the API has no route {method} {path}"))
            .hint("GET api/v1/openapi.json lists the routes")
    }

    /// If the problem is an engine error with this code, names the part of the request that is invalid. Otherwise,
    /// returns the problem unchanged.
    pub(crate) fn at(mut self, code: ErrorCode, pointer: impl Into<String>) -> Self {
        if self.code == code.name() && self.errors.is_empty() {
            let detail = self.detail.clone();
            let pointer = pointer.into();
            self.errors.push(Invalid { pointer, detail });
        }
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn current(mut self, status: ExecutionStatus) -> Self {
        self.current = Some(status);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// The hint, if there is one.
    #[cfg(test)]
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the value of the header `WWW-Authenticate`, if the response needs it.
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        let header = self.header.as_ref();
        header
            .filter(|(name, _)| *name == header::WWW_AUTHENTICATE)
            .map(|(_, value)| value.clone())
    }

    /// Returns the problem with the secrets in its texts masked.
    pub(crate) fn redacted(&self, redactor: &Redactor) -> Self {
        let mut problem = self.clone();
        problem.detail = redactor.prose(&self.detail);
        problem.hint = self.hint.as_deref().map(|hint| redactor.prose(hint));
        for error in &mut problem.errors {
            error.detail = redactor.prose(&error.detail);
        }
        problem
    }

    /// Returns the body of the response.
    pub(crate) fn body(&self) -> ProblemBody {
        let is_own = CODES.iter().any(|(code, ..)| *code == self.code);
        let page = if is_own { "http-api" } else { "errors" };
        ProblemBody {
            page: format!("{PAGES}/{page}/#{}", self.code.replace('_', "-")),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            instance: format!("urn:uuid:{}", ExecutionId::generate()),
            code: self.code.to_owned(),
            hint: self.hint.clone(),
            current: self.current.map(|status| status.name().to_owned()),
            errors: self.errors.clone(),
        }
    }
}

/// Returns the HTTP status of an error of the engine.
const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::ExecutionNotFound
        | ErrorCode::WorkflowNotFound
        | ErrorCode::ScheduleNotFound => StatusCode::NOT_FOUND,
        ErrorCode::ExecutionState | ErrorCode::AlreadyDecided => StatusCode::CONFLICT,
        ErrorCode::WorkflowInvalid
        | ErrorCode::TaskInvalid
        | ErrorCode::ContextInvalid
        | ErrorCode::WorkflowInputInvalid
        | ErrorCode::ScheduleInvalid
        | ErrorCode::Configuration
        | ErrorCode::UrlInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::Connection | ErrorCode::RunnerClosed | ErrorCode::Migration => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = status_of(error.code);
        let retry = HeaderValue::from_static("2");
        Self(Box::new(Details {
            status,
            code: error.code.name(),
            detail: error.message,
            hint: error.hint,
            current: None,
            errors: Vec::new(),
            header: (status == StatusCode::SERVICE_UNAVAILABLE)
                .then_some((header::RETRY_AFTER, retry)),
        }))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let (instance, code) = (&body.instance, &body.code);
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%instance, code, "a request failed: {}", body.detail);
        } else if self.status.is_server_error() {
            tracing::debug!(%instance, code, "a request failed: {}", body.detail);
        }
        let body =
            serde_json::to_string(&body).unwrap_or_else(|_| r#"{"code":"internal"}"#.to_owned());
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some((name, value)) = self.0.header {
            headers.insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lesson: a request that was open while its server stopped was answered with 500, and an error was logged.
    #[test]
    fn work_of_a_stopping_server_is_unavailable() {
        let server = tokio::runtime::Runtime::new().expect("a runtime");
        let work = server.handle().clone();
        server.shutdown_background();
        let other = tokio::runtime::Runtime::new().expect("a runtime");
        let answer = other.block_on(work.spawn_blocking(|| ()));
        let problem = Problem::of_work(&answer.expect_err("the work was cancelled"));
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem.code, "runner_closed");
    }
}
