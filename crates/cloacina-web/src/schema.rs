//! The schemas of request and response bodies, for the `OpenAPI` document.
//!
//! Only the generator of the document needs the schemas. Programs serve the committed document, so schemas are compiled only
//! for tests and with the feature `openapi`.

use utoipa::ToSchema;
#[cfg(any(test, feature = "openapi"))]
use utoipa::openapi::{RefOr, schema::Schema};

/// Schemas, each with its name.
#[cfg(any(test, feature = "openapi"))]
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// A reference to the schema of a type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaOf {
    /// The name of the schema.
    #[cfg(any(test, feature = "openapi"))]
    pub(crate) name: fn() -> std::borrow::Cow<'static, str>,
    /// Adds the schema, and all schemas that it refers to.
    #[cfg(any(test, feature = "openapi"))]
    pub(crate) collect: fn(&mut Schemas),
    /// Whether the body is a page of a list. The items of the list have this schema.
    pub(crate) is_page: bool,
}

impl SchemaOf {
    /// Returns a reference to the schema of a type; `None` without the feature `openapi`.
    #[cfg(any(test, feature = "openapi"))]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "without the feature, the result is always `None`"
    )]
    pub(crate) fn of<T: ToSchema + 'static>() -> Option<Self> {
        Some(Self {
            is_page: false,
            name: T::name,
            collect: |schemas| {
                schemas.push((T::name().into_owned(), T::schema()));
                T::schemas(schemas);
            },
        })
    }

    /// Returns a reference to the schema of a page of a list. The items of the list have this schema.
    pub(crate) const fn paged(mut self) -> Self {
        self.is_page = true;
        self
    }

    /// Returns a reference to the schema of a type; `None` without the feature `openapi`.
    #[cfg(not(any(test, feature = "openapi")))]
    #[expect(
        clippy::extra_unused_type_parameters,
        reason = "only the variant with the feature uses the type"
    )]
    pub(crate) const fn of<T: ToSchema + 'static>() -> Option<Self> {
        None
    }
}
