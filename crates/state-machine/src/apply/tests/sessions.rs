//! Sessions: exactly once, by log time, within bounds.

use super::*;

fn nothing() -> Command {
    Command::OpenSession(OpenSession { ttl_ms: 1 })
}

#[test]
fn a_retry_returns_the_first_result_and_changes_nothing() {
    let mut machine = Machine::new();
    let session = machine.open_session(10_000);
    let first = machine.in_session(session, 1, Command::Register(register("a")));
    let digest = machine.digest();
    machine.now_ms += 500;
    for _ in 0..5 {
        let again = machine.in_session(session, 1, Command::Register(register("a")));
        assert_eq!(again, first, "its index too");
        assert_eq!(machine.digest(), digest);
    }
}

#[test]
fn a_rejection_is_remembered_too() {
    let mut machine = Machine::new();
    let session = machine.open_session(0);
    let dataset = machine.register("a");
    machine.drop_dataset(dataset);
    let first = machine.in_session(session, 1, Command::Seal(Seal { dataset }));
    assert_rejected(first.outcome.clone(), &format!("dataset {dataset} does not exist"));
    machine.register("a");
    assert_eq!(machine.in_session(session, 1, Command::Seal(Seal { dataset })), first);
}

#[test]
fn a_number_reused_for_another_command_is_refused() {
    let mut machine = Machine::new();
    let session = machine.open_session(0);
    machine.in_session(session, 1, Command::Register(register("a")));
    let outcome = machine.in_session(session, 1, Command::Register(register("b"))).outcome;
    assert_rejected(outcome, "sequence 1 of session 1 was used for another command");
    assert_eq!(catalog::list(&machine.store, LogIndex::MAX).expect("reads").len(), 1);
}

#[test]
fn numbers_may_be_skipped_and_come_late_within_the_window() {
    let mut machine = Machine::new();
    let session = machine.open_session(0);
    machine.in_session(session, 2_000, Command::Register(register("a")));
    let late = machine.in_session(session, 977, Command::Register(register("b"))).outcome;
    assert!(matches!(late, Outcome::Registered { existing: false, .. }), "{late:?}");
    let outcome = machine.in_session(session, 976, Command::Register(register("c"))).outcome;
    assert_rejected(
        outcome,
        "sequence 976 of session 1 is older than the 1024 that are remembered",
    );
}

#[test]
fn results_leave_with_the_window() {
    let mut machine = Machine::new();
    let session = machine.open_session(0);
    let results = |machine: &Machine| {
        let prefix = Key::session(session);
        let rows = machine.store.scan_prefix(Table::SessionResult, &prefix, LogIndex::MAX);
        let numbers = rows.expect("reads").into_iter().map(|(key, _)| key.last_number());
        numbers.map(|number| number.expect("a number")).collect::<Vec<_>>()
    };
    for sequence in [0, 1, 2, 3, 1_024] {
        machine.in_session(session, sequence, Command::Register(register("a")));
    }
    assert_eq!(results(&machine), [1, 2, 3, 1_024]);
    machine.in_session(session, 1_025, Command::Register(register("a")));
    assert_eq!(results(&machine), [2, 3, 1_024, 1_025]);
    machine.in_session(session, 1_027, Command::Register(register("a")));
    assert_eq!(results(&machine), [1_024, 1_025, 1_027]);
    machine.in_session(session, 90_000, Command::Register(register("a")));
    assert_eq!(results(&machine), [90_000]);
    let outcome = machine.in_session(session, 1_027, Command::Register(register("a"))).outcome;
    assert_rejected(
        outcome,
        "sequence 1027 of session 1 is older than the 1024 that are remembered",
    );
}

#[test]
fn a_session_ends_by_log_time_and_each_command_keeps_it() {
    let mut machine = Machine::new();
    let session = machine.open_session(100);
    machine.now_ms += 100;
    let kept = machine.in_session(session, 1, Command::Register(register("a"))).outcome;
    assert!(matches!(kept, Outcome::Registered { .. }), "{kept:?}");
    machine.now_ms += 100;
    let kept = machine.in_session(session, 2, Command::Register(register("a"))).outcome;
    assert!(matches!(kept, Outcome::Registered { .. }), "{kept:?}");
    machine.now_ms += 101;
    let outcome = machine.in_session(session, 2, Command::Register(register("a"))).outcome;
    let expect = "session 1 is not open; whether earlier commands of it took effect cannot be \
                  told any more";
    assert_rejected(outcome, expect);
    let outcome = machine.in_session(SessionId(77), 1, nothing()).outcome;
    assert_rejected(outcome, &expect.replace("session 1", "session 77"));
}

#[test]
fn the_time_to_live_is_clamped_and_zero_is_the_default() {
    for (asked, kept) in
        [(0, limits::SESSION_TTL_MS_DEFAULT), (5, 5), (u64::MAX, limits::SESSION_TTL_MS_MAX)]
    {
        let mut machine = Machine::new();
        let session = machine.open_session(asked);
        let found = crate::record_at::<crate::record::SessionRecord>(
            &machine.store,
            Table::Session,
            &Key::session(session),
            LogIndex::MAX,
        );
        assert_eq!(found.expect("reads").expect("open").ttl_ms, kept);
    }
}

