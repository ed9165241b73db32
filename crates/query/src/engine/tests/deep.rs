//! Texts that are long or deep: answered or refused, on the stack that a task has, and never the process's end.

use alluvium_types::ErrorKind;

use super::*;

/// The stack of a task of the runtime.
const TASK_STACK_BYTES: usize = 2 * 1024 * 1024;

/// A text of so many parts.
type Text = fn(usize) -> String;

fn chain(first: &str, parts: usize, next: impl Fn(usize) -> String) -> String {
    (1..parts).fold(first.to_owned(), |text, part| text + &next(part))
}

const TEXTS: [(&str, Text); 13] = [
    ("plus", |n| format!("SELECT {} FROM t", chain("id", n, |_| "+1".to_owned()))),
    ("or", |n| {
        let next = |i: usize| format!(" OR {} = {i}", if i.is_multiple_of(2) { "id" } else { "n" });
        format!("SELECT id FROM t WHERE {}", chain("id = 0", n, next))
    }),
    ("and", |n| {
        format!("SELECT id FROM t WHERE {}", chain("id <> 9", n, |i| format!(" AND id <> 9{i}")))
    }),
    ("concat", |n| format!("SELECT {} FROM t", chain("v", n, |_| "||v".to_owned()))),
    ("cast", |n| {
        let next = |i: usize| if i.is_multiple_of(2) { "::int" } else { "::text" }.to_owned();
        format!("SELECT {} FROM t", chain("id", n, next))
    }),
    ("is null", |n| format!("SELECT {} FROM t", chain("id", n, |_| " IS NULL".to_owned()))),
    ("between", |n| {
        let next = |_| " BETWEEN false AND true".to_owned();
        format!("SELECT id FROM t WHERE {}", chain("true", n, next))
    }),
    ("array type", |n| format!("SELECT CAST(NULL AS {})", chain("int", n, |_| "[]".to_owned()))),
    ("union", |n| chain("SELECT id FROM t", n, |_| " UNION ALL SELECT id FROM t".to_owned())),
    ("except", |n| chain("SELECT id FROM t", n, |i| format!(" EXCEPT SELECT {i}"))),
    ("join", |n| {
        let next = |i| format!(" JOIN t t{i} ON t{i}.id = t0.id");
        chain("SELECT 1 FROM t t0", n, next)
    }),
    ("with", |n| {
        let next = |i| format!(", c{i} AS (SELECT id + 1 AS id FROM c{})", i - 1);
        let last = n - 1;
        format!("WITH {} SELECT * FROM c{last}", chain("c0 AS (SELECT id FROM t)", n, next))
    }),
    ("subscript", |n| format!("SELECT {} FROM t", chain("v", n, |_| "[1]".to_owned()))),
];

/// Runs a text on a thread with the stack of a task.
fn run(text: String) -> Result<(), Error> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (lake, _) = small().await;
            lake.try_sql(&text).await.map(|_| ())
        })
    };
    let thread = alluvium_stdx::spawn::deep_thread("task", TASK_STACK_BYTES, work);
    thread.expect("a thread").join().expect("no panic")
}

fn refused_for(error: &Error) -> Option<&'static str> {
    let Error::TooComplex { what, value, limit } = error else {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        return None;
    };
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(limit < value, "{error:?}");
    Some(what)
}

#[test]
fn the_deepest_text_that_is_accepted_is_answered_on_the_stack_of_a_task() {
    for (name, text) in TEXTS {
        // The longest that the limits let through is found from above.
        let lengths = (1..=12).rev().map(|step| step * 17);
        let outcomes = lengths.map(|n| (n, run(text(n))));
        let is_refused = |error: &Error| refused_for(error).is_some();
        let mut accepted = outcomes.skip_while(|(_, o)| o.as_ref().is_err_and(is_refused));
        let (n, outcome) = accepted.next().expect("a short one is accepted");
        let is_sound = match &outcome {
            Ok(()) => true,
            // There is no array in the lake.
            Err(error) => name == "subscript" && refused_for(error).is_none(),
        };
        assert!(is_sound && 30 < n, "{name} of {n}: {outcome:?}");
    }
}

#[test]
fn a_text_that_is_too_long_or_too_deep_is_refused_with_the_limit() {
    for (name, text) in TEXTS {
        for (n, expected) in [(600, None), (4_900, None), (1_000_000, Some("bytes"))] {
            let error = run(text(n)).expect_err(name);
            let found = refused_for(&error);
            let as_expected = found.is_some() && expected.is_none_or(|what| found == Some(what));
            assert!(as_expected, "{name} of {n}: {error:?}");
        }
    }
}

#[test]
fn arrays_in_arrays_are_refused_before_the_parser_multiplies_its_ways() {
    let nested =
        |n: usize, inner: &str| format!("SELECT {}{inner}{}", "ARRAY[".repeat(n), "]".repeat(n));
    run(nested(8, "1")).expect("is shallow");
    for (n, inner) in [(8, "1 1 FROM ("), (9, "1"), (50, "1"), (3_000, "1")] {
        let error = run(nested(n, inner)).expect_err("refused");
        assert_eq!(refused_for(&error).is_some(), n > 8, "{n}: {error:?}");
    }
}

#[test]
fn a_list_of_values_may_be_as_long_as_the_text() {
    let list = chain("0", 20_000, |i| format!(",{i}"));
    run(format!("SELECT id FROM t WHERE id IN ({list})")).expect("is flat");
    let rows = chain("(0)", 20_000, |i| format!(",({i})"));
    run(format!("SELECT * FROM (VALUES {rows}) x")).expect("is flat");
}

#[tokio::test]
async fn a_predicate_has_the_limits_of_a_statement() {
    let (lake, t) = small().await;
    let record = lake.record(t);
    for (n, what) in [(300, "levels"), (8_000, "words and operators"), (200_000, "bytes")] {
        let text = chain("id = 1", n, |i| format!(" OR id = {i}"));
        let error = lake.engine.resolve_predicate(&record, lake.at, &text).await;
        let error = error.expect_err("too deep");
        assert_eq!(refused_for(&error), Some(what), "{error:?}");
    }
    let text = chain("id = 1", 150, |i| format!(" OR id = {i}"));
    let resolved = lake.engine.resolve_predicate(&record, lake.at, &text).await;
    assert_eq!(resolved.expect("resolves").rows, 3);
}
