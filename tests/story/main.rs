//! The program's promises, one file each, named by it: a whole pipeline over loopback between the demo's own doubles,
//! with waits shortened by configuration.

mod answers_speak_the_requests_type;
mod backend_and_deepflow_are_reached_by_tls;
mod backend_down_for_a_while_gets_everything_once;
mod backend_with_a_small_limit_gets_everything_once;
mod backlog_larger_than_memory_is_recovered;
mod bad_spans_are_refused_alone;
mod bad_tls_files_are_named_at_start;
mod big_traces_are_cut_to_requests;
mod browsers_may_send_when_allowed;
mod clocks_far_off_are_not_posted;
mod config_errors_name_their_path;
mod connections_get_old_without_a_failed_request;
mod dead_letters_can_be_sent_again;
mod decompression_bombs_end_in_413;
mod deepflow_down_passes_traces_through;
mod failed_journal_refuses_and_says_so;
mod full_buffer_releases_early;
mod full_memory_refuses_with_retry_info;
mod hanging_task_shows_and_panic_ends;
mod idle_zero_forwards_at_once;
mod interleaved_traces_stay_apart;
mod journal_keeps_traces_over_a_restart;
mod json_requests_arrive_as_protobuf_does;
mod late_spans_get_their_place;
mod metrics_exist_at_zero;
mod mutual_tls_refuses_strangers;
mod otlp_http_exporter_retries_only_what_may_be_retried;
mod partial_success_is_not_retried;
mod quiet_trace_is_completed_once;
mod second_destination_never_holds_up_the_first;
mod shutdown_drains;
mod slow_senders_hold_no_connection;
mod small_deepflow_delays_nobody;
#[path = "../support/mod.rs"]
mod support;
mod thousands_of_idle_connections_leave_room;
mod tls_files_change_without_a_failed_request;
mod trace_tells_its_life;
mod traces_in_parts_are_woven_as_one;
mod traces_too_large_for_tempo_lose_network_spans;
mod weave_works_offline;
