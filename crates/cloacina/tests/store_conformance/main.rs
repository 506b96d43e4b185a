//! One suite for every store. A case gets a fresh store and states one fact that the engine relies on.

#![expect(
    clippy::unwrap_used,
    reason = "a failing step of a test is its failure"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "a case owns its store, and drops it with its files"
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

/// Expands to one test per case of each module, for one way to make a store.
macro_rules! conformance {
    ($store:ident, $make:expr) => {
        conformance! { @modules $store, $make;
            definition {
                a_known_version_keeps_its_id_and_gets_the_new_description
                a_changed_task_makes_a_new_version
                definitions_come_oldest_first_and_after_a_given_one
                b7_versions_from_the_beginning_are_the_last_and_those_in_use
                b7_pruning_deletes_old_versions_that_nothing_needs
                definitions_are_counted_by_version
                an_unknown_definition_is_none
            }
            round_trip {
                every_column_of_an_execution_comes_back
                every_column_of_a_task_comes_back
                b19_a_summary_is_all_but_the_input_and_what_tasks_wrote
                contexts_keep_unicode_escapes_big_numbers_and_order
                a_pending_task_has_no_row_unless_one_was_written
                load_keeps_the_given_order_and_leaves_unknown_ids_out
                statuses_leave_unknown_ids_out
                history_comes_oldest_first
                ten_thousand_tasks_of_one_execution_are_written_claimed_and_loaded
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
                a_fence_that_does_not_hold_rolls_everything_back
                a_task_that_has_ended_cannot_be_finished_again
                an_insert_over_a_row_rolls_everything_back
                an_update_without_a_row_rolls_everything_back
                a_submission_of_an_unknown_definition_is_refused_whole
                dead_runners_commit_is_refused
                a_runner_that_never_registered_cannot_claim
                control_without_a_claim_needs_no_living_runner
            }
            claiming {
                a_claim_sets_the_task_and_its_execution
                higher_priority_first_then_older_then_declaration
                a_class_takes_no_more_than_its_limit_and_says_that_there_is_more
                a_limit_of_zero_only_tells_whether_there_is_work
                queues_of_one_class_share_its_limit_and_order
                classes_do_not_share_their_limits
                two_classes_over_one_queue_never_take_a_task_twice
                a_queue_that_is_named_twice_gives_each_task_once
                other_queues_are_left_alone
                excluded_tasks_are_left_alone
                several_tasks_of_one_execution_raise_its_revision_each
                what_a_batch_makes_ready_it_can_claim
                a_waiting_task_is_claimed_from_its_time_on
                the_next_due_time_is_that_of_the_requested_queues
                a_waiting_task_competes_by_priority_and_age
                more_waiting_tasks_than_the_limit
                a_paused_execution_is_not_claimed
                a_retried_task_is_claimed_with_its_next_attempt
                the_first_start_of_an_execution_stays
                concurrent_claimers_never_get_the_same_task
            }
            runner {
                a_registered_runner_is_listed_and_beats
                a_lease_that_moved_is_left_alone
                a_dead_runner_stays_dead
                claims_of_finds_running_tasks_also_of_paused_executions
                a_runner_with_claims_cannot_be_retired
                a_retired_runner_is_gone
                registering_again_changes_nothing
            }
            insight {
                an_announcement_updates_the_row_and_keeps_the_offers
                a_dead_runners_announcement_leaves_its_row
                a_withdrawn_offer_stays_until_its_like_goes_too
                a_withdrawal_without_a_time_is_dated_by_the_last_heartbeat
                the_last_word_of_the_latest_attempt_counts
                log_lines_come_in_their_order
                the_backlog_is_counted_up_to_its_limit
                pruning_takes_progress_and_logs_along
                a_sound_database_has_no_problems
            }
            schedule {
                a_schedule_comes_back_whole
                an_identity_is_taken_once_and_free_after_a_deletion
                a_stale_change_of_a_schedule_is_refused
                due_schedules_come_earliest_first_with_the_next_one
                due_triggers_are_those_that_are_named
                schedules_are_listed_by_kind_oldest_first
                a_tick_submits_its_execution_and_is_in_the_history
                a_stale_schedule_drops_its_submissions_and_nothing_else
                a_tick_that_is_there_drops_its_submission_and_nothing_else
                a_queued_tick_fires_later
                a_refused_batch_changes_no_schedule
                ticks_are_counted_by_outcome_and_pruned
                concurrent_runners_fire_a_tick_once
            }
            listing {
                newest_first_page_by_page
                by_state_workflow_definition_and_time
                by_several_states_at_once
                an_unknown_workflow_lists_nothing
                overdue_finds_running_executions_and_the_next_deadline
                only_a_running_execution_can_be_overdue
                prune_deletes_the_oldest_ended_with_all_that_belongs_to_them
                prune_leaves_open_and_younger_executions_alone
                prune_goes_on_past_open_executions
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
