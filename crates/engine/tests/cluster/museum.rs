//! Bugs that other systems shipped in what several nodes do together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_engine::{Appender, Caller, Error, LogRecord, Node, SqlOptions, TombstoneKeys};
use alluvium_stdx::Prng;
use alluvium_types::{DataType, ErrorKind, Field, FieldId, LogIndex, SchemaChange};
use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Schema};
use futures::future::join_all;
use tokio::sync::watch;

use crate::machines::{
    LogBytes, Numbered, Three, caller, insist, is_passing, register, rows, schema, totals, until,
    wide_rows,
};

async fn log(node: &Node) -> Vec<LogRecord> {
    node.log(None, 10_000).await.expect("tells")
}

/// Appends one row after the other, as an actor of its own, until it is told to stop; returns how many and their sum.
async fn write(node: Node, writer: i64, mut stop: watch::Receiver<bool>) -> (i64, i64) {
    let mut caller = Numbered::open(&node, &format!("writer-{writer}")).await;
    let (mut count, mut sum) = (0, 0);
    while !*stop.borrow_and_update() {
        let value = writer * 1_000_000 + count;
        caller.append(&node, &rows(value..value + 1)).await;
        (count, sum) = (count + 1, sum + value);
    }
    (count, sum)
}

/// Says which entries of a kind took effect, by actor.
async fn effective(node: &Node, kind: &str) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for record in log(node).await {
        if record.kind == kind && !record.detail.starts_with("repeats ") {
            *found.entry(record.actor.expect("somebody asked for it")).or_default() += 1;
        }
    }
    found
}

/// Pushes what does not fit one entry: all of it is in the log when this returns, and nobody sees it.
async fn stage(node: &Node, caller: &Caller) -> Result<Appender, Error> {
    let mut appender = node.appender(caller.clone(), "t", false);
    for part in 0..8 {
        let first = -1_000 * (part + 1);
        appender.push(wide_rows(first..first + 1_000, 1_024)).await?;
    }
    Ok(appender)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m22_a_recovery_beside_writers_takes_nothing_from_them() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    // Its parts are in the log, and its command is not: to a recovery it looks like one that was given up.
    let slow = Numbered::open(&three.nodes[1], "slow").await.next();
    let mut begun = Some(insist(async || stage(&three.nodes[1], &slow).await).await);
    let staged = log(&three.nodes[0]).await;
    assert!(staged.iter().any(|record| record.kind == "stage"), "nothing is under way");
    let (stop, stopped) = watch::channel(false);
    let writers = (1..=4).zip([0, 1, 0, 1]).map(|(writer, place): (i64, usize)| {
        write(three.nodes[place].clone(), writer, stopped.clone())
    });
    let writers = join_all(writers);
    let recovering = async {
        for round in 0..3 {
            // Planned files and open uploads lie in the state that it recovers to.
            let sealer = Caller::named("sealer");
            insist(async || three.nodes[0].seal(&sealer, "t").await).await;
            if round == 1 {
                // It takes over, to stop right after.
                insist(async || three.nodes[0].transfer_leader(3).await).await;
            }
            three.restart(2).await;
            insist(async || totals(&three.nodes[2], SqlOptions::default()).await).await;
        }
        let finished = insist(async || match begun.take() {
            Some(appender) => appender.finish().await,
            // Nobody knows whether it was finished: the same again, under the same number.
            None => stage(&three.nodes[1], &slow).await?.finish().await,
        });
        assert_eq!(finished.await.count, 8_000, "nobody took its parts");
        stop.send_replace(true);
        three
    };
    let (written, three) = tokio::join!(writers, recovering);
    let count = 8_000 + written.iter().map(|(count, _)| count).sum::<i64>();
    let sum = (-8_000..0).sum::<i64>() + written.iter().map(|(_, sum)| sum).sum::<i64>();
    three.check_same(count, sum).await;
    // One entry for each append, and its own writer's.
    let mut expected = BTreeMap::from([("slow".to_owned(), 1)]);
    expected.extend(
        (1..=4)
            .zip(written)
            .map(|(writer, (count, _)): (i64, _)| (format!("writer-{writer}"), count)),
    );
    assert_eq!(effective(&three.nodes[2], "append").await, expected);
    three.stop().await;
}

fn wider_schema() -> Arc<Schema> {
    let extra = ArrowField::new("extra", ArrowType::Utf8, true);
    let mut fields: Vec<_> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(extra);
    Arc::new(Schema::new(fields))
}

