//! The model of the questions of W7 and W8: rows as the log says they are at an index.
//!
//! It must not read the dataset. Invariant: a row is visible at an index if it came at or below it and nothing at or
//! below it, and above the row, hid its id.

use std::collections::BTreeMap;

use crate::rows::Row;
use crate::workloads::table::{Asked, Change, Changed, Question};

/// A question whose answer is not the model's, or not that of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The position of the question among all.
    pub(crate) asked: usize,
    /// For people.
    pub(crate) detail: String,
}

#[derive(Debug)]
struct Version {
    from: u64,
    row: [i64; 3],
    /// Where it was hidden.
    until: u64,
}

/// Every version of every row.
#[derive(Debug, Default)]
pub(crate) struct Model {
    versions: Vec<Version>,
    /// The newest visible version of each id.
    newest: BTreeMap<i64, Vec<usize>>,
}

impl Model {
    /// Replays changes in the order of the log; one that is not there had no effect.
    pub(crate) fn of(changes: &[Changed], places: &BTreeMap<String, Vec<u64>>) -> Self {
        let mut ordered: Vec<(u64, &Change)> = Vec::new();
        for changed in changes {
            let indexes = places.get(&changed.tag).map(Vec::as_slice).unwrap_or_default();
            ordered.extend(indexes.iter().map(|index| (*index, &changed.change)));
        }
        ordered.sort_by_key(|(index, _)| *index);
        let mut model = Self::default();
        for (index, change) in ordered {
            match change {
                Change::Append { rows } => rows.iter().for_each(|row| model.add(index, *row)),
                Change::Upsert { rows } => {
                    rows.iter().for_each(|row| model.hide(index, row[0]));
                    rows.iter().for_each(|row| model.add(index, *row));
                }
                Change::Tombstone { ids } => ids.iter().for_each(|id| model.hide(index, *id)),
            }
        }
        model
    }

    fn add(&mut self, from: u64, row: [i64; 3]) {
        self.newest.entry(row[0]).or_default().push(self.versions.len());
        self.versions.push(Version { from, row, until: u64::MAX });
    }

    fn hide(&mut self, index: u64, id: i64) {
        for position in self.newest.remove(&id).unwrap_or_default() {
            if let Some(version) = self.versions.get_mut(position) {
                version.until = index;
            }
        }
    }

    fn at(&self, index: u64) -> Vec<[i64; 3]> {
        let is_visible = |version: &&Version| version.from <= index && index < version.until;
        let mut rows: Vec<_> = self.versions.iter().filter(is_visible).map(|v| v.row).collect();
        rows.sort_unstable();
        rows
    }

    /// What a question is answered at an index.
    pub(crate) fn answer(&self, question: &Question, index: u64) -> Vec<Row> {
        let rows = self.at(index);
        match question {
            Question::Totals => {
                let amounts = || rows.iter().map(|row| row[2]);
                let sum = (!rows.is_empty()).then(|| amounts().sum());
                let count = i64::try_from(rows.len()).ok();
                vec![vec![count, sum, amounts().min(), amounts().max()]]
            }
            Question::Range { low, high } => {
                let fits = |row: &&[i64; 3]| (*low..=*high).contains(&row[2]);
                rows.iter().filter(fits).map(|row| row.map(Some).to_vec()).collect()
            }
            Question::Groups { from } => {
                let mut groups: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
                for row in rows.iter().filter(|row| row[0] >= *from) {
                    let group = groups.entry(row[1]).or_default();
                    *group = (group.0 + 1, group.1 + row[2]);
                }
                let row = |(part, (count, sum))| vec![Some(part), Some(count), Some(sum)];
                groups.into_iter().map(row).collect()
            }
            Question::Part { part, other } => {
                let fits = |row: &&[i64; 3]| row[1] == *part && row[2] % 7 != *other;
                let ids: Vec<i64> = rows.iter().filter(fits).map(|row| row[0]).collect();
                vec![vec![i64::try_from(ids.len()).ok(), ids.iter().max().copied()]]
            }
        }
    }
}

