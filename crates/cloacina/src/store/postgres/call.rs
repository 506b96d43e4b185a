//! Dispatches each store request to the function that answers it.

use super::runner::RunnerCache;
use super::{
    PostgresStore, counting, definition, ends, inbox, list, load, map_reads, maps, prune, ready,
    runner, schedule, signals, steps, summary, ticks, waits,
};
use crate::store::{Request, Response, StoreError};

impl PostgresStore {
    #[expect(clippy::too_many_lines, reason = "each request has one arm")]
    pub(super) fn answer(&self, request: Request<'_>) -> Result<Response, StoreError> {
        Ok(match request {
            Request::PutDefinition { workflow, now } => {
                Response::PutDefinition(self.put_definition(workflow, now)?)
            }
            Request::Definition { id } => {
                Response::Definition(self.read(async |connection, session| {
                    definition::get(connection, session, id).await
                })?)
            }
            Request::Definitions { after } => {
                Response::Definitions(self.read(async |connection, session| {
                    definition::after(connection, session, after).await
                })?)
            }
            Request::Versions { after } => {
                Response::Versions(self.read(async |connection, session| {
                    definition::versions(connection, session, after).await
                })?)
            }
            Request::CountDefinitions {} => {
                Response::CountDefinitions(self.read(definition::count)?)
            }
            Request::Commit { batch } => Response::Commit(self.commit(batch)?),
            Request::Load { ids } => Response::Load(self.read(async |connection, session| {
                load::executions(connection, session, ids, true).await
            })?),
            Request::Outlines { ids } => {
                Response::Outlines(self.read(async |connection, session| {
                    load::executions(connection, session, ids, false).await
                })?)
            }
            Request::Summaries { ids } => {
                Response::Summaries(self.read(async |connection, session| {
                    summary::summaries(connection, session, ids).await
                })?)
            }
            Request::Statuses { ids } => {
                Response::Statuses(self.read(async |connection, session| {
                    load::statuses(connection, session, ids).await
                })?)
            }
            Request::List { query } => {
                Response::List(self.read(async |connection, session| {
                    list::list(connection, session, query).await
                })?)
            }
            Request::History { id } => {
                Response::History(self.read(async |connection, session| {
                    load::history(connection, session, id).await
                })?)
            }
            Request::Steps { id, task } => {
                Response::Steps(self.read(async |connection, session| {
                    steps::load(connection, session, id, task).await
                })?)
            }
            Request::ItemSteps { id, task, item } => {
                Response::ItemSteps(self.read(async |connection, session| {
                    map_reads::steps(connection, session, id, task, item).await
                })?)
            }
            Request::Maps { ids } => Response::Maps(self.read(async |connection, session| {
                map_reads::maps(connection, session, ids).await
            })?),
            Request::Items { query } => {
                Response::Items(self.read(async |connection, session| {
                    map_reads::items(connection, session, query).await
                })?)
            }
            Request::ItemResults { query } => {
                Response::ItemResults(self.read(async |connection, session| {
                    map_reads::item_results(connection, session, query).await
                })?)
            }
            Request::ItemsBefore { query } => {
                Response::ItemsBefore(self.read(async |connection, session| {
                    map_reads::items_before(connection, session, query).await
                })?)
            }
            Request::ItemsOf { runner, limit } => {
                Response::ItemsOf(self.read(async |connection, session| {
                    map_reads::items_of(connection, session, runner, limit).await
                })?)
            }
            Request::SetMap { id, task, parallel } => {
                Response::SetMap(self.write(async |connection, session| {
                    maps::set_parallel(connection, session, id, task, parallel).await
                })?)
            }
            Request::Overdue { now } => {
                Response::Overdue(self.read(async |connection, session| {
                    list::overdue(connection, session, now).await
                })?)
            }
            Request::RegisterRunner { row } => Response::RegisterRunner(self.register_runner(row)?),
            Request::Heartbeat {
                runner,
                now,
                lease_until,
            } => Response::Heartbeat(self.heartbeat(runner, now, lease_until)?),
            Request::Runners {} => Response::Runners(
                self.with_runner_cache(RunnerCache::living)?
                    .unwrap_or_default(),
            ),
            Request::DeclareDead {
                runner,
                seen_lease,
                now: _,
            } => Response::DeclareDead(self.declare_dead(runner, seen_lease)?),
            Request::ClaimsOf { runner } => {
                Response::ClaimsOf(self.read(async |connection, session| {
                    runner::claims_of(connection, session, runner).await
                })?)
            }
            Request::DeadRunners {} => Response::DeadRunners(
                self.with_runner_cache(|runner_cache| runner_cache.dead())?
                    .unwrap_or_default(),
            ),
            Request::RetireRunner { runner } => Response::RetireRunner(self.retire_runner(runner)?),
            Request::Changes { busy } => Response::Changes(self.changes(busy)?),
            Request::Prune { before, limit } => {
                let cursor = &self.prune_cursor;
                Response::Prune(self.write(async |connection, session| {
                    prune::prune(connection, session, cursor, before, limit).await
                })?)
            }
            Request::CountPrunable { before, limit } => {
                Response::CountPrunable(self.read(async |connection, session| {
                    prune::count(connection, session, before, limit).await
                })?)
            }
            Request::DeleteExecution { id } => {
                Response::DeleteExecution(self.write(async |connection, session| {
                    prune::delete(connection, session, id).await
                })?)
            }
            Request::PutSchedule { record, expected } => {
                Response::PutSchedule(self.put_schedule(record, expected)?)
            }
            Request::Schedule { id } => Response::Schedule(
                self.read(async |connection, session| {
                    schedule::by_id(connection, session, id).await
                })?
                .into(),
            ),
            Request::ScheduleOf { kind, identity } => Response::ScheduleOf(
                self.read(async |connection, session| {
                    schedule::by_identity(connection, session, kind, identity.to_owned()).await
                })?
                .into(),
            ),
            Request::Schedules { query } => {
                Response::Schedules(self.read(async |connection, session| {
                    schedule::list(connection, session, query).await
                })?)
            }
            Request::DueSchedules { query, now } => {
                Response::DueSchedules(self.read(async |connection, session| {
                    schedule::due(connection, session, query, now).await
                })?)
            }
            Request::PendingEnds {
                schedule,
                now,
                limit,
            } => Response::PendingEnds(self.read(async |connection, session| {
                ends::pending(connection, session, schedule, now, limit).await
            })?),
            Request::Ticks {
                schedule,
                limit,
                offset,
            } => Response::Ticks(self.read(async |connection, session| {
                ticks::ticks(connection, session, schedule, limit, offset).await
            })?),
            Request::TicksFrom {
                schedule,
                from,
                ascending,
                limit,
            } => Response::TicksFrom(self.read(async |connection, session| {
                ticks::ticks_from(connection, session, schedule, from, ascending, limit).await
            })?),
            Request::CountTicks { kind, since } => {
                Response::CountTicks(self.read(async |connection, session| {
                    ticks::count(connection, session, kind, since).await
                })?)
            }
            Request::Announce {
                runner,
                workflows,
                offers,
            } => Response::Announce(self.announce(runner, workflows, offers)?),
            Request::Withdraw { runner, seen_at } => {
                Response::Withdraw(self.withdraw(runner, seen_at)?)
            }
            Request::Offers { workflow } => Response::Offers(self.offers(workflow)?),
            Request::NoteInsight { progress, logs } => {
                Response::NoteInsight(self.note_insight(progress, logs)?)
            }
            Request::NoteStarts { starts } => Response::NoteStarts(self.note_starts(starts)?),
            Request::Progress { id } => Response::Progress(self.progress(id)?),
            Request::Logs { id } => Response::Logs(self.logs(id)?),
            Request::CountWaits { kind, limit } => {
                Response::CountWaits(self.count_waits(kind, limit)?)
            }
            Request::Backlog { limit } => Response::Backlog(self.backlog(limit)?),
            Request::ReadyExecutions {
                now,
                per_queue,
                limit,
            } => Response::ReadyExecutions(self.read(async |connection, session| {
                ready::executions(connection, session, now, per_queue, limit).await
            })?),
            Request::CountStates { limit } => {
                Response::CountStates(self.read(async |connection, session| {
                    counting::states(connection, session, limit).await
                })?)
            }
            Request::CountBetween {
                after,
                before,
                limit,
            } => Response::CountBetween(self.read(async |connection, session| {
                counting::between(connection, session, after, before, limit).await
            })?),
            Request::Payload { id, task, limit } => {
                Response::Payload(self.read(async |connection, session| {
                    counting::payload(connection, session, id, task, limit).await
                })?)
            }
            Request::Marker {} => Response::Marker(self.marker()?),
            Request::Send {
                runner,
                signals,
                settled,
                now,
            } => Response::Send(self.send(runner, signals, settled, now)?),
            Request::AdvanceInbox { message, now } => {
                Response::AdvanceInbox(self.write(async |connection, session| {
                    signals::advance(connection, session, message, now).await
                })?)
            }
            Request::Post { message } => Response::Post(self.post(message)?),
            Request::NoteInbox { id, note } => {
                Response::NoteInbox(self.write(async |connection, session| {
                    inbox::note(connection, session, id, note).await
                })?)
            }
            Request::DueWaits { now, limit } => {
                Response::DueWaits(self.read(async |connection, session| {
                    waits::due(connection, session, now, limit).await
                })?)
            }
            Request::Signals { cursors } => {
                Response::Signals(self.read(async |connection, session| {
                    signals::behind(connection, session, cursors).await
                })?)
            }
            Request::CountOtherSignals {
                name,
                topics,
                limit,
            } => Response::CountOtherSignals(self.read(async |connection, session| {
                signals::count_others(connection, session, name, topics, limit).await
            })?),
            Request::Waits { query } => {
                Response::Waits(self.read(async |connection, session| {
                    waits::list(connection, session, query).await
                })?)
            }
            Request::PruneSignals { before, limit } => {
                Response::PruneSignals(self.write(async |connection, session| {
                    signals::prune(connection, session, before, limit).await
                })?)
            }
            Request::Check {} => Response::Check(self.check()?),
            Request::NotifyPeers {} => Response::NotifyPeers(self.notify_peers()?),
        })
    }
}
