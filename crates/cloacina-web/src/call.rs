//! The call that the handler of a route receives, and the reply that the handler returns.

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
use crate::body;
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
    /// Returns the value of a path parameter. Refuses a path without the parameter, and a value with a NUL character.
    pub(crate) fn part(&self, name: &str) -> Result<&str, Problem> {
        let found = self.path.iter().find(|(key, _)| key == name);
        let value = found.map(|(_, value)| value.as_str());
        value.filter(|value| !value.contains('\0')).ok_or_else(|| {
            let detail =
                format!("the path parameter '{name}' is missing or contains a NUL character");
            Problem::new("not_found", detail)
        })
    }

    /// Returns the id of the execution that the path names.
    pub(crate) fn execution_id(&self) -> Result<ExecutionId, Problem> {
        let text = self.part("id")?;
        parse_execution(text)
    }

    /// Returns the id of the schedule that the path names.
    pub(crate) fn schedule_id(&self) -> Result<ScheduleId, Problem> {
        let text = self.part("id")?;
        text.parse().map_err(|_| {
            let shown: String = text.chars().take(80).collect();
            let message = format!("'{shown}' is not the id of a schedule");
            Error::new(ErrorCode::ScheduleNotFound, message)
                .with_hint("an id is a UUID; GET /schedules lists the schedules with their ids")
                .into()
        })
    }

    /// Decodes the body, which must be a JSON object. An empty body stands for an empty object.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        body::decode(self.body)
    }

    /// Returns the caller and the reason for a change, for the history.
    pub(crate) fn audit(&self, note: Option<String>) -> Audit {
        Audit {
            actor: Some(self.access.user().to_owned()),
            note,
        }
    }

    /// Records that this request changed something: writes a log line, and advances the change marker that clients follow.
    pub(crate) fn note_change(&self, action: &str, object: &str) {
        let (user, tenant) = (self.access.user(), self.tenant.as_deref());
        tracing::info!(target: "cloacina_web::changes", user, tenant, "{action} {object}");
        if let Ok(watcher) = self.web.database.watcher(tenant) {
            watcher.note_own_change();
        }
    }

    /// Whether the caller may read inputs and results.
    pub(crate) fn may_view_payloads(&self) -> bool {
        self.access.allows(Permission::ViewPayloads) && !self.web.hides_payloads()
    }

    /// Returns a redactor with the server's patterns.
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
    /// Whether the entity tag also contains a hash of the body.
    is_tag_hashed: bool,
    /// The member with the time of the answer, which is left out of the hash of the body.
    clock: Option<&'static str>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    redactor: Option<Redactor>,
}

impl Reply {
    /// Makes a reply with a page of a list, and with links to the previous and the next page.
    pub(crate) fn page<T: Serialize>(call: &Call<'_>, page: &Page<T>) -> Result<Self, Problem> {
        Ok(Self::json(page)?.links(call, page.next.as_deref(), page.prev.as_deref()))
    }

    /// Sets the links to the next and the previous page of a list. `next` and `prev` are the pages' cursors.
    pub(crate) fn links(self, call: &Call<'_>, next: Option<&str>, prev: Option<&str>) -> Self {
        match cursor::links(&call.query, next, prev) {
            Some(links) => self.header(header::LINK, &links),
            None => self,
        }
    }

    /// Makes a reply with a value as JSON.
    pub(crate) fn json<T: Serialize>(value: &T) -> Result<Self, Problem> {
        let body = serde_json::to_string(value).map_err(|error| {
            Problem::new("internal", format!("the answer cannot be written: {error}"))
        })?;
        Ok(Self {
            status: StatusCode::OK,
            body,
            media_type: "application/json",
            etag: None,
            is_tag_hashed: false,
            clock: None,
            headers: Vec::new(),
            redactor: None,
        })
    }

    /// Makes a reply with text of a media type. The text is not redacted.
    pub(crate) fn text(body: impl Into<String>, media_type: &'static str) -> Self {
        Self {
            status: StatusCode::OK,
            body: body.into(),
            media_type,
            etag: None,
            is_tag_hashed: false,
            clock: None,
            headers: Vec::new(),
            redactor: None,
        }
    }

    /// Makes a reply without a body, with the status 204.
    pub(crate) fn nothing() -> Self {
        let mut reply = Self::text("", "");
        reply.status = StatusCode::NO_CONTENT;
        reply
    }

    pub(crate) const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets the entity tag. Clients send it back to ask whether the answer has changed.
    pub(crate) fn etag(mut self, tag: impl fmt::Display) -> Self {
        self.etag = Some(tag.to_string());
        self
    }

    /// Adds a hash of the body to the entity tag if the execution is open. The revision alone would hide changes: when a worker
    /// starts a claimed task, the task's start time is written, but the revision does not change. If-Match reads only the
    /// revision.
    pub(crate) const fn hashed_if(mut self, is_open: bool) -> Self {
        self.is_tag_hashed = is_open;
        self
    }

    /// Leaves a member with the time of the answer out of the hash of the body, wherever it occurs in the body. Otherwise, the
    /// entity tag would differ for each request. The member's value must be a string without escapes.
    pub(crate) const fn clock(mut self, member: &'static str) -> Self {
        self.clock = Some(member);
        self
    }

    /// Adds a header. Does nothing if the value contains characters that a header cannot have.
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

    /// Converts the reply to a response. If the handler has not chosen a redactor, `default` redacts the body. The answer to a
    /// change gets no hash as its entity tag, because If-Match with this tag would never match.
    pub(crate) fn into_response(
        self,
        default: &Redactor,
        is_read: bool,
        request: &HeaderMap,
    ) -> Response {
        let is_json = self.media_type == "application/json";
        let body = if is_json {
            self.redactor.as_ref().unwrap_or(default).json(&self.body)
        } else {
            self.body
        };
        let is_read = is_read && self.status == StatusCode::OK;
        let hash = || match self.clock {
            Some(member) => hash_of(&without(&body, member)),
            None => hash_of(&body),
        };
        let tag = match self.etag {
            Some(tag) if self.is_tag_hashed => Some(format!("\"{tag}-{}\"", hash())),
            Some(tag) => Some(format!("\"{tag}\"")),
            None => is_read.then(|| format!("\"{}\"", hash())),
        };
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

/// Returns a hash of a body, for an entity tag. The body must be redacted, because a hash could reveal a short secret.
pub(crate) fn hash_of(body: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Returns a compact JSON text without the values of a member. A text in the JSON that looks like the member is kept,
/// because its quotes are escaped.
fn without(body: &str, member: &str) -> String {
    let start = format!("\"{member}\":\"");
    let mut parts = body.split(&start);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rest.push_str(part.split_once('"').map_or(part, |(_, after)| after));
    }
    rest
}
