//! A random history against a plain list of rows, at random indexes.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};

use alluvium_stdx::Prng;
use alluvium_types::{DataType, DatasetKey, SchemaChange};

use crate::lake::{Lake, field, keyed_schema};

#[derive(Debug, Clone)]
struct Row {
    index: u64,
    id: i64,
    n: Option<i32>,
    v: Option<String>,
    extra: Option<i64>,
}

/// What columns there are since an index.
#[derive(Debug, Clone)]
struct Columns {
    since: u64,
    wide: bool,
    v: String,
    extra: bool,
}

struct Model {
    lake: Lake,
    dataset: DatasetKey,
    prng: Prng,
    rows: Vec<Row>,
    tombstones: Vec<(u64, i64)>,
    columns: Vec<Columns>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut lake = Lake::new();
        let dataset = lake.register("t", keyed_schema());
        let first = Columns { since: 1, wide: false, v: "v".to_owned(), extra: false };
        let (rows, tombstones, columns) = (Vec::new(), Vec::new(), vec![first]);
        Self { lake, dataset, prng: Prng::from_seed(seed), rows, tombstones, columns }
    }

    fn now(&self) -> &Columns {
        self.columns.last().expect("there is a first")
    }

    fn batch(&self, rows: &[Row]) -> RecordBatch {
        let now = self.now();
        let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>());
        let n: ArrayRef = if now.wide {
            Arc::new(rows.iter().map(|row| row.n.map(i64::from)).collect::<Int64Array>())
        } else {
            Arc::new(rows.iter().map(|row| row.n).collect::<Int32Array>())
        };
        let v: ArrayRef = Arc::new(rows.iter().map(|row| row.v.clone()).collect::<StringArray>());
        let mut columns = vec![("id", ids), ("n", n), (now.v.as_str(), v)];
        if now.extra {
            let extra = rows.iter().map(|row| row.extra).collect::<Int64Array>();
            columns.push(("extra", Arc::new(extra)));
        }
        let columns = columns.into_iter().map(|(name, column)| (name, column, name != "id"));
        RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
    }

    fn new_rows(&mut self, unique: bool) -> Vec<Row> {
        let count = 1 + self.prng.below(8);
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..count {
            let id = i64::try_from(self.prng.below(20)).expect("small");
            if unique && rows.iter().any(|row| row.id == id) {
                continue;
            }
            let number = i32::try_from(self.prng.below(100)).expect("small");
            let extra = self.now().extra.then(|| i64::from(number) * 7);
            let n = (number % 5 != 0).then_some(number);
            let v = (number % 3 != 0).then(|| format!("text {number}"));
            rows.push(Row { index: 0, id, n, v, extra });
        }
        rows
    }

    async fn step(&mut self) {
        match self.prng.below(12) {
            0..=2 => {
                let rows = self.new_rows(false);
                let batch = self.batch(&rows);
                let index = self.lake.append(self.dataset, &batch).0;
                self.rows.extend(rows.into_iter().map(|row| Row { index, ..row }));
            }
            3..=5 => {
                let rows = self.new_rows(true);
                let batch = self.batch(&rows);
                let index = self.lake.upsert(self.dataset, &batch).0;
                self.tombstones.extend(rows.iter().map(|row| (index, row.id)));
                self.rows.extend(rows.into_iter().map(|row| Row { index, ..row }));
            }
            6..=7 => {
                let rows = self.new_rows(true);
                let batch = self.batch(&rows);
                let index = self.lake.tombstone(self.dataset, &batch).0;
                self.tombstones.extend(rows.iter().map(|row| (index, row.id)));
            }
            8 => {
                self.lake.seal(self.dataset).await;
                self.lake.make_planned().await;
            }
            9 if 1 < self.lake.live_files(self.dataset).len() => {
                self.lake.compact(self.dataset).await;
            }
            10 => self.evolve(),
            _ => self.look().await,
        }
    }

    fn evolve(&mut self) {
        let mut next = self.now().clone();
        let change = match self.prng.below(3) {
            0 if !next.wide => {
                next.wide = true;
                SchemaChange::Widen { column: "n".to_owned(), to: DataType::Int64 }
            }
            1 if !next.extra => {
                next.extra = true;
                SchemaChange::Add(field("extra", DataType::Int64, true))
            }
            _ => {
                let column = next.v.clone();
                next.v = format!("v{}", self.columns.len());
                SchemaChange::Rename { column, to: next.v.clone() }
            }
        };
        self.lake.evolve(self.dataset, change);
        next.since = self.lake.at.0;
        self.columns.push(next);
    }

    fn expected(&self, at: u64) -> Vec<String> {
        let columns = self.columns.iter().rfind(|columns| columns.since <= at);
        let extra = columns.expect("registered").extra;
        let hidden = |row: &Row| {
            let hides = |(t, id): &(u64, i64)| *id == row.id && row.index < *t && *t <= at;
            self.tombstones.iter().any(hides)
        };
        let text = |row: &Row| {
            let n = row.n.map_or_else(String::new, |n| n.to_string());
            let v = row.v.clone().unwrap_or_default();
            let more = row.extra.map_or_else(String::new, |extra| extra.to_string());
            let base = format!("{}|{n}|{v}", row.id);
            if extra { format!("{base}|{more}") } else { base }
        };
        let visible = self.rows.iter().filter(|row| row.index <= at && !hidden(row));
        let mut lines: Vec<String> = visible.map(text).collect();
        lines.sort();
        lines
    }

    async fn look(&mut self) {
        let at = 1 + self.prng.below(self.lake.at.0);
        let found = self.lake.sql(&format!("SELECT * FROM t AS OF {at}")).await;
        assert_eq!(found, self.expected(at), "at {at} of {}", self.lake.at);
        let low = self.prng.below(20);
        let sql = format!("SELECT count(*) FROM t AS OF {at} WHERE id >= {low}");
        let above = |line: &&String| {
            let id = line.split('|').next().expect("an id");
            low <= id.parse::<u64>().expect("a number")
        };
        let expected = self.expected(at).iter().filter(above).count();
        assert_eq!(self.lake.sql(&sql).await, [expected.to_string()], "{sql}");
    }

    async fn check_every_index(&self, seed: u64) {
        for at in 1..=self.lake.at.0 {
            let found = self.lake.sql(&format!("SELECT * FROM t AS OF {at}")).await;
            assert_eq!(found, self.expected(at), "seed {seed}, at {at}");
        }
    }
}

#[tokio::test]
async fn random_histories_read_like_the_model_at_every_index() {
    for seed in 0..8 {
        let mut model = Model::new(seed);
        for _ in 0..50 {
            model.step().await;
        }
        model.check_every_index(seed).await;
    }
}

#[tokio::test]
async fn random_histories_read_the_same_after_the_log_is_purged() {
    for seed in 100..104 {
        let mut model = Model::new(seed);
        for _ in 0..40 {
            model.step().await;
        }
        model.lake.seal(model.dataset).await;
        model.lake.make_planned().await;
        model.lake.log.purge_below(model.lake.at);
        model.check_every_index(seed).await;
    }
}
