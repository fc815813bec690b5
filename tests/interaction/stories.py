"""The table of contents.

What an operator may rely on, by section of the contract, and the stories that prove it.
"""

from __future__ import annotations

STORIES: dict[str, tuple[str, ...]] = {
    "timing: the right ends before anybody else may take the lease": (
        "cut_off_holder",
        "store_down_ten_seconds",
        "store_down_relaxed",
        "lost_reply",
        "lost_reply_seen_by_watch",
        "late_reply",
        "reload_with_shorter_lease",
        "reload_with_longer_lease",
    ),
    "timing: who takes it, and when": (
        "machine_lost",
        "two_machines_lost",
        "best_ranked_is_silent",
        "rank_unknown",
        "equal_priorities",
        "dead_watch",
    ),
    "timing: a record that is absent, unreadable or older, and strangers' edits": (
        "record_deleted_by_hand",
        "record_deleted_while_cut_off",
        "record_corrupted",
        "older_copy_restored",
        "restored_under_a_holder",
        "restored_with_the_holder",
        "longest_lease_known",
        "foreign_annotation",
        "foreign_holder",
        "stray_lease_duration",
        "holder_emptied_by_hand",
        "newer_format",
    ),
    "election: one name, one daemon; one address, one election": (
        "namesake",
        "reboot",
        "address_claimed",
        "addresses_differ",
    ),
    "election: fitness, preemption and pins": (
        "health_lost",
        "weight_lost",
        "preemption_after_delay",
        "preempt_off",
        "flapping_damped",
        "pin_and_unpin",
        "pin_after_failed_handover",
        "handover_asked_of_a_better_node",
        "unfit_after_handover",
        "pin_ends_with_the_tenure",
    ),
    "election: handover": (
        "planned_handover",
        "handover_without_frames",
        "handover_with_dead_watch",
        "successor_stops_after_take",
        "successor_silent",
        "successor_unfit_at_once",
        "two_handovers_in_a_row",
        "naming_answer_lost",
        "crash_in_handover",
        "daemon_killed_in_handover",
        "daemon_killed_with_silent_successor",
        "holder_frozen_in_handover",
    ),
    "election: stop and drain": (
        "graceful_stop",
        "stop_with_silent_successor",
        "stop_without_store",
        "drain",
    ),
    "fencing: daemon, guard and kernel": (
        "restart_takes_lease_back",
        "daemon_stuck",
        "three_crashes",
        "guard_killed",
        "everything_frozen",
        "short_lease_frozen",
    ),
    "addresses": (
        "absent_record_and_rival_on_the_wire",
        "address_removed_by_hand",
    ),
}
"""Names of files, without `.txt`."""
