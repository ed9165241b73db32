//! Bugs that others shipped.

use alluvium_state_machine::record::SweepRecord;
use alluvium_stdx::Prng;
use alluvium_types::{AttestOutcome, FileId, LogIndex};
use futures::executor::block_on;

use super::lake::{BUCKET, Lake, row, rows_of};
use crate::{object_key, sweep};

/// Writes a file's bytes where another program can read them.
fn export(lake: &Lake, record: &alluvium_state_machine::record::FileRecord) -> tempfile::TempPath {
    let mut file = tempfile::Builder::new().suffix(".parquet").tempfile().expect("a file");
    std::io::Write::write_all(&mut file, &lake.bytes(record)).expect("written");
    file.into_temp_path()
}

/// Runs a program for Python, which reads the file by means that are not ours.
fn python(program: &str, path: &std::path::Path) -> String {
    let interpreter = std::env::var("ALLUVIUM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut command = std::process::Command::new(interpreter);
    let output = command.arg("-c").arg(program).arg(path).output().expect("a Python with pyarrow");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn numbered(from: u32, count: u32) -> Vec<(Vec<u8>, Option<String>)> {
    (from..from + count).map(|n| row(&n.to_be_bytes(), &format!("value {}", n % 97))).collect()
}

#[test]
fn museum_m01_a_compaction_over_many_batches_is_read_whole_by_two_other_readers() {
    let mut lake = Lake::new();
    for seal in 0..5 {
        for batch in 0..7 {
            lake.append(&numbered(seal * 70_000 + batch * 10_000, 1_500));
        }
        lake.seal();
    }
    let key = 70_000_u32.to_be_bytes();
    lake.tombstone(&[&key]);
    let record = lake.compact().expect("rows are left");
    assert_eq!(record.attested().map(|a| (a.rows, a.rows_hidden)), Some((52_499, 1)));
    lake.check();
    let path = export(&lake, &record);
    let program = "import sys, pyarrow.parquet as p, duckdb as d\n\
        t = p.read_table(sys.argv[1])\n\
        q = f\"select count(*), count(distinct k), sum(_alluvium_index) from '{sys.argv[1]}'\"\n\
        print(t.num_rows, sum(t['_alluvium_index'].to_pylist()), *d.sql(q).fetchall()[0])";
    let sum: u64 = lake.expected(lake.last()).iter().map(|row| row.2).sum();
    assert_eq!(python(program, &path), format!("52499 {sum} 52499 52499 {sum}"));
}

#[test]
fn museum_m02_a_rewrite_keeps_the_codec_and_does_not_grow() {
    let mut lake = Lake::new();
    for seal in 0..4 {
        lake.append(&numbered(seal * 30_000, 30_000));
        lake.seal();
    }
    let len = |r: &alluvium_state_machine::record::FileRecord| {
        r.attested().expect("attested").digest.len_bytes
    };
    let before: u64 = lake.live().iter().map(len).sum();
    let record = lake.compact().expect("rows are left");
    assert!(len(&record) <= before + before / 10, "{before} bytes became {}", len(&record));
    let program = "import sys, pyarrow.parquet as p\n\
        m = p.ParquetFile(sys.argv[1]).metadata\n\
        g = [m.row_group(i) for i in range(m.num_row_groups)]\n\
        print(sorted({r.column(c).compression for r in g for c in range(r.num_columns)}))";
    assert_eq!(python(program, &export(&lake, &record)), "['ZSTD']");
}

#[test]
fn museum_m04_tombstones_that_arrive_in_any_phase_of_a_compaction_hide_their_rows() {
    for phase in 0..5 {
        let mut lake = Lake::new();
        lake.append(&[row(b"a", "1"), row(b"b", "1"), row(b"c", "1")]);
        lake.seal();
        lake.append(&[row(b"a", "2"), row(b"d", "2")]);
        lake.seal();
        let strike = |lake: &mut Lake, now| {
            if phase == now {
                lake.tombstone(&[b"a", b"d"]);
                lake.upsert(&[row(b"d", "again")]);
            }
        };
        strike(&mut lake, 0);
        let plan = lake.plan_compaction();
        strike(&mut lake, 1);
        let outcome = lake.make(&plan).expect("made");
        strike(&mut lake, 2);
        let hidden = if phase == 0 { 3 } else { 0 };
        let AttestOutcome::Written(written) = &outcome else { panic!("{outcome:?}") };
        assert_eq!((written.rows_hidden, written.rows), (hidden, 5 - hidden), "phase {phase}");
        lake.attest(&plan, outcome);
        strike(&mut lake, 3);
        lake.check();
        lake.append(&[row(b"e", "3")]);
        lake.seal();
        strike(&mut lake, 4);
        lake.check();
        lake.compact();
        lake.check();
    }
}

#[test]
fn museum_m11_rows_with_empty_keys_and_null_values_outlive_tombstones_of_other_keys() {
    let mut lake = Lake::new();
    let keys: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"\xff", b"\0\xff", b"\xff\0"];
    let rows: Vec<_> = keys.iter().map(|key| (key.to_vec(), None)).collect();
    lake.append(&rows);
    lake.seal();
    for key in keys {
        lake.tombstone(&[key]);
        lake.check();
        lake.append(&[row(key, "back")]);
        lake.seal();
        lake.compact();
        lake.check();
    }
    assert_eq!(lake.visible(lake.last()).len(), 6);
}

#[test]
fn museum_m12_a_key_that_was_put_again_survives_every_later_compaction() {
    let mut lake = Lake::new();
    lake.append(&[row(b"k", "old"), row(b"other", "x")]);
    lake.tombstone(&[b"k"]);
    lake.append(&[row(b"k", "new")]);
    lake.seal();
    for _ in 0..3 {
        let record = lake.compact().expect("rows are left");
        lake.check();
        let rows =
            alluvium_parquet::read_file(lake.bytes(&record), &alluvium_parquet::Projection::All);
        let found: Vec<_> = rows.expect("whole").iter().flat_map(rows_of).collect();
        assert!(found.contains(&(b"k".to_vec(), Some("new".to_owned()), 4)), "{found:?}");
        lake.append(&[row(b"more", "y")]);
        lake.seal();
    }
}

#[test]
fn museum_m38_m39_a_sweep_touches_the_one_object_that_its_record_names() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1")]);
    let first = lake.seal();
    lake.append(&[row(b"b", "1")]);
    let second = lake.seal();
    let output = lake.compact().expect("rows are left");
    // An object that no record names, as a fenced writer may have left it.
    let foreign = object_key(lake.dataset, FileId(999), 7);
    block_on(lake.bucket.put_new(&foreign, "foreign".into())).expect("put");
    let record =
        |generation| SweepRecord { generation, bucket: BUCKET.to_owned(), since: LogIndex(1) };
    for _ in 0..2 {
        let record = record(first.generation);
        block_on(sweep(&lake.bucket, lake.dataset, first.file, &record))
            .expect("again is no error");
    }
    let is_there =
        |key: &object_store::path::Path| block_on(lake.bucket.head(key)).expect("probed").is_some();
    let key = |r: &alluvium_state_machine::record::FileRecord| {
        object_key(lake.dataset, r.file, r.generation)
    };
    assert!(!is_there(&key(&first)));
    assert!(is_there(&key(&second)) && is_there(&key(&output)) && is_there(&foreign));
    lake.check();
}