/// Compares every answer with the model, and answers to one question at one index with each other.
pub(crate) fn compare(model: &Model, asked: &[Asked]) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut first: BTreeMap<(&Question, u64), usize> = BTreeMap::new();
    for (position, one) in asked.iter().enumerate() {
        let earlier = *first.entry((&one.question, one.index)).or_insert(position);
        if asked[earlier].rows != one.rows {
            let (node, index) = (one.node, one.index);
            let other = asked[earlier].node;
            let question = &one.question;
            let detail = format!(
                "{question:?} as of {index}: node {node} and node {other} answer differently"
            );
            found.push(Difference { asked: position, detail });
        }
        let expected = model.answer(&one.question, one.index);
        if expected != one.rows {
            let (node, index, question) = (one.node, one.index, &one.question);
            let detail = format!(
                "{question:?} as of {index}: node {node} says {}, the log says {}",
                brief(&one.rows),
                brief(&expected)
            );
            found.push(Difference { asked: position, detail });
        }
    }
    found
}

fn brief(rows: &[Row]) -> String {
    let shown: Vec<String> = rows.iter().take(4).map(|row| format!("{row:?}")).collect();
    format!("{} rows {}", rows.len(), shown.join(" ").replace("Some", ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::Workload;

    fn model(changes: &[(u64, Change)]) -> Model {
        let tag = |index: &u64| format!("t{index}");
        let places = changes.iter().map(|(index, _)| (tag(index), vec![*index])).collect();
        let changed =
            |(index, change): &(u64, Change)| Changed { tag: tag(index), change: change.clone() };
        Model::of(&changes.iter().map(changed).collect::<Vec<_>>(), &places)
    }

    fn sample() -> Model {
        model(&[
            (5, Change::Tombstone { ids: vec![1] }),
            (2, Change::Append { rows: vec![[1, 0, 10], [2, 0, -4]] }),
            (4, Change::Upsert { rows: vec![[2, 1, 7]] }),
        ])
    }

    #[test]
    fn totals_follow_the_log_and_not_the_order_in_which_changes_were_sent() {
        let model = sample();
        let totals = |index| model.answer(&Question::Totals, index);
        assert_eq!(totals(1), [[Some(0), None, None, None]]);
        assert_eq!(totals(3), [[Some(2), Some(6), Some(-4), Some(10)]]);
        assert_eq!(totals(4), [[Some(2), Some(17), Some(7), Some(10)]]);
        assert_eq!(totals(9), [[Some(1), Some(7), Some(7), Some(7)]]);
    }

    #[test]
    fn filters_and_groups_are_those_of_the_statement() {
        let model = sample();
        let ask = |question, index| model.answer(&question, index);
        assert_eq!(ask(Question::Range { low: -4, high: 9 }, 3), [[Some(2), Some(0), Some(-4)]]);
        assert_eq!(
            ask(Question::Groups { from: 1 }, 4),
            [[Some(0), Some(1), Some(10)], [Some(1), Some(1), Some(7)]]
        );
        assert_eq!(ask(Question::Part { part: 0, other: 3 }, 4), [[Some(0), None]]);
    }

    #[test]
    fn an_answer_that_differs_from_the_model_or_from_another_node_is_found() {
        let model = sample();
        let asked = |node, rows| Asked {
            workload: Workload::W7,
            node,
            begin_ns: 0,
            end_ns: 1,
            question: Question::Totals,
            index: 9,
            rows,
        };
        let right = vec![vec![Some(1), Some(7), Some(7), Some(7)]];
        let wrong = vec![vec![Some(2), Some(17), Some(7), Some(10)]];
        assert_eq!(compare(&model, &[asked(1, right.clone()), asked(2, right.clone())]), []);
        let found = compare(&model, &[asked(1, right), asked(2, wrong)]);
        assert_eq!(found.iter().map(|one| one.asked).collect::<Vec<_>>(), [1, 1]);
        assert!(found[1].detail.contains("node 2 says 1 rows [(2), (17)"), "{}", found[1].detail);
    }
}
