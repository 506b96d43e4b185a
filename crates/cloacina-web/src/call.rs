//! A call of a route as its handler sees it, and the handler's reply.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use cloacina::runner::Inspector;
use cloacina::types::Audit;
use cloacina::{Error, ErrorCode, ExecutionId, ScheduleId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::{Access, Permission};
use crate::cursor;
use crate::problem::Problem;
use crate::query::Query;
use crate::redact::Redactor;
use crate::views::Page;
use crate::web::Web;

/// A call of a route.
pub struct Call<'a> {
    pub(crate) web: &'a Web,
    pub(crate) inspector: Inspector,
    pub(crate) tenant: Option<String>,
    pub(crate) access: &'a Access,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) path: Vec<(String, String)>,
    pub(crate) query: Query,
    pub(crate) body: &'a [u8],
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Call<'_> {
    /// A variable part of the path.
    pub(crate) fn part(&self, name: &str) -> Result<&str, Problem> {
        let found = self.path.iter().find(|(key, _)| key == name);
        let value = found.map(|(_, value)| value.as_str());
        value
            .filter(|value| !value.contains('\0'))
            .ok_or_else(|| Problem::new("not_found", "a part of the path cannot be read"))
    }

    /// The execution that the path names.
    pub(crate) fn execution_id(&self) -> Result<ExecutionId, Problem> {
        let text = self.part("id")?;
        parse_execution(text)
    }

    /// The schedule that the path names.
    pub(crate) fn schedule_id(&self) -> Result<ScheduleId, Problem> {
        let text = self.part("id")?;
        text.parse().map_err(|_| {
            let shown: String = text.chars().take(80).collect();
            let message = format!("'{shown}' is not the id of a schedule");
            Error::new(ErrorCode::ScheduleNotFound, message)
                .with_hint("an id is a UUID; GET schedules lists them")
                .into()
        })
    }

    /// The body, decoded. An empty body stands for an empty object.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let body = if self.body.is_empty() {
            b"{}"
        } else {
            self.body
        };
        if let Ok(text) = std::str::from_utf8(body)
            && (text.contains("\\u0000") || text.contains('\0'))
        {
            return Err(Problem::invalid("/", "a NUL character cannot be stored"));
        }
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::invalid("/", "the body must be a JSON object"));
        }
        serde_json::from_slice(body).map_err(|error| {
            let message = error.to_string();
            if error.is_syntax() || error.is_eof() {
                return Problem::new("bad_request", format!("the body is not JSON: {message}"));
            }
            if message.starts_with("unknown field") {
                return Problem::new("unknown_parameter", format!("the body has an {message}"));
            }
            Problem::invalid("/", message)
        })
    }

    /// The caller and the reason of a change, for the history.
    pub(crate) fn audit(&self, note: Option<String>) -> Audit {
        Audit {
            actor: Some(self.access.user().to_owned()),
            note,
        }
    }

    /// Notes a change: in the log, and for clients that follow changes.
    pub(crate) fn note_change(&self, action: &str, object: &str) {
        let (user, tenant) = (self.access.user(), self.tenant.as_deref());
        tracing::info!(target: "cloaca.ui", user, tenant, "{action} {object}");
        if let Ok(watcher) = self.web.database.watcher(tenant) {
            watcher.note_own_change();
        }
    }

    /// Whether the caller may read inputs and results.
    pub(crate) fn may_view_payloads(&self) -> bool {
        self.access.allows(Permission::ViewPayloads) && !self.web.hides_payloads()
    }

    /// The redactor of the server's patterns.
    pub(crate) fn redactor(&self) -> Redactor {
        self.web.redactor()
    }
}

/// Parses the id of an execution.
pub(crate) fn parse_execution(text: &str) -> Result<ExecutionId, Problem> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        let message = format!("'{shown}' is not the id of an execution");
        Error::new(ErrorCode::ExecutionNotFound, message)
            .with_hint("an id is a UUID, like 0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41")
            .into()
    })
}

/// The reply of a handler.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    body: String,
    media_type: &'static str,
    etag: Option<String>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    redactor: Option<Redactor>,
}

impl Reply {
    /// A reply with a page of a list, and with links to the pages around it.
    pub(crate) fn page<T: Serialize>(call: &Call<'_>, page: &Page<T>) -> Result<Self, Problem> {
        Ok(Self::json(page)?.links(call, page.next.as_deref(), page.prev.as_deref()))
    }

    /// Sets the links to the pages around a page of a list, by their cursors.
    pub(crate) fn links(self, call: &Call<'_>, next: Option<&str>, prev: Option<&str>) -> Self {
        match cursor::links(&call.query, next, prev) {
            Some(links) => self.header(header::LINK, &links),
            None => self,
        }
    }

    /// A reply with a value as JSON.
    pub(crate) fn json<T: Serialize>(value: &T) -> Result<Self, Problem> {
        let body = serde_json::to_string(value).map_err(|error| {
            Problem::new("internal", format!("the answer cannot be written: {error}"))
        })?;
        Ok(Self {
            status: StatusCode::OK,
            body,
            media_type: "application/json",
            etag: None,
            headers: Vec::new(),
            redactor: None,
        })
    }

    /// A reply with text of a media type, which is not redacted.
    pub(crate) fn text(body: impl Into<String>, media_type: &'static str) -> Self {
        Self {
            status: StatusCode::OK,
            body: body.into(),
            media_type,
            etag: None,
            headers: Vec::new(),
            redactor: None,
        }
    }

    pub(crate) fn nothing() -> Self {
        let mut reply = Self::text("", "");
        reply.status = StatusCode::NO_CONTENT;
        reply
    }

    pub(crate) const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets the entity tag, with which clients ask whether the answer has changed.
    pub(crate) fn etag(mut self, tag: impl fmt::Display) -> Self {
        self.etag = Some(format!("\"{tag}\""));
        self
    }

    /// Sets a header. A value that is not valid in a header is left out.
    pub(crate) fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        self.headers
            .extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Uses a redactor that also knows the secret values of an execution.
    pub(crate) fn redacted_by(mut self, redactor: Redactor) -> Self {
        self.redactor = Some(redactor);
        self
    }

    /// The response. `default` redacts if the handler has not chosen a redactor.
    pub(crate) fn into_response(self, default: &Redactor, request: &HeaderMap) -> Response {
        let is_json = self.media_type == "application/json";
        let body = if is_json {
            self.redactor.as_ref().unwrap_or(default).json(&self.body)
        } else {
            self.body
        };
        let is_read = self.status == StatusCode::OK;
        let tag = self.etag.or_else(|| is_read.then(|| tag_of(&body)));
        let matches = |value: &HeaderValue| {
            let known = value.to_str().unwrap_or_default();
            tag.as_deref().is_some_and(|tag| {
                known
                    .split(',')
                    .map(str::trim)
                    .any(|known| known.strip_prefix("W/").unwrap_or(known) == tag || known == "*")
            })
        };
        let is_known = is_read && request.get_all(header::IF_NONE_MATCH).iter().any(matches);
        let mut response = Response::new(if is_known {
            Body::empty()
        } else {
            Body::from(body)
        });
        *response.status_mut() = if is_known {
            StatusCode::NOT_MODIFIED
        } else {
            self.status
        };
        let headers = response.headers_mut();
        if !self.media_type.is_empty() && !is_known {
            let kind = HeaderValue::from_static(self.media_type);
            headers.insert(header::CONTENT_TYPE, kind);
        }
        if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
            headers.insert(header::ETAG, tag);
        }
        headers.extend(self.headers);
        response
    }
}

/// An entity tag of a body.
fn tag_of(body: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}