#[test]
fn a_compaction_without_a_row_left_makes_no_file() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1"), row(b"a", "2")]);
    lake.seal();
    lake.tombstone(&[b"a"]);
    let plan = lake.plan_compaction();
    let outcome = lake.make(&plan).expect("made");
    assert_eq!(outcome, AttestOutcome::Empty { rows_hidden: 2 });
    lake.attest(&plan, outcome);
    assert!(lake.live().is_empty());
    lake.check();
}

#[test]
fn any_order_of_writes_seals_and_compactions_agrees_with_the_model_at_every_index() {
    for seed in 0..8 {
        let mut prng = Prng::from_seed(seed);
        let mut lake = Lake::new();
        let mut checkpoints = Vec::new();
        for step in 0..60 {
            let key = [prng.next_u64().to_le_bytes()[0] % 12];
            let value = format!("{step}");
            match prng.below(12) {
                0..4 => lake.append(&[row(&key, &value), row(&[key[0] + 1], &value)]),
                4..6 => lake.upsert(&[row(&key, &value)]),
                6..9 => lake.tombstone(&[&key]),
                9..11 if has_deltas(&lake) => drop(lake.seal()),
                _ if !lake.live().is_empty() => drop(lake.compact()),
                _ => lake.tombstone(&[&key]),
            }
            lake.check();
            checkpoints.push(lake.last());
        }
        for at in checkpoints {
            assert_eq!(lake.visible(at), lake.expected(at), "seed {seed} as of {at}");
        }
    }
}

fn has_deltas(lake: &Lake) -> bool {
    let view = lake.store.as_ref();
    let counters = alluvium_state_machine::catalog::counters(view, lake.dataset);
    counters.expect("readable").unsealed_deltas > 0
}