#[test]
fn opening_a_session_forgets_expired_ones_a_few_at_a_time() {
    let mut machine = Machine::new();
    for _ in 0..70 {
        machine.open_session(10);
    }
    let count = |machine: &Machine| {
        let sessions = catalog::keys(&machine.store, Table::Session, &Key::empty());
        let activity = catalog::keys(&machine.store, Table::SessionByActivity, &Key::empty());
        let counted: Option<u64> =
            crate::record_at(&machine.store, Table::SessionCount, &Key::empty(), LogIndex::MAX)
                .expect("reads");
        let sessions = sessions.expect("reads").len();
        assert_eq!(activity.expect("reads").len(), sessions);
        assert_eq!(counted, Some(sessions as u64));
        sessions
    };
    assert_eq!(count(&machine), 70);
    machine.now_ms += 11;
    machine.open_session(10);
    assert_eq!(count(&machine), 7);
    machine.open_session(10);
    assert_eq!(count(&machine), 2);
}

#[test]
fn the_least_recently_active_session_makes_room_when_all_are_open() {
    let mut machine = Machine::new();
    let oldest = machine.open_session(0);
    machine.now_ms += limits::SESSION_ACTIVITY_STEP_MS;
    let second = machine.open_session(0);
    // As if the rest of the limit were open too: only the count decides.
    let full = codec::encode(&limits::SESSIONS_MAX).expect("encodes");
    let mutation = crate::Mutation {
        table: Table::SessionCount,
        key: Key::empty(),
        operation: crate::Operation::Put(full),
    };
    let applied = Some(entry_id(LogIndex(3)));
    let raft = crate::record::RaftRecord { applied, membership: Vec::new() };
    let mutations = vec![(LogIndex(3), vec![mutation])];
    machine.store.commit(crate::CommitBatch { mutations, raft }).expect("commits");
    machine.now_ms += limits::SESSION_ACTIVITY_STEP_MS;
    machine.in_session(oldest, 1, Command::Register(register("a")));
    machine.open_session(0);
    let kept = machine.in_session(oldest, 1, Command::Register(register("a"))).outcome;
    assert!(matches!(kept, Outcome::Registered { .. }), "{kept:?}");
    let outcome = machine.in_session(second, 1, nothing()).outcome;
    assert!(matches!(outcome, Outcome::Rejected(Rejection::SessionExpired { .. })), "{outcome:?}");
}

#[test]
fn a_busy_session_moves_among_the_idle_ones_once_a_second() {
    let mut machine = Machine::new();
    machine.now_ms = 5_000;
    let session = machine.open_session(0);
    let place = |machine: &Machine| {
        let keys = catalog::keys(&machine.store, Table::SessionByActivity, &Key::empty());
        keys.expect("reads")
    };
    for (now_ms, second) in [(5_000, 5_000), (5_999, 5_000), (6_000, 6_000), (9_100, 9_000)] {
        machine.now_ms = now_ms;
        machine.in_session(session, now_ms, Command::Register(register("a")));
        assert_eq!(place(&machine), [Key::session_activity(second, session)], "{now_ms}");
    }
    // It expires by the millisecond all the same.
    machine.now_ms = 9_100 + limits::SESSION_TTL_MS_DEFAULT;
    machine.open_session(0);
    assert_eq!(place(&machine).len(), 2);
    machine.now_ms += 1;
    machine.open_session(0);
    assert_eq!(place(&machine).len(), 2);
}

/// A tombstone by a predicate that was resolved to `keys`.
fn by_predicate(
    machine: &mut Machine,
    session: SessionId,
    (dataset, keys): (DatasetKey, &[i64]),
    expected_index: Option<LogIndex>,
) -> Response {
    let predicate = Some("value > 3".to_owned());
    let source = TombstoneSource::Inline;
    let command = Command::Tombstone(Tombstone { dataset, source, predicate });
    let mut envelope = machine.envelope(command);
    envelope.session = Some(SessionRef { id: session, sequence: Sequence(1) });
    envelope.expected_index = expected_index;
    machine.send(&envelope, block(keys).as_bytes())
}

#[test]
fn museum_m40_a_predicate_that_is_resolved_again_is_the_same_command() {
    let mut machine = Machine::new();
    let session = machine.open_session(0);
    let dataset = machine.register("a");
    let first = by_predicate(&mut machine, session, (dataset, &[1, 2]), None);
    assert!(matches!(first.outcome, Outcome::Tombstoned { keys: 2 }), "{:?}", first.outcome);
    let digest = machine.digest();
    // The rows are hidden already, so the second resolution finds another one.
    assert_eq!(by_predicate(&mut machine, session, (dataset, &[9]), None), first);
    assert_eq!(machine.digest(), digest);
}

#[test]
fn a_predicate_that_was_resolved_too_early_may_be_resolved_again_under_its_number() {
    let mut machine = Machine::new();
    let session = machine.open_session(0);
    let dataset = machine.register("a");
    let early = Some(LogIndex(1));
    let refused = by_predicate(&mut machine, session, (dataset, &[1]), early).outcome;
    assert!(matches!(refused, Outcome::Rejected(Rejection::ExpectedIndex { .. })), "{refused:?}");
    let again = by_predicate(&mut machine, session, (dataset, &[1, 2]), None).outcome;
    assert!(matches!(again, Outcome::Tombstoned { keys: 2 }), "{again:?}");
}
