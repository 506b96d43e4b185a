//! Starts runners for tenants, so that one process can serve many PostgreSQL schemas with shared workers and connections
//! (semantics H4).

use std::sync::Arc;

use super::EngineHandle;
#[cfg(feature = "postgres")]
use super::open::{OpenedStore, no_schemas};
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
    /// Returns the workers that this runner shares with its tenant group; `None` if it is not in a group.
    pub fn shared_workers(&self) -> Option<&Arc<SharedWorkers>> {
        self.tenant_group.get().map(|group| &group.workers)
    }

    /// Starts a runner for a tenant's schema in the same PostgreSQL database. If the schema does not exist, it is
    /// created, unless the role is not allowed to create it or the runner was started with `auto_migrate` set to
    /// `false`.
    ///
    /// The new runner has the settings of this runner. The runners of a tenant group share their worker threads, their event
    /// loop and their connections, and nothing else. The workers serve the runners in turn, and the whole
    /// group uses at most `db_pool_size` connections.
    /// The new runner stops when this runner stops.
    ///
    /// `database_url`: a URL of the same database with the tenant's credentials; `None` means this runner's URL. `host`:
    /// starts the shared workers; it is called only for the first tenant.
    ///
    /// # Errors
    /// `Configuration` for an invalid schema name, a URL of another database, a call on a tenant's runner, or a runner on
    /// SQLite; `RunnerClosed`; the errors of [`open`](Self::open).
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
                "a runner on {location} cannot have tenants"
            )));
        };
        if self
            .tenant_group
            .get()
            .is_some_and(|group| !group.is_parent)
        {
            return Err(Error::new(
                ErrorCode::Configuration,
                "a tenant's runner cannot have tenants of its own",
            )
            .with_hint("start the tenant from the runner that started this one"));
        }
        if self.is_closed() {
            return Err(Error::runner_closed());
        }
        let mut options = tenant_options(postgres, database_url)?.with_schema(schema)?;
        options.auto_migrate = postgres.options().auto_migrate;
        let store = Arc::new(postgres.open_tenant(&options)?);
        let opened = OpenedStore {
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
        // No other thread has access to the new runner yet, so `set` cannot fail.
        let _ = (tenant.tenant_group).set(TenantGroup::new(workers, slot, false));
        if self.is_closed()
            || self
                .tenant_group
                .get()
                .is_some_and(TenantGroup::is_stopping)
        {
            // This runner may have begun to stop the group before the new runner joined the group.
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

/// Returns the connection options for a tenant's URL, which must be a URL of the same database.
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
                "the database_url of a tenant is a sqlite:// URL",
            )
            .with_hint("pass a postgresql:// URL of this runner's database"));
        }
    };
    let mut options = PostgresOptions::from_url(&url)?;
    options.answer_timeout = own.answer_timeout;
    if (&options.hosts, &options.database) != (&own.hosts, &own.database) {
        return Err(Error::new(
            ErrorCode::Configuration,
            format!(
                "a runner can share its connections only with tenants of its own database {}, not of {}",
                own.location_without_schema(),
                options.location_without_schema()
            ),
        )
        .with_hint("start a separate DefaultRunner for another database"));
    }
    Ok(options)
}
