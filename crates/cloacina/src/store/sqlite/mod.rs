//! The SQLite store: a database in a file or in memory.
//!
//! One connection writes and up to four others read (`connection`). Each statement is a type with a constant text
//! (`statement`), so that Diesel prepares it once per connection.

mod children;
mod claim;
mod commit;
mod connect;
mod connection;
mod counting;
mod definition;
mod ends;
mod error;
mod file;
mod file_id;
mod insight;
mod list;
#[cfg(test)]
mod list_plans;
mod load;
#[cfg(target_os = "linux")]
mod locks;
mod map_claims;
mod map_feeds;
mod map_reads;
mod map_row;
mod map_rows;
mod maps;
mod migration;
mod open;
mod options;
mod prune;
mod ready;
mod row;
mod runner;
mod schedule;
mod signals;
mod statement;
mod steps;
mod summary;
#[cfg(test)]
mod tests;
mod ticks;
mod waits;
mod write;

use diesel::SqliteConnection;

use connection::{ReadPool, Writer};
use error::Fault;
use migration::Schema;
pub use options::{OpenMode, SqliteOptions, Synchronous};

use super::{Changes, Request, Response, Store, StoreError};

/// A store in an SQLite database.
pub struct SqliteStore {
    location: String,
    writer: Writer,
    readers: Option<ReadPool>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens a database. Creates and migrates it if the options allow it.
    ///
    /// # Errors
    /// Returns an error if the path, the file or its schema cannot be used. A failed call leaves no
    /// new file behind.
    pub fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        let open::Opened {
            location,
            writer,
            readers,
        } = open::open(options)?;
        Ok(Self {
            location,
            writer,
            readers,
        })
    }

    /// Returns the newest applied schema version, if any. Changes nothing.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    pub fn schema_version(options: &SqliteOptions) -> Result<Option<String>, StoreError> {
        open::schema(options).map(|Schema { mut applied, .. }| applied.pop())
    }

    /// Returns the schema versions that are not applied yet, oldest first. Changes nothing.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    pub fn pending_migrations(options: &SqliteOptions) -> Result<Vec<String>, StoreError> {
        open::schema(options).map(|schema| schema.pending)
    }

    /// Returns another store on the same in-memory database, for a runner of this process. The change marker of the
    /// returned store reports the writes of all other stores on the database. The change marker of an
    /// in-memory store that [`open`](Self::open) has returned never changes.
    ///
    /// # Panics
    /// Panics if the database is a file. A caller can open the file again instead.
    #[must_use]
    pub fn share(&self) -> Self {
        assert!(
            self.readers.is_none(),
            "only an in-memory database can be shared"
        );
        Self {
            location: self.location.clone(),
            writer: self.writer.share(),
            readers: None,
        }
    }

    /// Runs `work`, which reads from one snapshot.
    fn read<T>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        match &self.readers {
            // No other thread can write while this thread holds the only connection.
            None => self
                .writer
                .lock()
                .and_then(|mut connection| work(&mut connection)),
            Some(readers) => readers.run(|connection| connection::read(connection, work)),
        }
        .map_err(|fault| self.error(fault))
    }

    /// Runs `work`, which opens its own transactions to write.
    fn write<T>(&self, work: impl FnOnce(&Writer) -> Result<T, Fault>) -> Result<T, StoreError> {
        work(&self.writer).map_err(|fault| self.error(fault))
    }

    fn error(&self, fault: Fault) -> StoreError {
        fault.at(&self.location)
    }
}

