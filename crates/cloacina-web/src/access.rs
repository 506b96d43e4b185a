//! Permissions, and the access that an authenticated caller has.

use std::collections::BTreeSet;

/// The right to use a group of routes.
///
/// Since 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Read states, histories, logs and definitions, without inputs and results.
    View,
    /// Read inputs, results and contexts.
    ViewPayloads,
    /// Cancel, pause, resume and retry executions, change running maps, send signals, and decide approvals.
    Control,
    /// Submit and rerun executions, run schedules now, and backfill schedules.
    Start,
    /// Create, change and delete schedules.
    Schedule,
    /// Delete executions that have ended.
    Delete,
}

impl Permission {
    /// Every permission.
    pub const ALL: &'static [Self] = &[
        Self::View,
        Self::ViewPayloads,
        Self::Control,
        Self::Start,
        Self::Schedule,
        Self::Delete,
    ];

    /// The permission's name in the API, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::ViewPayloads => "view_payloads",
            Self::Control => "control",
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Delete => "delete",
        }
    }

    /// Whether routes with this permission change the database. Read-only mode refuses them.
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::View | Self::ViewPayloads)
    }

    /// Returns the permission that has this name; `None` if the name is unknown.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (Self::ALL.iter().copied()).find(|permission| permission.name() == name)
    }
}

/// The access of an authenticated caller.
///
/// ```
/// use cloacina_web::{Access, Permission};
///
/// let operator = Access::new("ann", [Permission::View, Permission::Control]);
/// assert!(operator.allows(Permission::Control));
/// assert!(!operator.allows(Permission::Delete));
/// ```
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    user: String,
    permissions: BTreeSet<Permission>,
    tenants: Option<BTreeSet<String>>,
}

impl Access {
    /// Grants a user the given permissions, for all tenants. Since 1.0.
    pub fn new(user: impl Into<String>, permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self {
            user: user.into(),
            permissions: permissions.into_iter().collect(),
            tenants: None,
        }
    }

    /// Grants a user every permission, for all tenants. Since 1.0.
    pub fn full(user: impl Into<String>) -> Self {
        Self::new(user, Permission::ALL.iter().copied())
    }

    /// Restricts the access to the given tenants. Requests that name no tenant, which use the default schema, are then
    /// refused, except the list of tenants. Since 1.0.
    pub fn tenants(mut self, tenants: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tenants = Some(tenants.into_iter().map(Into::into).collect());
        self
    }

    /// The user's name, for the audit log. Since 1.0.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the caller has a permission. Since 1.0.
    #[must_use]
    pub fn allows(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether the caller may use a tenant. `None` stands for a request that names no tenant. Since 1.0.
    #[must_use]
    pub fn allows_tenant(&self, tenant: Option<&str>) -> bool {
        let Some(tenants) = &self.tenants else {
            return true;
        };
        tenant.is_some_and(|tenant| tenants.contains(tenant))
    }

    /// The permissions, in the order of [`Permission`].
    pub(crate) fn permissions(&self) -> impl Iterator<Item = Permission> {
        self.permissions.iter().copied()
    }
}
