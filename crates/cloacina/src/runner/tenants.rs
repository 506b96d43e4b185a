//! Runners for tenants: one process that serves many schemas with shared workers and connections (semantics H4).

use std::sync::Arc;

use super::EngineHandle;
#[cfg(feature = "postgres")]
use super::open::{Opened, no_schemas};
#[cfg(feature = "postgres")]
use super::tenant_group::TenantGroup;
use crate::runtime::SharedWorkers;
#[cfg(feature = "postgres")]
use crate::runtime::WorkerHost;
#[cfg(feature = "postgres")]
use crate::store::DatabaseUrl;
#[cfg(feature = "postgres")]
use crate::store::postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "postgres")]
use crate::types::{Error, ErrorCode};

impl EngineHandle {
    /// The workers that this runner shares with others, if it does.
    pub fn shared_workers(&self) -> Option<&Arc<SharedWorkers>> {
        self.tenant_group.get().map(|group| &group.workers)
    }

    /// A runner for a tenant's schema of the same PostgreSQL database, which is created if it is missing and the role may.
    ///
    /// It has the settings of this one and shares its worker threads, event loop and connections: `db_pool_size` is for
    /// all together, and they take turns. Everything else is its own. It stops with this one at the latest.
    ///
    /// `database_url`: credentials of the tenant, for the same database; this runner's own where left out. `host`: starts
    /// the workers; called for the first tenant only.
    ///
    /// # Errors
    /// `Configuration` for a schema that cannot be one, another database, a runner that is a tenant itself, or one on
    /// SQLite; otherwise as for [`open`](Self::open).
    #[cfg(feature = "postgres")]
    pub fn open_tenant(
        &self,
        schema: &str,
        database_url: Option<&str>,
        host: impl FnOnce() -> Option<Arc<dyn WorkerHost>>,
    ) -> Result<Self, Error> {
        let Some(postgres) = &self.postgres else {
            let location = self.location();
            return Err(no_schemas(&format!(
                "a runner on {location} has no tenants"
            )));
        };
        if self
            .tenant_group
            .get()
            .is_some_and(|group| !group.is_parent)
        {
            return Err(Error::new(
                ErrorCode::Configuration,
                "a tenant's runner has no tenants of its own",
            )
            .with_hint("ask the runner that made it"));
        }
        if self.is_closed() {
            return Err(Error::runner_closed());
        }
        let mut options = tenant_options(postgres, database_url)?.with_schema(schema)?;
        options.auto_migrate = postgres.options().auto_migrate;
        let store = Arc::new(postgres.open_tenant(&options)?);
        let opened = Opened {
            store: Arc::clone(&store) as Arc<dyn crate::store::Store>,
            postgres: Some(store),
        };
        let workers = Arc::clone(self.become_parent(host));
        let (number, queues) = workers.queues();
        let tenant = Self::launch(
            opened,
            Arc::clone(&self.channels().clock),
            self.tenant_options(),
            queues,
            |queue, mailbox, clock| self.tasks().beside(queue, mailbox, clock),
        )?;
        let channels = tenant.channels();
        let slot = workers.join(
            number,
            channels.queues.clone(),
            Arc::clone(&channels.mailbox),
            Arc::clone(&channels.clock),
        );
        // Nobody else has set it.
        let _ = (tenant.tenant_group).set(TenantGroup::new(workers, slot, false));
        if self.is_closed()
            || self
                .tenant_group
                .get()
                .is_some_and(TenantGroup::is_stopping)
        {
            // It may not have known of this one when it told all others to stop.
            tenant.stop(std::time::Duration::ZERO);
            return Err(Error::runner_closed());
        }
        Ok(tenant)
    }

    #[cfg(feature = "postgres")]
    fn become_parent(
        &self,
        host: impl FnOnce() -> Option<Arc<dyn WorkerHost>>,
    ) -> &Arc<SharedWorkers> {
        let group = self.tenant_group.get_or_init(|| {
            let config = self.config();
            let workers = SharedWorkers::new(
                config.max_concurrent_tasks,
                config.max_concurrent_async_tasks,
                host(),
            );
            let channels = self.channels();
            let slot = workers.join(
                0,
                channels.queues.clone(),
                Arc::clone(&channels.mailbox),
                Arc::clone(&channels.clock),
            );
            TenantGroup::new(workers, slot, true)
        });
        &group.workers
    }
}

/// The options for a tenant's credentials, which must lead to the same database.
#[cfg(feature = "postgres")]
fn tenant_options(
    postgres: &PostgresStore,
    database_url: Option<&str>,
) -> Result<PostgresOptions, Error> {
    let own = postgres.options();
    let Some(url) = database_url else {
        return Ok(own.clone());
    };
    let url = match DatabaseUrl::parse(url)? {
        DatabaseUrl::Postgres(url) => url,
        #[cfg(feature = "sqlite")]
        DatabaseUrl::Sqlite(_) => {
            return Err(Error::new(
                ErrorCode::Configuration,
                "a tenant's database_url must be a postgresql:// URL",
            ));
        }
    };
    let mut options = PostgresOptions::from_url(&url)?;
    options.patience = own.patience;
    if (&options.hosts, &options.database) != (&own.hosts, &own.database) {
        return Err(Error::new(
            ErrorCode::Configuration,
            format!(
                "a runner shares its connections with tenants of its own database {}, not of {}",
                own.place(),
                options.place()
            ),
        )
        .with_hint("start a DefaultRunner of its own for another database"));
    }
    Ok(options)
}