fn wider_rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    let old = rows(numbers.clone());
    let extra: StringArray = numbers.map(|number| Some(format!("extra-{number}"))).collect();
    let columns = vec![Arc::clone(old.column(0)), Arc::clone(old.column(1)), Arc::new(extra) as _];
    RecordBatch::try_new(wider_schema(), columns).expect("fits")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m23_a_node_that_installed_a_snapshot_takes_rows_of_the_new_schema_at_once() {
    let mut three = Three::with_log(LogBytes::SHORT).await;
    register(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..10)]).await.expect("acknowledged");
    // What it knows of the dataset, it has used: appends, queries, and a file of its own.
    three.nodes[2].append(&caller(), "t", vec![rows(10..20)]).await.expect("acknowledged");
    three.nodes[2].seal(&caller(), "t").await.expect("seals");
    three.check_same(20, (0..20).sum()).await;
    three.members[2].way.cut();
    let before = three.nodes[2].applied();
    let extra = Field {
        id: FieldId(0),
        name: "extra".to_owned(),
        data_type: DataType::Utf8,
        nullable: true,
    };
    let steps = vec![SchemaChange::Add(extra)];
    three.nodes[0].evolve(&caller(), "t", steps).await.expect("evolves");
    let (mut last, mut writer) = (20, Numbered::open(&three.nodes[0], "filler").await);
    until("the entries that it lacks are purged", async || {
        writer.append(&three.nodes[0], &wider_rows(last..last + 500)).await;
        last += 500;
        // By both: either may lead when it comes back.
        let mut purged = true;
        for node in &three.nodes[..2] {
            // It may have taken entries that it did not apply any more.
            purged &= before.0 + 10 < node.status().await.expect("status").log.0.0;
        }
        purged
    })
    .await;
    let local = SqlOptions { local: true, ..SqlOptions::default() };
    let old = totals(&three.nodes[2], local).await.expect("it answers from what it has");
    assert!(old.0 == 20 && three.nodes[2].applied() < LogIndex(before.0 + 5), "it is cut off");
    three.members[2].way.mend();
    // At once, through the node that knows the new schema from a snapshot only.
    let mut writer = Numbered::open(&three.nodes[2], "late").await;
    writer.append(&three.nodes[2], &wider_rows(last..last + 10)).await;
    let installed = three.nodes[2].status().await.expect("status").snapshot;
    assert!(installed.is_some_and(|installed| before < installed), "{installed:?}");
    let refused = three.nodes[2].append(&caller(), "t", vec![rows(0..1)]).await;
    assert_eq!(refused.expect_err("the old schema").kind(), ErrorKind::InvalidArgument);
    let total = last + 10;
    three.check_same(total, (0..total).sum()).await;
    let text = format!("SELECT extra FROM t WHERE n = {}", total - 1);
    let answer = three.nodes[2].sql(&text, SqlOptions::default()).await.expect("plans");
    let answer = answer.collect().await.expect("answers");
    let found = arrow::compute::cast(answer[0].column(0), &ArrowType::Utf8).expect("text is text");
    assert_eq!(found.as_string::<i32>().value(0), format!("extra-{}", total - 1));
    // And again, right after a restart.
    three.restart(2).await;
    writer.append(&three.nodes[2], &wider_rows(total..total + 10)).await;
    three.check_same(total + 10, (0..total + 10).sum()).await;
    three.stop().await;
}

