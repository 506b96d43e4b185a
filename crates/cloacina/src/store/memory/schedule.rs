//! Schedules and their ticks in the tables.

use std::collections::HashSet;

use super::commit::Undo;
use super::table::Tables;
use crate::store::{DueQuery, DueSchedules, Put, ScheduleQuery, ScheduleWrite, TickWrite};
use crate::types::{
    ExecutionId, ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome, TickRecord, Timestamp,
};

pub(super) fn of(tables: &Tables, kind: ScheduleKind, identity: &str) -> Option<ScheduleRecord> {
    let mut living = living(tables, kind);
    living.find(|record| record.identity == identity).cloned()
}

fn living(tables: &Tables, kind: ScheduleKind) -> impl Iterator<Item = &ScheduleRecord> {
    tables
        .schedules
        .values()
        .filter(move |record| record.kind == kind && record.deleted_at.is_none())
}

pub(super) fn put(tables: &mut Tables, record: &ScheduleRecord, expected: Option<i64>) -> Put {
    let holder = of(tables, record.kind, &record.identity);
    if let Some(holder) = holder.filter(|holder| holder.id != record.id) {
        return Put::Exists(holder.id);
    }
    let known = tables.schedules.get(&record.id);
    let fits = match expected {
        None => known.is_none(),
        Some(expected) => known.is_some_and(|known| is_at(known, expected)),
    };
    if !fits {
        return Put::Changed;
    }
    tables.schedules.insert(record.id, record.clone());
    Put::Written
}

fn is_at(known: &ScheduleRecord, expected: i64) -> bool {
    known.revision == expected && known.deleted_at.is_none()
}

/// Applies a change with its ticks, noting executions that must not be submitted.
pub(super) fn apply(
    tables: &mut Tables,
    write: &ScheduleWrite,
    now: Timestamp,
    dropped: &mut HashSet<ExecutionId>,
    undo: &mut Vec<Undo>,
) -> bool {
    let id = write.record.id;
    let known = tables.schedules.get_mut(&id);
    let Some(known) = known.filter(|known| is_at(known, write.expected)) else {
        dropped.extend(write.ticks.iter().filter_map(|tick| tick.execution));
        return false;
    };
    let before = std::mem::replace(known, write.record.clone());
    undo.push(Undo::Schedule(Box::new(before)));
    for tick in write.ticks {
        let key = (id, tick.due_at);
        let before = tables.ticks.get(&key).cloned();
        if before
            .as_ref()
            .is_some_and(|tick| tick.outcome != TickOutcome::Queued)
        {
            dropped.extend(tick.execution);
            continue;
        }
        let created_at = before.as_ref().map_or(now, |tick| tick.created_at);
        undo.push(Undo::Tick(key, before));
        tables.ticks.insert(key, row(id, tick, created_at, now));
    }
    true
}

fn row(
    schedule: ScheduleId,
    tick: &TickWrite,
    created_at: Timestamp,
    now: Timestamp,
) -> TickRecord {
    TickRecord {
        schedule,
        due_at: tick.due_at,
        outcome: tick.outcome,
        execution: tick.execution,
        created_at,
        updated_at: now,
        detail: tick.detail.clone(),
    }
}

pub(super) fn list(tables: &Tables, query: &ScheduleQuery) -> Vec<ScheduleRecord> {
    let wanted = living(tables, query.kind).filter(|record| record.enabled || !query.enabled_only);
    wanted
        .skip(query.offset)
        .take(query.limit)
        .cloned()
        .collect()
}

pub(super) fn due(tables: &Tables, query: &DueQuery, now: Timestamp) -> DueSchedules {
    let mut found = DueSchedules::default();
    for kind in [ScheduleKind::Cron, ScheduleKind::Trigger] {
        let mut waiting: Vec<(Timestamp, &ScheduleRecord)> = living(tables, kind)
            .filter(|record| match kind {
                ScheduleKind::Cron => query.cron,
                ScheduleKind::Trigger => query.triggers.contains(&record.identity),
            })
            .filter_map(|record| record.wake_at.map(|at| (at, record)))
            .collect();
        waiting.sort_by_key(|(at, record)| (*at, record.id));
        let count = waiting.partition_point(|(at, _)| *at <= now);
        let next = waiting.get(count).map(|(at, _)| *at);
        found.next = found.next.into_iter().chain(next).min();
        let due = waiting[..count].iter().take(query.limit);
        found.due.extend(due.map(|(_, record)| (*record).clone()));
    }
    found
}

pub(super) fn ticks(
    tables: &Tables,
    schedule: ScheduleId,
    limit: usize,
    offset: usize,
) -> Vec<TickRecord> {
    let all = tables
        .ticks
        .range((schedule, Timestamp(i64::MIN))..=(schedule, Timestamp(i64::MAX)));
    let newest_first = all.rev().map(|(_, tick)| tick);
    newest_first.skip(offset).take(limit).cloned().collect()
}

pub(super) fn count(
    tables: &Tables,
    kind: ScheduleKind,
    since: Timestamp,
) -> Vec<(TickOutcome, u64)> {
    let counted = tables.ticks.values().filter(|tick| {
        let schedule = tables.schedules.get(&tick.schedule);
        tick.due_at >= since && schedule.is_some_and(|schedule| schedule.kind == kind)
    });
    let mut counts = std::collections::BTreeMap::<TickOutcome, u64>::new();
    for tick in counted {
        *counts.entry(tick.outcome).or_default() += 1;
    }
    counts.into_iter().collect()
}

pub(super) fn prune(tables: &mut Tables, before: Timestamp, limit: usize) {
    let old: Vec<(ScheduleId, Timestamp)> = tables
        .ticks
        .values()
        .filter(|tick| tick.due_at < before && tick.outcome != TickOutcome::Queued)
        .map(|tick| (tick.schedule, tick.due_at))
        .take(limit)
        .collect();
    for key in old {
        tables.ticks.remove(&key);
    }
}