impl Store for SqliteStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn close(&self) {
        self.writer.close();
        if let Some(readers) = &self.readers {
            readers.close();
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm per request")]
    fn call(&self, request: Request<'_>) -> Result<Response, StoreError> {
        Ok(match request {
            Request::PutDefinition { workflow, now } => Response::PutDefinition(
                self.write(|writer| definition::put(writer, workflow, now))?,
            ),
            Request::Definition { id } => {
                Response::Definition(self.read(|connection| definition::get(connection, id))?)
            }
            Request::Definitions { after } => {
                Response::Definitions(self.read(|connection| definition::after(connection, after))?)
            }
            Request::Versions { after } => {
                Response::Versions(self.read(|connection| definition::versions(connection, after))?)
            }
            Request::CountDefinitions {} => {
                Response::CountDefinitions(self.read(definition::count)?)
            }
            Request::Commit { batch } => {
                Response::Commit(self.write(|writer| commit::commit(writer, batch))?)
            }
            Request::Load { ids } => {
                Response::Load(self.read(|connection| load::executions(connection, ids, true))?)
            }
            Request::Outlines { ids } => Response::Outlines(
                self.read(|connection| load::executions(connection, ids, false))?,
            ),
            Request::Summaries { ids } => {
                Response::Summaries(self.read(|connection| summary::summaries(connection, ids))?)
            }
            Request::Statuses { ids } => {
                Response::Statuses(self.read(|connection| load::statuses(connection, ids))?)
            }
            Request::List { query } => {
                Response::List(self.read(|connection| list::list(connection, query))?)
            }
            Request::History { id } => {
                Response::History(self.read(|connection| load::history(connection, id))?)
            }
            Request::Steps { id, task } => {
                Response::Steps(self.read(|connection| steps::load(connection, id, task))?)
            }
            Request::ItemSteps { id, task, item } => Response::ItemSteps(
                self.read(|connection| map_reads::steps(connection, id, task, item))?,
            ),
            Request::Maps { ids } => {
                Response::Maps(self.read(|connection| map_reads::maps(connection, ids))?)
            }
            Request::Items { query } => {
                Response::Items(self.read(|connection| map_reads::items(connection, query))?)
            }
            Request::ItemResults { query } => Response::ItemResults(
                self.read(|connection| map_reads::item_results(connection, query))?,
            ),
            Request::ItemsBefore { query } => Response::ItemsBefore(
                self.read(|connection| map_reads::items_before(connection, query))?,
            ),
            Request::ItemsOf { runner, limit } => Response::ItemsOf(
                self.read(|connection| map_reads::items_of(connection, runner, limit))?,
            ),
            Request::SetMap { id, task, parallel } => Response::SetMap(self.write(|writer| {
                let connection = &mut *writer.lock()?;
                writer.write(connection, |connection| {
                    maps::set_parallel(connection, id, task, parallel)
                })
            })?),
            Request::Overdue { now } => {
                Response::Overdue(self.read(|connection| list::overdue(connection, now))?)
            }
            Request::RegisterRunner { row } => {
                Response::RegisterRunner(self.write(|writer| runner::register(writer, row))?)
            }
            Request::Heartbeat {
                runner,
                now,
                lease_until,
            } => Response::Heartbeat(
                self.write(|writer| runner::heartbeat(writer, runner, now, lease_until))?,
            ),
            Request::Runners {} => Response::Runners(self.read(runner::living)?),
            Request::DeclareDead {
                runner,
                seen_lease,
                now,
            } => Response::DeclareDead(
                self.write(|writer| runner::declare_dead(writer, runner, seen_lease, now))?,
            ),
            Request::ClaimsOf { runner } => {
                Response::ClaimsOf(self.read(|connection| runner::claims_of(connection, runner))?)
            }
            Request::DeadRunners {} => Response::DeadRunners(self.read(runner::dead)?),
            Request::RetireRunner { runner } => {
                Response::RetireRunner(self.write(|writer| runner::retire(writer, runner))?)
            }
            Request::Changes { busy: _ } => {
                Response::Changes(Changes::of(self.write(Writer::change_marker)?))
            }
            Request::Prune { before, limit } => {
                Response::Prune(self.write(|writer| prune::prune(writer, before, limit))?)
            }
            Request::CountPrunable { before, limit } => Response::CountPrunable(
                self.read(|connection| prune::count(connection, before, limit))?,
            ),
            Request::DeleteExecution { id } => {
                Response::DeleteExecution(self.write(|writer| prune::delete(writer, id))?)
            }
            Request::PutSchedule { record, expected } => {
                Response::PutSchedule(self.write(|writer| schedule::put(writer, record, expected))?)
            }
            Request::Schedule { id } => Response::Schedule(
                self.read(|connection| schedule::by_id(connection, id))?
                    .into(),
            ),
            Request::ScheduleOf { kind, identity } => Response::ScheduleOf(
                self.read(|connection| schedule::by_identity(connection, kind, identity))?
                    .into(),
            ),
            Request::Schedules { query } => {
                Response::Schedules(self.read(|connection| schedule::list(connection, query))?)
            }
            Request::DueSchedules { query, now } => Response::DueSchedules(
                self.read(|connection| schedule::due(connection, query, now))?,
            ),
            Request::PendingEnds {
                schedule,
                now,
                limit,
            } => Response::PendingEnds(
                self.read(|connection| ends::pending(connection, schedule, now, limit))?,
            ),
            Request::Ticks {
                schedule,
                limit,
                offset,
            } => Response::Ticks(
                self.read(|connection| ticks::ticks(connection, schedule, limit, offset))?,
            ),
            Request::TicksFrom {
                schedule,
                from,
                ascending,
                limit,
            } => Response::TicksFrom(self.read(|connection| {
                ticks::ticks_from(connection, schedule, from, ascending, limit)
            })?),
            Request::CountTicks { kind, since } => {
                Response::CountTicks(self.read(|connection| ticks::count(connection, kind, since))?)
            }
            Request::Announce {
                runner,
                workflows,
                offers,
            } => Response::Announce(
                self.write(|writer| insight::announce(writer, runner, workflows, offers))?,
            ),
            Request::Withdraw { runner, seen_at } => {
                Response::Withdraw(self.write(|writer| insight::withdraw(writer, runner, seen_at))?)
            }
            Request::Offers { workflow } => {
                Response::Offers(self.read(|connection| insight::offers(connection, workflow))?)
            }
            Request::NoteInsight { progress, logs } => {
                Response::NoteInsight(self.write(|writer| insight::note(writer, progress, logs))?)
            }
            Request::NoteStarts { starts } => {
                Response::NoteStarts(self.write(|writer| insight::note_starts(writer, starts))?)
            }
            Request::Progress { id } => {
                Response::Progress(self.read(|connection| insight::progress(connection, id))?)
            }
            Request::Logs { id } => {
                Response::Logs(self.read(|connection| insight::logs(connection, id))?)
            }
            Request::Backlog { limit } => {
                Response::Backlog(self.read(|connection| insight::backlog(connection, limit))?)
            }
            Request::ReadyExecutions {
                now,
                per_queue,
                limit,
            } => Response::ReadyExecutions(
                self.read(|connection| ready::executions(connection, now, per_queue, limit))?,
            ),
            Request::CountWaits { kind, limit } => Response::CountWaits(
                self.read(|connection| insight::count_waits(connection, kind, limit))?,
            ),
            Request::CountStates { limit } => {
                Response::CountStates(self.read(|connection| counting::states(connection, limit))?)
            }
            Request::CountBetween {
                after,
                before,
                limit,
            } => Response::CountBetween(
                self.read(|connection| counting::between(connection, after, before, limit))?,
            ),
            Request::Payload { id, task, limit } => Response::Payload(
                self.read(|connection| counting::payload(connection, id, task, limit))?,
            ),
            Request::Marker {} => Response::Marker(self.write(Writer::marker)?),
            Request::Send {
                runner: _,
                signals,
                settled,
                now,
            } => Response::Send(self.write(|writer| signals::send(writer, signals, settled, now))?),
            Request::AdvanceInbox { message, now } => {
                Response::AdvanceInbox(self.write(|writer| signals::advance(writer, message, now))?)
            }
            Request::Post { message } => {
                Response::Post(self.write(|writer| signals::post(writer, message))?)
            }
            Request::NoteInbox { id, note } => {
                Response::NoteInbox(self.write(|writer| signals::note(writer, id, note))?)
            }
            Request::DueWaits { now, limit } => {
                Response::DueWaits(self.read(|connection| waits::due(connection, now, limit))?)
            }
            Request::Signals { cursors } => {
                Response::Signals(self.read(|connection| signals::behind(connection, cursors))?)
            }
            Request::CountOtherSignals {
                name,
                topics,
                limit,
            } => Response::CountOtherSignals(
                self.read(|connection| signals::count_others(connection, name, topics, limit))?,
            ),
            Request::Waits { query } => {
                Response::Waits(self.read(|connection| waits::list(connection, query))?)
            }
            Request::PruneSignals { before, limit } => {
                Response::PruneSignals(self.write(|writer| signals::prune(writer, before, limit))?)
            }
            Request::Check {} => Response::Check(self.read(insight::check)?),
            // Nothing to do, because all runners on an SQLite database poll their change markers.
            Request::NotifyPeers {} => Response::NotifyPeers(()),
        })
    }
}
