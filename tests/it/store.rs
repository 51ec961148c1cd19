//! The conformance suite of the store: each case runs against every adapter.
//!
//! A case knows nothing of the adapter it runs on. What only one database can show stands in its own file.

mod backing;
mod cases;
mod committer;
mod gaps;
mod postgres_only;
mod scene;
mod sqlite_only;

/// Makes a test of each case for each adapter: `store::sqlite::a_repeated_request_gets_the_first_receipt`.
macro_rules! conformance {
    ($($file:ident: $($case:ident),+;)+) => {
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::backing::on_postgres(super::cases::$file::$case).await;
                }
            )+)+
        }

        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::backing::on_sqlite(super::cases::$file::$case).await;
                }
            )+)+
        }
    };
}

conformance! {
    tenants:
        a_tenant_is_found_by_slug_and_by_external_id,
        a_slug_is_taken_once,
        an_external_id_belongs_to_one_tenant,
        a_tenant_made_by_two_at_once_is_made_once,
        a_tenant_can_be_disabled_and_enabled,
        tenants_may_be_called_as_their_schemas_were,
        a_deleted_tenant_is_gone_with_all_it_had,
        every_call_on_an_unknown_tenant_says_so,
        tenants_with_the_same_ids_see_only_their_own,
        reopening_keeps_everything,
        stores_opened_at_once_share_one_database;
    members:
        a_member_is_found_by_id_and_by_name,
        an_id_or_a_name_is_taken_once,
        hostile_text_comes_back_as_it_was,
        a_refresh_token_is_spent_once,
        a_refresh_token_used_again_soon_gets_the_same_successor,
        whoever_is_dismissed_may_not_enter_with_an_old_token,
        bearers_come_in_the_order_in_which_they_were_asked_for,
        a_deleted_member_is_out_for_good_and_its_messages_stay,
        a_member_is_renamed_unless_the_name_is_taken,
        a_reused_refresh_token_revokes_its_family,
        a_refresh_token_spent_by_many_at_once_is_spent_once,
        a_revocation_outlives_the_token_that_caused_it;
    channels:
        a_channel_needs_members_of_the_tenant,
        positions_of_many_channels_come_at_once,
        adding_and_removing_members,
        members_come_in_pages,
        a_summary_is_for_members_only,
        summaries_come_in_pages,
        unread_counts_what_others_said_after_the_mark,
        unread_is_counted_up_to_a_bound;
    commits:
        the_first_message_is_number_one,
        drafts_of_one_commit_are_numbered_in_order,
        fifty_writers_leave_one_order_without_a_gap,
        a_repeated_request_gets_the_first_receipt,
        a_key_used_for_something_else_is_a_conflict,
        a_key_belongs_to_one_sender,
        a_key_is_known_in_every_channel,
        a_request_repeated_at_once_is_stored_once,
        a_key_used_at_once_in_two_channels_is_stored_once,
        an_unknown_channel_stores_nothing,
        an_answer_to_an_unknown_message_stores_nothing,
        a_mark_on_an_unknown_message_stores_nothing,
        an_answer_names_its_message,
        a_sender_must_be_in_the_channel,
        a_message_of_64_kib_comes_back_whole;
    batches:
        a_batch_answers_each_commit_in_its_place,
        commits_of_one_channel_are_numbered_in_the_order_of_the_batch,
        a_refused_commit_keeps_no_other_from_being_done,
        a_batch_of_marks_moves_each_cursor,
        a_commit_knows_nothing_of_those_beside_it,
        batches_in_opposite_orders_do_not_block_each_other,
        batches_at_once_store_a_shared_key_once,
        an_empty_batch_is_nothing;
    reads:
        a_mark_moves_forward_only,
        marks_set_at_once_end_at_the_furthest,
        a_message_is_read_by_those_whose_mark_is_past_it,
        readers_are_named_up_to_a_bound,
        history_comes_in_spans,
        a_message_is_found_in_its_own_channel_only;
    catalogue:
        a_new_catalogue_has_decided_nothing,
        all_that_is_decided_comes_back_as_it_was,
        a_route_is_replaced_and_dropped,
        terms_policies_and_consents_are_given_and_taken_back,
        a_change_of_a_revision_that_is_past_changes_nothing,
        of_changes_at_one_revision_one_is_done,
        what_is_added_cannot_take_the_place_of_what_is_there,
        the_audit_is_written_whatever_the_revision_and_comes_in_pages,
        a_component_of_megabytes_comes_back_whole_and_is_kept_once,
        a_catalogue_of_a_thousand_routes_is_one_read,
        a_nodes_last_word_counts_and_old_ones_are_forgotten;
    keys:
        a_key_is_put_replaced_and_removed,
        a_key_is_written_only_at_the_version_that_is_expected,
        keys_and_messages_are_committed_together_or_not_at_all,
        keys_come_in_pages_by_their_bytes,
        a_key_ends_at_its_time,
        what_a_plugin_keeps_is_bounded_and_what_ends_makes_room,
        a_request_that_stores_no_message_is_done_once,
        a_request_that_stores_no_message_is_remembered_for_a_week,
        a_batch_judges_keys_in_its_order,
        keys_belong_to_one_plugin_of_one_tenant,
        of_writers_at_once_that_expect_one_version_one_wins,
        batches_of_changes_in_opposite_orders_do_not_block_each_other;
    amendments:
        an_edited_message_keeps_its_place,
        a_deleted_message_loses_its_content_for_good,
        a_message_that_is_not_in_the_channel_is_not_changed,
        a_batch_changes_messages_in_its_order,
        a_change_under_a_key_is_made_once,
        of_those_who_delete_a_message_at_once_one_does;
}
