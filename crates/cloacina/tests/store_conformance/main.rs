//! One test suite for every store. Each case gets a fresh store and checks one fact that the engine relies on.

#![expect(
    clippy::unwrap_used,
    reason = "a failing step of a test is its failure"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "a case owns its store and drops it with its files"
)]

#[cfg(feature = "postgres")]
#[path = "../support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;

#[path = "../support/records.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod records;

mod claiming;
mod definition;
mod insight;
mod listing;
mod round_trip;
mod runner;
mod schedule;
mod world;
mod writing;

/// Expands to one test per case of each module, for one kind of store.
macro_rules! conformance {
    ($store:ident, $make:expr) => {
        conformance! { @modules $store, $make;
            definition {
                a_stored_version_keeps_its_id_and_updates_its_description
                a_changed_task_makes_a_new_version
                definitions_are_listed_oldest_first_after_an_id
                b7_versions_from_the_start_are_the_newest_and_used_ones
                b7_pruning_deletes_unneeded_old_versions
                definitions_are_counted_by_version
                an_unknown_definition_is_none
            }
            round_trip {
                every_execution_column_is_read_back
                every_task_column_is_read_back
                b19_a_summary_omits_input_and_task_results
                contexts_keep_unicode_escapes_big_numbers_and_order
                a_pending_task_has_no_row_unless_one_was_written
                load_keeps_the_order_and_omits_unknown_ids
                statuses_omit_unknown_ids
                history_is_oldest_first
                an_execution_can_have_ten_thousand_tasks
                a_large_input_survives_many_updates
            }
            writing {
                an_empty_batch_does_nothing_even_for_an_unknown_runner
                duplicate_key_returns_the_first_id
                a_duplicate_within_one_batch_returns_the_first_id
                the_same_key_of_another_workflow_is_another_execution
                a_submission_sent_again_returns_its_own_id
                a_key_is_free_again_after_pruning
                stale_advance_writes_nothing
                an_advance_of_an_unknown_execution_writes_nothing
                two_advances_of_one_execution_apply_in_order
                one_stale_advance_does_not_stop_the_others
                a_submitted_execution_advances_in_the_same_batch
                late_finish_of_a_lost_claim_is_refused
                a_failed_fence_rolls_back_the_batch
                a_task_that_has_ended_cannot_be_finished_again
                an_insert_over_a_row_rolls_back_the_batch
                an_update_without_a_row_rolls_back_the_batch
                a_submission_of_an_unknown_definition_refuses_the_batch
                dead_runners_commit_is_refused
                a_runner_that_never_registered_cannot_claim
                control_without_a_claim_needs_no_live_runner
            }
            claiming {
                a_claim_sets_the_task_and_its_execution
                claims_are_ordered_by_priority_age_and_declaration
                a_class_claims_up_to_its_limit_and_reports_more
                a_limit_of_zero_only_reports_whether_there_is_work
                queues_of_one_class_share_its_limit_and_order
                classes_do_not_share_their_limits
                two_classes_of_one_queue_claim_distinct_tasks
                a_queue_named_twice_yields_each_task_once
                other_queues_are_not_claimed
                excluded_tasks_are_not_claimed
                each_claimed_task_increases_the_revision
                a_batch_can_claim_tasks_that_it_makes_ready
                a_waiting_task_is_claimed_when_it_is_due
                next_due_covers_only_the_requested_queues
                a_waiting_task_competes_by_priority_and_age
                waiting_tasks_are_claimed_up_to_the_limit
                a_paused_execution_is_not_claimed
                a_retried_task_is_claimed_with_its_next_attempt
                u5_a_claimed_execution_is_pending_until_a_start_is_written
                u5_an_advance_keeps_the_earliest_start
                concurrent_claimers_get_distinct_tasks
            }
            runner {
                a_registered_runner_is_listed_and_can_heartbeat
                a_runner_with_an_extended_lease_is_not_declared_dead
                a_dead_runner_stays_dead
                claims_of_finds_running_tasks_also_of_paused_executions
                a_runner_with_claims_cannot_be_retired
                a_retired_runner_is_gone
                registering_again_changes_nothing
            }
            insight {
                an_announcement_updates_the_row_and_keeps_the_offers
                a_dead_runners_announcement_does_not_change_its_row
                a_withdrawn_offer_is_kept_until_a_later_equal_one
                a_withdrawal_without_a_time_is_dated_by_the_last_heartbeat
                the_last_progress_of_the_latest_attempt_is_kept
                log_lines_are_returned_in_order
                the_backlog_is_counted_up_to_its_limit
                pruning_deletes_progress_and_logs
                a_sound_database_has_no_problems
            }
            schedule {
                every_schedule_column_is_read_back
                an_identity_is_unique_until_its_schedule_is_deleted
                a_stale_change_of_a_schedule_is_refused
                due_schedules_are_earliest_first_with_the_next_due_time
                only_named_triggers_are_due
                schedules_are_listed_by_kind_oldest_first
                a_tick_submits_its_execution_and_is_in_the_history
                a_stale_schedule_drops_only_its_submissions
                a_known_tick_drops_only_its_submission
                a_queued_tick_fires_later
                a_refused_batch_changes_no_schedule
                ticks_are_counted_by_outcome_and_pruned
                concurrent_runners_fire_a_tick_once
            }
            listing {
                executions_are_listed_newest_first_by_page
                executions_are_listed_by_state_workflow_definition_and_time
                executions_are_listed_by_keys
                executions_are_listed_by_several_states
                an_unknown_workflow_lists_nothing
                overdue_finds_running_executions_and_the_next_deadline
                only_a_running_execution_can_be_overdue
                prune_deletes_the_oldest_ended_executions_with_their_rows
                prune_keeps_open_and_younger_executions
                prune_continues_past_open_executions
                prune_stops_at_its_limit
                an_ended_execution_that_runs_again_is_not_pruned
            }
        }
    };
    (@modules $store:ident, $make:expr; $($module:ident { $($case:ident)* })*) => {
        mod $store {
            use super::*;

            $(mod $module {
                use super::*;

                $(#[test]
                fn $case() {
                    crate::$module::$case($make);
                })*
            })*
        }
    };
}

