//! A test suite that runs against every store. Each case gets a fresh store and checks one fact on which the engine
//! relies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
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

mod children;
mod claiming;
mod definition;
mod insight;
mod listing;
mod maps;
mod round_trip;
mod runner;
mod schedule;
mod searching;
mod steps;
mod waits;
mod world;
mod writing;

/// Expands to one test for each case of each module, with one kind of store.
macro_rules! conformance {
    ($store:ident, $make:expr) => {
        conformance! { @modules $store, $make;
            definition {
                a_stored_version_keeps_its_id_and_updates_its_description
                a_changed_task_makes_a_new_version
                definitions_after_an_id_are_listed_oldest_first
                e8_versions_lists_only_the_newest_and_used_versions
                e8_pruning_deletes_unneeded_old_versions
                each_version_of_a_definition_is_counted_once
                an_unknown_definition_is_none
            }
            round_trip {
                every_execution_column_is_read_back
                every_task_column_is_read_back
                an_outline_has_no_input_and_no_task_results
                contexts_keep_unicode_escapes_big_numbers_and_order
                a_pending_task_has_a_row_only_if_it_was_ready_before
                load_keeps_the_order_and_omits_unknown_ids
                statuses_omit_unknown_ids
                history_is_oldest_first
                an_execution_can_have_ten_thousand_tasks
                a_large_input_survives_many_updates
            }
            searching {
                labels_are_read_back_with_their_execution
                labels_of_a_duplicate_submission_are_not_stored
                lists_are_filtered_by_labels
                labels_are_deleted_with_their_execution
                a_list_can_be_read_in_both_directions
                lists_are_filtered_by_error_text_input_and_creation_time
                lists_are_filtered_by_schedule
                a_scan_stops_at_its_budget_and_can_be_continued
                executions_are_counted_by_state_up_to_a_limit
                executions_between_two_ids_are_counted
                a_cut_payload_reports_the_size_of_the_whole_payload
                the_change_marker_changes_after_a_write_through_the_same_store
            }
            waits {
                l1_signals_are_read_in_the_order_in_which_they_were_sent
                l2_signal_with_a_stored_id_is_not_stored_again
                l5_registration_finds_an_earlier_signal
                l5_stale_change_registers_nothing
                l6_waits_are_listed_until_they_are_replaced
                l10_signal_posts_a_message_for_tasks_beyond_the_wake_limit
                cancelling_signal_posts_a_message_for_the_execution_to_cancel
                message_that_could_not_be_applied_is_not_due
                l14_next_check_is_the_earliest_due_time_of_a_wait
                overdue_reports_whether_waits_exist
                open_waits_are_counted_by_kind
                l15_signals_of_an_open_wait_are_not_pruned
            }
            writing {
                an_empty_batch_of_an_unknown_runner_does_nothing
                duplicate_key_returns_the_first_id
                a_duplicate_within_one_batch_returns_the_first_id
                the_same_key_can_be_used_for_another_workflow
                a_submission_sent_again_returns_its_own_id
                a_key_is_free_again_after_pruning
                stale_advance_writes_nothing
                an_advance_of_an_unknown_execution_writes_nothing
                two_advances_of_one_execution_apply_in_order
                one_stale_advance_does_not_affect_others
                a_submitted_execution_advances_in_the_same_batch
                late_finish_of_a_lost_claim_is_refused
                a_failed_fence_rolls_back_the_batch
                an_attempt_that_has_ended_cannot_be_finished_again
                an_insert_over_a_row_rolls_back_the_batch
                an_update_without_a_row_rolls_back_the_batch
                a_submission_of_an_unknown_definition_refuses_the_batch
                dead_runners_commit_with_a_claim_is_refused
                a_runner_that_never_registered_cannot_claim
                submission_and_cancellation_without_claims_need_no_live_runner
            }
            children {
                m1_children_are_stored_with_their_parents
                m1_child_is_not_stored_if_its_parent_was_changed
                m2_second_child_with_the_same_generation_is_refused
                m3_parent_changes_only_if_its_childs_end_is_written
                m8_child_is_not_pruned_before_its_parent
                m8_parent_with_an_open_child_is_kept
                children_of_an_execution_are_listed
                only_ended_executions_are_deleted_and_parents_before_children
                q6_execution_is_not_deleted_before_its_final_tasks_end
            }
            claiming {
                a_claim_makes_the_task_and_its_execution_running
                claims_are_ordered_by_priority_age_and_declaration
                a_class_claims_up_to_its_limit_and_reports_more_work
                a_limit_of_zero_claims_nothing_but_reports_more_work
                queues_of_one_class_share_its_limit_and_order
                classes_do_not_share_their_limits
                two_classes_of_one_queue_claim_distinct_tasks
                a_queue_named_twice_returns_each_task_once
                tasks_of_other_queues_are_not_claimed
                excluded_tasks_are_not_claimed
                each_claimed_task_increases_the_revision
                a_batch_can_claim_tasks_that_it_makes_ready
                a_delayed_task_is_claimed_when_it_is_due
                next_due_covers_only_the_requested_queues
                a_delayed_task_is_ordered_by_priority_and_age
                delayed_tasks_are_claimed_up_to_the_limit
                ready_executions_are_found_in_each_queue
                a_paused_execution_is_not_claimed
                a_retried_task_is_claimed_with_its_next_attempt
                a_claimed_execution_is_pending_until_its_start_is_written
                an_advance_keeps_the_earliest_start
                an_ended_task_keeps_its_stored_start_if_the_writer_has_none
                a_retried_or_snoozed_task_has_no_start_time
                concurrent_claimers_get_distinct_tasks
            }
            runner {
                a_registered_runner_is_listed_and_can_heartbeat
                a_runner_with_an_extended_lease_is_not_declared_dead
                a_dead_runner_stays_dead
                claims_of_a_runner_include_those_in_paused_executions
                a_runner_with_claims_cannot_be_retired
                a_retired_runner_is_deleted
                registering_a_dead_runner_again_changes_nothing
            }
            insight {
                an_announcement_updates_the_runners_row_and_replaces_its_offers
                a_dead_runners_announcement_does_not_revive_it
                withdrawn_offer_is_kept_until_an_equal_offer_is_withdrawn
                a_withdrawal_without_a_time_uses_the_time_of_the_last_heartbeat
                the_last_progress_of_the_latest_attempt_is_kept
                log_lines_are_returned_in_order
                the_backlog_is_counted_up_to_a_limit
                pruning_deletes_progress_and_logs
                a_sound_database_has_no_problems
            }
            maps {
                k5_items_are_claimed_in_order_up_to_the_limit
                k3_end_of_an_item_is_written_only_under_its_claim
                k6_last_item_ends_only_in_a_batch_that_ends_the_map
                k7_closed_map_starts_no_items_and_refuses_late_results
                d7_pause_moves_the_due_times_of_items
                k5_retried_item_is_due_after_its_delay
                k3_steps_are_recorded_for_each_item_separately
                aligned_map_gets_an_item_when_its_element_arrives
                claim_returns_an_aligned_map_whose_last_item_was_skipped
            }
            steps {
                steps_are_read_back_by_task_in_order
                t8_step_with_a_stale_revision_is_not_written
                t8_dead_runners_step_is_refused
                a_step_written_again_is_stored_once
                t6_steps_from_a_position_on_are_dropped
                pruning_deletes_steps
            }
            schedule {
                every_schedule_column_is_read_back
                an_identity_is_unique_until_its_schedule_is_deleted
                a_stale_change_of_a_schedule_is_refused
                due_schedules_are_earliest_first_with_the_next_due_time
                due_triggers_are_returned_only_if_the_query_names_them
                schedules_are_listed_by_kind_oldest_first
                a_tick_submits_its_execution_and_is_recorded
                a_stale_schedule_change_drops_only_its_own_submissions
                a_recorded_tick_drops_only_its_own_submission
                a_queued_tick_fires_later
                missed_tick_can_still_fire_once
                a_refused_batch_changes_no_schedule
                ticks_are_counted_by_outcome_and_pruned
                concurrent_runners_fire_a_tick_once
                g4_an_ended_execution_is_stored_for_each_trigger_that_it_fires
            }
            listing {
                executions_are_listed_newest_first_by_page
                lists_are_filtered_by_state_workflow_definition_and_time
                lists_are_filtered_by_keys
                lists_are_filtered_by_several_states
                the_list_of_an_unknown_workflow_is_empty
                overdue_returns_overdue_executions_and_the_next_deadline
                only_a_running_execution_can_be_overdue
                prune_deletes_old_ended_executions_with_all_their_rows
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
