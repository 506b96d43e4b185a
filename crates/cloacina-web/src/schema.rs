//! The schemas of bodies, for the `OpenAPI` document.
//!
//! Only the generator of the document needs them. Programs serve the committed document, so without the feature `openapi` no
//! schemas are kept.

use utoipa::ToSchema;
#[cfg(any(test, feature = "openapi"))]
use utoipa::openapi::{RefOr, schema::Schema};

/// A named schema, and the schemas that it refers to.
#[cfg(any(test, feature = "openapi"))]
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// The schema of a type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaOf {
    /// The name of the schema.
    #[cfg(any(test, feature = "openapi"))]
    pub(crate) name: fn() -> std::borrow::Cow<'static, str>,
    /// Adds the schema and all that it refers to.
    #[cfg(any(test, feature = "openapi"))]
    pub(crate) collect: fn(&mut Schemas),
    /// Whether the body is a page of a list of such values.
    pub(crate) is_page: bool,
}

impl SchemaOf {
    /// The schema of a type; `None` if schemas are not kept.
    #[cfg(any(test, feature = "openapi"))]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "without the feature there is none"
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

    /// The schema of a page of a list of such values.
    pub(crate) const fn paged(mut self) -> Self {
        self.is_page = true;
        self
    }

    /// The schema of a type; `None` if schemas are not kept.
    #[cfg(not(any(test, feature = "openapi")))]
    #[expect(
        clippy::extra_unused_type_parameters,
        reason = "the type has the other form"
    )]
    pub(crate) const fn of<T: ToSchema + 'static>() -> Option<Self> {
        None
    }
}
