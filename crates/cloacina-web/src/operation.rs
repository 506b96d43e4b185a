//! The table of routes. Each entry has a method, a path, the permission that callers need, a handler, and documentation.
//!
//! The constructors take the permission, so a route without a permission does not compile:
//!
//! ```compile_fail
//! use cloacina_web::operation::Operation;
//!
//! let route = Operation::get("/secrets", "listSecrets", "List secrets", |_| todo!());
//! ```

use axum::http::Method;

use crate::access::Permission;
use crate::call::{Call, Reply};
use crate::problem::Problem;
use crate::schema::SchemaOf;

/// A function that answers a call. It blocks while it reads or writes the database.
pub type Handler = fn(&Call<'_>) -> Result<Reply, Problem>;

/// The way in which a route is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A handler answers the call, on a thread for blocking calls.
    Blocking(Handler),
    /// The answer is the stream of changes, as server-sent events.
    Changes,
}

/// The kind of a parameter's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Text.
    Text,
    /// One of several words.
    Words(&'static [&'static str]),
    /// A whole number between a minimum and a maximum.
    Number(usize, usize),
    /// `true` or `false`.
    Flag,
    /// A time, or a span before now.
    Time,
    /// The id of an execution, a schedule or a runner.
    Id,
}

/// A query parameter of a route.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The name. In a name like `label.K`, callers choose the part `K`.
    pub name: &'static str,
    /// The kind of the value.
    pub kind: ParameterKind,
    /// A sentence that says what the parameter does.
    pub about: &'static str,
    /// Whether the parameter may be given several times.
    pub is_repeated: bool,
    /// Whether the parameter must be given.
    pub is_required: bool,
}

impl Parameter {
    const fn new(name: &'static str, kind: ParameterKind, about: &'static str) -> Self {
        Self {
            name,
            kind,
            about,
            is_repeated: false,
            is_required: false,
        }
    }

    /// A parameter with text.
    pub const fn text(name: &'static str, about: &'static str) -> Self {
        Self::new(name, ParameterKind::Text, about)
    }

    /// A parameter whose value is one of several words.
    pub const fn words(
        name: &'static str,
        words: &'static [&'static str],
        about: &'static str,
    ) -> Self {
        Self::new(name, ParameterKind::Words(words), about)
    }

    /// A parameter with a whole number.
    pub const fn number(
        name: &'static str,
        least: usize,
        most: usize,
        about: &'static str,
    ) -> Self {
        Self::new(name, ParameterKind::Number(least, most), about)
    }

    /// A parameter that is `true` or `false`.
    pub const fn flag(name: &'static str, about: &'static str) -> Self {
        Self::new(name, ParameterKind::Flag, about)
    }

    /// A parameter with a time.
    pub const fn time(name: &'static str, about: &'static str) -> Self {
        Self::new(name, ParameterKind::Time, about)
    }

    /// A parameter with an id.
    pub const fn id(name: &'static str, about: &'static str) -> Self {
        Self::new(name, ParameterKind::Id, about)
    }

    /// Allows the parameter to be given several times.
    pub const fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }

    /// Makes the parameter mandatory.
    pub const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Whether a name in a query is this parameter's name, or begins with its prefix (`label.` for `label.K`).
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self.name.split_once('.') {
            Some((prefix, _)) => name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| !rest.is_empty()),
            None => self.name == name,
        }
    }
}

/// A route of the API.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The HTTP method. A route for GET also answers HEAD.
    pub method: Method,
    /// The path below `/api/v1`, with `{name}` for its variable parts.
    pub path: &'static str,
    /// The permission that a caller needs.
    pub permission: Permission,
    /// The unique name of the operation.
    pub id: &'static str,
    /// A short imperative sentence that says what the route does.
    pub summary: &'static str,
    /// A longer description.
    pub about: &'static str,
    /// The query parameters.
    pub parameters: Vec<Parameter>,
    /// Maximum size of the request's body, in bytes.
    pub body_limit: usize,
    /// The schema of the request's body.
    pub(crate) body: Option<SchemaOf>,
    /// The answers: status, schema of the answer's body, description.
    pub(crate) answers: Vec<(u16, Option<SchemaOf>, &'static str)>,
    /// The media type of the answers.
    pub media_type: &'static str,
    /// The media type of the text that the route sends instead of JSON if a parameter asks for text.
    pub(crate) text_type: Option<&'static str>,
    /// The way in which the route is answered.
    pub answer: Answer,
    /// Whether a caller who may use only some tenants need not name one of them. The handler must then check each tenant.
    pub(crate) is_of_all_tenants: bool,
}

/// Default of the maximum size of a request's body, in bytes.
const BODY_LIMIT: usize = 1 << 20;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident $method:ident,)*) => {
        impl Operation {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(
                path: &'static str,
                permission: Permission,
                id: &'static str,
                summary: &'static str,
                handler: Handler,
            ) -> Self {
                Self::new(Method::$method, path, permission, id, summary, Answer::Blocking(handler))
            })*
        }
    };
}

constructors! {
    /// A route that reads.
    get GET,
    /// A route that changes something or creates an object.
    post POST,
    /// A route that creates or replaces an object with a given name.
    put PUT,
    /// A route that changes parts of an object.
    patch PATCH,
    /// A route that deletes an object.
    delete DELETE,
}

impl Operation {
    pub(crate) fn new(
        method: Method,
        path: &'static str,
        permission: Permission,
        id: &'static str,
        summary: &'static str,
        answer: Answer,
    ) -> Self {
        Self {
            method,
            path,
            permission,
            id,
            summary,
            about: "",
            parameters: Vec::new(),
            body_limit: BODY_LIMIT,
            body: None,
            answers: Vec::new(),
            media_type: "application/json",
            text_type: None,
            answer,
            is_of_all_tenants: false,
        }
    }

    /// Lets callers who may use only some tenants omit the tenant.
    pub(crate) const fn of_all_tenants(mut self) -> Self {
        self.is_of_all_tenants = true;
        self
    }

    /// Sets the longer description.
    pub(crate) const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Adds query parameters.
    pub(crate) fn with(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Sets the schema of the request's body.
    pub(crate) fn takes<T: utoipa::ToSchema + 'static>(mut self) -> Self {
        self.body = SchemaOf::of::<T>();
        self
    }

    /// Sets the maximum size of the request's body, in bytes.
    pub(crate) const fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Adds an answer with a body.
    pub(crate) fn returns<T: utoipa::ToSchema + 'static>(
        mut self,
        status: u16,
        about: &'static str,
    ) -> Self {
        self.answers.push((status, SchemaOf::of::<T>(), about));
        self
    }

    /// Adds an answer with a page of a list.
    pub(crate) fn returns_page<T: utoipa::ToSchema + 'static>(
        mut self,
        about: &'static str,
    ) -> Self {
        let items = SchemaOf::of::<T>();
        self.answers.push((200, items.map(SchemaOf::paged), about));
        self
    }

    /// Adds an answer without a body.
    pub(crate) fn returns_nothing(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push((status, None, about));
        self
    }

    /// Sets the media type of the answers.
    pub(crate) const fn media_type(mut self, media_type: &'static str) -> Self {
        self.media_type = media_type;
        self
    }

    /// Sets the media type of the text that the route sends instead of JSON if a parameter asks for text.
    pub(crate) const fn or_text(mut self, media_type: &'static str) -> Self {
        self.text_type = Some(media_type);
        self
    }

    /// Whether the route only reads.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.method == Method::GET
    }
}