#[cfg(feature = "sqlite")]
mod sqlite_subject {
    use std::sync::Arc;

    use cloacina::store::sqlite::{SqliteOptions, SqliteStore};

    use super::world::Subject;

    pub fn file() -> Subject {
        let folder = tempfile::tempdir().unwrap();
        let store =
            SqliteStore::open(&SqliteOptions::file(folder.path().join("store.db"))).unwrap();
        Subject {
            store: Arc::new(store),
            keep: Some(Box::new(folder)),
        }
    }

    pub fn memory() -> Subject {
        Subject {
            store: Arc::new(SqliteStore::open(&SqliteOptions::memory()).unwrap()),
            keep: None,
        }
    }
}

#[cfg(feature = "sqlite")]
conformance!(sqlite_file, sqlite_subject::file());
#[cfg(feature = "sqlite")]
conformance!(sqlite_memory, sqlite_subject::memory());

#[cfg(feature = "postgres")]
mod postgres_subject {
    use std::sync::Arc;

    use cloacina::store::postgres::{PostgresOptions, PostgresStore};

    use super::private_postgres::{fresh_name, shared};
    use super::world::Subject;

    pub fn schema(parameters: &str) -> Subject {
        let url = format!("{}?{parameters}", shared());
        let options = PostgresOptions::from_url(&url)
            .unwrap()
            .with_schema(&fresh_name())
            .unwrap();
        Subject {
            store: Arc::new(PostgresStore::open(&options).unwrap()),
            keep: None,
        }
    }
}

#[cfg(feature = "postgres")]
conformance!(postgres, postgres_subject::schema(""));
#[cfg(feature = "postgres")]
conformance!(postgres_pooled, postgres_subject::schema("pgbouncer=true"));
