//! What a history may be, and its bytes in each format.

use super::*;
use crate::call::{Dataset, Step, Versioned};
use crate::tests::script::{fail, history, info, ok};

fn invoke(time_ns: u64, process: u64) -> Event {
    let action = Action::Invoke { node: NodeId(1), call: Call::Count };
    Event { time_ns, process: ProcessId(process), action }
}

fn complete(time_ns: u64, process: u64, outcome: Outcome) -> Event {
    Event { time_ns, process: ProcessId(process), action: Action::Complete { outcome } }
}

fn check(events: Vec<Event>, expected: &str) {
    let error = History::new(events).expect_err("not well formed");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_process_has_one_call_outstanding() {
    check(vec![invoke(1, 0), invoke(2, 0)], "event 1: process 0 has a call outstanding");
}

#[test]
fn an_answer_needs_a_call() {
    check(vec![complete(1, 4, Outcome::Fail)], "event 0: process 4 waits for no answer");
    let twice = vec![invoke(1, 0), complete(2, 0, Outcome::Fail), complete(3, 0, Outcome::Fail)];
    check(twice, "event 2: process 0 waits for no answer");
}

#[test]
fn a_process_ends_with_an_ambiguous_outcome() {
    let events = vec![invoke(1, 0), complete(2, 0, Outcome::Info), invoke(3, 0)];
    check(events, "event 2: process 0 ended with an ambiguous outcome");
}

#[test]
fn time_does_not_go_back() {
    check(vec![invoke(5, 0), invoke(4, 1)], "event 1: at 4 ns, after an event at 5 ns");
}

#[test]
fn an_answer_belongs_to_its_call() {
    let done = Outcome::Ok { reply: Reply::Done, index: LogIndex(1) };
    check(
        vec![invoke(1, 0), complete(2, 0, done)],
        "event 1: the answer of process 0 is not one to its call",
    );
    let steps = vec![Step::Append { key: 1, value: 1 }, Step::Read { key: 1 }];
    let call = Call::Transact { steps };
    let lists = |lists| Reply::Transacted { lists };
    assert!(call.accepts(&lists(vec![None, Some(vec![1])])));
    assert!(!call.accepts(&lists(vec![Some(vec![]), Some(vec![1])])));
    assert!(!call.accepts(&lists(vec![None])));
}

#[test]
fn a_call_without_an_answer_is_ambiguous_and_never_settled() {
    let history = history([info(0, 1.., Call::Count), ok(1, 2..3, Call::Count, count(0), 0)]);
    let [first, second] = history.operations() else { panic!("two operations") };
    assert!(first.is_ambiguous());
    assert_eq!(first.settled_ns(), None);
    assert_eq!((second.id, second.settled_ns()), (OpId(1), Some(3)));
    assert!(!first.precedes(second));
}

#[test]
fn what_touches_is_concurrent() {
    let count = |process, time| ok(process, time, Call::Count, count(0), 0);
    let history = history([count(0, 1..3), count(1, 3..5), count(2, 4..6)]);
    let [first, second, third] = history.operations() else { panic!("three operations") };
    assert!(!first.precedes(second));
    assert!(first.precedes(third));
}

fn count(count: u64) -> Reply {
    Reply::Counted { count }
}

fn text(history: &History) -> String {
    let mut bytes = Vec::new();
    history.write_jsonl(&mut bytes).expect("memory takes all");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

#[test]
fn the_lines_of_a_history_are_pinned_because_kept_histories_must_be_read() {
    let name = "a".to_owned();
    let dataset = Some(Dataset { spec: 7, incarnation: 3 });
    let lines = [
        ok(0, 1..4, Call::Describe { name }, Reply::Described { dataset }, 3),
        info(1, 2.., Call::Balances),
    ];
    let expected = r#"{"format":"alluvium-history","version":1}
{"time_ns":1,"process":0,"action":{"invoke":{"node":1,"call":{"describe":{"name":"a"}}}}}
{"time_ns":2,"process":1,"action":{"invoke":{"node":1,"call":"balances"}}}
{"time_ns":4,"process":0,"action":{"complete":{"outcome":{"ok":{"reply":{"described":{"dataset":{"spec":7,"incarnation":3}}},"index":3}}}}}
"#;
    assert_eq!(text(&history(lines)), expected);
}

fn refused(text: &str, expected: &str) {
    let error = History::read_jsonl(text.as_bytes()).expect_err("not a history");
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let found = format!("{error}: {source}");
    assert!(found.contains(expected), "expected {expected:?} in {found:?}");
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    let header = "{\"format\":\"alluvium-history\",\"version\":1}\n";
    refused("", "there is no header");
    refused("{\"format\":\"x\",\"version\":1}", "there is no header");
    refused(&header.replace(":1", ":2"), "of version 2, this program reads version 1");
    refused(&header.replace('}', ",\"more\":1}"), "line 1 of a history: unknown field `more`");
    let event = r#"{"time_ns":1,"process":0,"action":{"invoke":{"node":1,"call":"count"}}}"#;
    refused(&format!("{header}{}", event.replace("1,\"p", "1,\"x\":1,\"p")), "unknown field `x`");
    refused(&format!("{header}{}", event.replace("count", "shout")), "unknown variant `shout`");
    let cut = event.get(..30).expect("longer");
    refused(&format!("{header}{cut}"), "line 2 of a history: EOF");
    refused(&format!("{header}{event}\n{event}"), "has a call outstanding");
}

#[test]
fn elle_reads_transactions() {
    let transact = |steps| Call::Transact { steps };
    let steps = vec![Step::Append { key: 5, value: 1 }, Step::Read { key: 5 }];
    let reply = Reply::Transacted { lists: vec![None, Some(vec![1, 2])] };
    let lines = [
        ok(0, 1..5, transact(steps.clone()), reply, 9),
        fail(1, 2..6, transact(steps.clone())),
        info(2, 3.., transact(steps)),
    ];
    let expected = "\
{:index 0 :type :invoke :process 0 :time 1 :f :txn :value [[:append 5 1] [:r 5 nil]]}
{:index 1 :type :invoke :process 1 :time 2 :f :txn :value [[:append 5 1] [:r 5 nil]]}
{:index 2 :type :invoke :process 2 :time 3 :f :txn :value [[:append 5 1] [:r 5 nil]]}
{:index 3 :type :ok :process 0 :time 5 :f :txn :value [[:append 5 1] [:r 5 [1 2]]]}
{:index 4 :type :fail :process 1 :time 6 :f :txn :value [[:append 5 1] [:r 5 nil]]}
";
    assert_eq!(history(lines).elle_edn().expect("transactions only"), expected);
    let foreign = history([info(0, 1.., Call::Count)]).elle_edn().expect_err("a counter");
    assert_eq!(foreign.to_string(), "operation 0 is not one of the Elle format");
}

#[test]
fn knossos_reads_one_register() {
    let current = Some(Versioned { value: -4, version: 2 });
    let cas = Call::Cas { key: 1, version: 2, old: Some(-4), new: 6 };
    let lines = [
        ok(0, 1..2, Call::Read { key: 1 }, Reply::Value { current: None }, 0),
        ok(0, 3..4, Call::Write { key: 1, value: -4 }, Reply::Written { version: 2 }, 2),
        ok(0, 5..6, Call::Read { key: 1 }, Reply::Value { current }, 2),
        ok(1, 7..8, cas.clone(), Reply::Written { version: 3 }, 3),
        ok(1, 9..10, cas, Reply::Refused, 4),
        info(1, 11.., Call::Read { key: 2 }),
    ];
    let expected = "\
{:index 0 :type :invoke :process 0 :time 1 :f :read :value nil}
{:index 1 :type :ok :process 0 :time 2 :f :read :value nil}
{:index 2 :type :invoke :process 0 :time 3 :f :write :value -4}
{:index 3 :type :ok :process 0 :time 4 :f :write :value -4}
{:index 4 :type :invoke :process 0 :time 5 :f :read :value nil}
{:index 5 :type :ok :process 0 :time 6 :f :read :value -4}
{:index 6 :type :invoke :process 1 :time 7 :f :cas :value [-4 6]}
{:index 7 :type :ok :process 1 :time 8 :f :cas :value [-4 6]}
{:index 8 :type :invoke :process 1 :time 9 :f :cas :value [-4 6]}
{:index 9 :type :fail :process 1 :time 10 :f :cas :value [-4 6]}
";
    assert_eq!(history(lines).knossos_edn(1).expect("registers only"), expected);
}

mod round_trip {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn call_and_reply() -> impl Strategy<Value = (Call, Reply)> {
        prop_oneof![
            (".*", any::<u64>(), any::<u64>()).prop_map(|(name, spec, incarnation)| {
                (Call::Register { name, spec }, Reply::Registered { incarnation })
            }),
            (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(from, to, amount)| {
                (Call::Transfer { from, to, amount }, Reply::Refused)
            }),
            any::<BTreeMap<u64, i64>>()
                .prop_map(|balances| (Call::Balances, Reply::Balances { balances })),
            (any::<u64>(), any::<Vec<u64>>()).prop_map(|(key, list)| {
                let steps = vec![Step::Append { key, value: key }, Step::Read { key }];
                (Call::Transact { steps }, Reply::Transacted { lists: vec![None, Some(list)] })
            }),
            (any::<u64>(), any::<Option<i64>>(), any::<i64>()).prop_map(|(version, old, new)| {
                (Call::Cas { key: 1, version, old, new }, Reply::Written { version })
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_what_was_written(
            operations in prop::collection::vec((call_and_reply(), 0_u8..4), 0..20)
        ) {
            let mut lines = Vec::new();
            for (position, ((call, reply), kind)) in operations.into_iter().enumerate() {
                let at = position as u64;
                lines.push(match kind {
                    0 => fail(at, at..at + 9, call),
                    1 => info(at, at.., call),
                    _ => ok(at, at..at + 9, call, reply, at),
                });
            }
            let written = history(lines);
            let read = History::read_jsonl(text(&written).as_bytes()).expect("its own lines");
            prop_assert_eq!(read, written);
        }
    }
}

#[test]
fn every_call_has_its_operation_of_jepsen() {
    let described = Dataset { spec: 5, incarnation: 7 };
    let balances = [(0, 10), (1, -2)].into();
    let name = || "w1-0001".to_owned();
    let calls = [
        (Call::Register { name: name(), spec: 5 }, Reply::Registered { incarnation: 7 }),
        (Call::Describe { name: name() }, Reply::Described { dataset: Some(described) }),
        (Call::Drop { name: name(), incarnation: 7 }, Reply::Done),
        (Call::Add { set: 1, element: 3 }, Reply::Done),
        (Call::Delete { set: 1, element: 3 }, Reply::Done),
        (Call::Scan { set: 1 }, Reply::Elements { elements: vec![3, 4] }),
        (Call::Transfer { from: 0, to: 1, amount: 2 }, Reply::Refused),
        (Call::Balances, Reply::Balances { balances }),
        (Call::Upsert { key: 2, value: 9 }, Reply::Done),
        (Call::Tombstone { key: 2 }, Reply::Done),
        (Call::Get { key: 2 }, Reply::Row { value: None }),
        (Call::Increment { session: 8, sequence: 1 }, Reply::Incremented { count: 1 }),
        (Call::Count, Reply::Counted { count: 1 }),
    ];
    let mut events = Vec::new();
    for ((call, reply), time_ns) in calls.into_iter().zip((0..).step_by(2)) {
        let (process, node) = (ProcessId(1), NodeId(1));
        events.push(Event { time_ns, process, action: Action::Invoke { node, call } });
        let outcome = Outcome::Ok { reply, index: LogIndex(time_ns + 1) };
        events.push(Event { time_ns: time_ns + 1, process, action: Action::Complete { outcome } });
    }
    let edn = History::new(events).expect("well formed").jepsen_edn();
    let completed: Vec<&str> = edn
        .lines()
        .filter(|line| !line.contains(":type :invoke"))
        .map(|line| line.split(" :f ").nth(1).expect("a function"))
        .collect();
    assert_eq!(
        completed,
        [
            ":register :value [\"w1-0001\" {:spec 5 :incarnation 7}]}",
            ":read :value [\"w1-0001\" {:spec 5 :incarnation 7}]}",
            ":drop :value [\"w1-0001\" 7]}",
            ":add :value [1 3]}",
            ":remove :value [1 3]}",
            ":read :value [1 [3 4]]}",
            ":transfer :value {:from 0 :to 1 :amount 2}}",
            ":read :value {0 10 1 -2}}",
            ":write :value [2 9]}",
            ":write :value [2 nil]}",
            ":read :value [2 nil]}",
            ":add :value [8 1]}",
            ":read :value 1}",
        ]
    );
    assert!(edn.starts_with("{:index 0 :type :invoke :process 1 :time 0 :f :register"), "{edn}");
    assert!(edn.contains(":type :fail :process 1 :time 13 :f :transfer"), "{edn}");
}