/// What `system.log` says of numbered operations: who, which number, and what became of it.
async fn audit(node: &Node) -> Vec<(String, i64, i64, String)> {
    let text = "SELECT actor, CAST(session AS BIGINT), CAST(sequence AS BIGINT), outcome \
                FROM system.log WHERE session IS NOT NULL ORDER BY index";
    let answer = node.sql(text, SqlOptions::default()).await.expect("plans");
    let mut found = Vec::new();
    for batch in answer.collect().await.expect("answers") {
        let text = |column: usize| {
            let texts = arrow::compute::cast(batch.column(column), &ArrowType::Utf8);
            texts.expect("text is text").as_string::<i32>().clone()
        };
        let numbers = |column: usize| -> Int64Array { batch.column(column).as_primitive().clone() };
        let (actors, outcomes) = (text(0), text(3));
        let (sessions, sequences) = (numbers(1), numbers(2));
        found.extend((0..batch.num_rows()).map(|row| {
            let (actor, outcome) = (actors.value(row).to_owned(), outcomes.value(row).to_owned());
            (actor, sessions.value(row), sequences.value(row), outcome)
        }));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m26_each_operation_is_recorded_once_and_by_its_actor() {
    let three = Three::start().await;
    register(&three.nodes[0]).await;
    let mut expected = Vec::new();
    for (place, actor) in ["ann", "bob", "eve"].into_iter().enumerate() {
        let mut numbered = Numbered::open(&three.nodes[place], actor).await;
        let session = i64::try_from(numbered.session().0).expect("small");
        for sequence in 1..=6 {
            let (caller, value) = (numbered.next(), session * 100 + sequence);
            let append = async |place: usize| {
                let node = &three.nodes[place];
                insist(async || node.append(&caller, "t", vec![rows(value..value + 1)]).await).await
            };
            let first = append(place).await;
            // Again by another node, twice at once, and after another node leads.
            let (one, other) = tokio::join!(append((place + 1) % 3), append((place + 2) % 3));
            assert_eq!((&one, &other), (&first, &first));
            if sequence == 3 {
                let next = u64::try_from((place + 1) % 3 + 1).expect("small");
                insist(async || three.nodes[place].transfer_leader(next).await).await;
            }
            assert_eq!(append(place).await, first);
            expected.push((actor.to_owned(), session, sequence, "1 rows appended".to_owned()));
        }
        three.nodes[place].seal(&Caller::named(actor), "t").await.expect("seals");
    }
    for node in &three.nodes {
        let found = audit(node).await;
        let of_operations = found.iter().filter(|record| !record.3.starts_with("repeats "));
        assert_eq!(of_operations.cloned().collect::<Vec<_>>(), expected, "{}", node.node_id());
        // Whoever repeats is named too.
        assert!(found.len() > expected.len(), "no retry came as far as the log");
        let is_known = |record: &(String, i64, i64, String)| {
            { expected.iter() }.any(|known| (&known.0, known.1) == (&record.0, record.1))
        };
        assert!(found.iter().all(is_known), "{found:?}");
    }
    let records = log(&three.nodes[1]).await;
    let people = [("ann".to_owned(), 6), ("bob".to_owned(), 6), ("eve".to_owned(), 6)];
    let found = effective(&three.nodes[1], "append").await;
    assert_eq!(found, people.into(), "the log that people read says the same");
    // What nobody asked for by number: one entry each, and every one has its actor.
    let by = |kind: &str| -> Vec<_> {
        records
            .iter()
            .filter(|record| record.kind == kind)
            .filter_map(|r| r.actor.clone())
            .collect()
    };
    assert_eq!(by("register"), ["test"]);
    assert_eq!(by("seal"), ["ann", "bob", "eve"]);
    assert_eq!(by("attest"), ["alluvium"; 3]);
    let commands = records.iter().filter(|r| r.kind != "blank" && r.kind != "membership");
    assert!(commands.clone().count() > 0);
    assert!({ commands }.all(|record| record.actor.is_some()), "{records:?}");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m38_what_a_leader_of_the_past_still_writes_and_deletes_harms_nothing() {
    let three = Three::start().await;
    let nodes = &three.nodes;
    register(&nodes[0]).await;
    for first in [0, 100] {
        nodes[0].append(&caller(), "t", vec![rows(first..first + 100)]).await.expect("fits");
        nodes[0].seal(&caller(), "t").await.expect("seals");
    }
    three.check_same(200, (0..200).sum()).await;
    until("all have made both", || async {
        three.members.iter().all(|member| member.data_files().len() == 2)
    })
    .await;
    // The leader is about to give a compacted file its name when another one takes over.
    let gate = &three.members[0].gate;
    let asked = gate.asked();
    gate.shut();
    let keys = TombstoneKeys::Predicate("n < 50".to_owned());
    nodes[1].tombstone(&caller(), "t", keys).await.expect("hides");
    let first_compaction = async { nodes[1].compact(&caller(), "t").await.expect("compacts") };
    let deposing = async {
        until("the leader is in the middle of it", || async { asked < gate.asked() }).await;
        nodes[0].transfer_leader(2).await.expect("hands over");
    };
    let (report, ()) = tokio::join!(first_compaction, deposing);
    assert_eq!((report.rows_in, report.rows_out), (200, 150));
    // What it is about to write is replaced, given up and deleted by those who went on.
    let keys = TombstoneKeys::Predicate("n < 100".to_owned());
    nodes[1].tombstone(&caller(), "t", keys).await.expect("hides");
    nodes[1].compact(&caller(), "t").await.expect("compacts");
    nodes[1].expire(&caller(), "t", None).await.expect("expires");
    nodes[1].append(&caller(), "t", vec![rows(200..300)]).await.expect("acknowledged");
    nodes[1].seal(&caller(), "t").await.expect("seals");
    let live = three.members[1].data_files();
    assert_eq!(live.len(), 2, "a compacted file and a new one");
    gate.open();
    three.check_same(200, (100..300).sum()).await;
    until("the leader of the past has what the others have, and no more", || async {
        three.members[0].data_files() == live
    })
    .await;
    // It leads again, and still knows nothing that is not so.
    nodes[1].transfer_leader(1).await.expect("hands over");
    nodes[0].append(&caller(), "t", vec![rows(300..400)]).await.expect("acknowledged");
    nodes[0].compact(&caller(), "t").await.expect("compacts");
    nodes[0].expire(&caller(), "t", None).await.expect("expires");
    three.check_same(300, (100..400).sum()).await;
    until("all have the one file that is left", || async {
        let files: Vec<_> = three.members.iter().map(|member| member.data_files()).collect();
        files[0].len() == 1 && files.iter().all(|other| *other == files[0])
    })
    .await;
    for node in nodes {
        let report = node.verify().await.expect("looks");
        assert_eq!((report.damage, report.rows), (Vec::new(), 300), "node {}", node.node_id());
    }
    // Each file was attested once: what the leader of the past made was not proposed a second time.
    let mut attested: BTreeMap<String, u64> = BTreeMap::new();
    for record in log(&nodes[2]).await.into_iter().filter(|record| record.kind == "attest") {
        let file = record.detail.split(':').next().expect("a file").to_owned();
        *attested.entry(file).or_default() += 1;
    }
    assert!(attested.len() >= 6, "{attested:?}");
    assert!(attested.values().all(|times| *times == 1), "{attested:?}");
    three.stop().await;
}

/// Appends numbered rows whose answers are often not waited for, through nodes that do not lead for long.
async fn storm(nodes: &[Node], writer: u64, count: u64) -> i64 {
    let mut prng = Prng::from_seed(writer);
    let mut numbered = Numbered::open(&nodes[0], &format!("writer-{writer}")).await;
    let mut sum = 0;
    for sequence in 1..=count {
        let value = i64::try_from(writer * 1_000 + sequence).expect("small");
        let caller = numbered.next();
        let mut answer = None;
        for attempt in 0..40_u64 {
            let node = &nodes[usize::try_from(prng.next_u64() % 2).expect("small")];
            // The first few answers are lost, more or less late.
            let patience = match attempt {
                0..4 => Duration::from_millis(prng.next_u64() % 20),
                _ => Duration::from_secs(30),
            };
            let append = node.append(&caller, "t", vec![rows(value..value + 1)]);
            match tokio::time::timeout(patience, append).await {
                Ok(Ok(written)) => answer = Some(written),
                Ok(Err(error)) => assert!(is_passing(&error), "{error}"),
                Err(_lost) => {}
            }
            if answer.is_some() {
                break;
            }
        }
        let answer = answer.expect("somebody answers");
        let late = async || nodes[1].append(&caller, "t", vec![rows(value..value + 1)]).await;
        assert_eq!(insist(late).await, answer, "long after");
        sum += value;
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m40_answers_that_are_lost_while_leaders_change_take_effect_once() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    let callers = three.nodes[..2].to_vec();
    let storms = join_all((1..=6).map(|writer| storm(&callers, writer, 8)));
    let (done, mut is_done) = watch::channel(false);
    let storms = async {
        let sums = storms.await;
        done.send_replace(true);
        sums
    };
    let changing = async {
        let mut changes = 0;
        while !*is_done.borrow_and_update() {
            // The third is led to, and stops while it leads.
            drop(three.nodes[0].transfer_leader(3).await);
            three.restart(2).await;
            let next = 1 + changes % 2;
            drop(three.nodes[0].transfer_leader(next).await);
            changes += 1;
        }
        (three, changes)
    };
    let (sums, (three, changes)) = tokio::join!(storms, changing);
    assert!(changes > 1, "the leader changed {changes} times");
    three.check_same(6 * 8, sums.iter().sum()).await;
    let distinct = "SELECT count(DISTINCT n) FROM t";
    let answer = three.nodes[2].sql(distinct, SqlOptions::default()).await.expect("plans");
    let answer = answer.collect().await.expect("answers");
    let found = answer[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0);
    assert_eq!(found, 6 * 8);
    three.stop().await;
}
