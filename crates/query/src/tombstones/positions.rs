//! Hidden rows of one data file, by position, and since when.
//!
//! Must not: forget which tombstone hid a row first: that is what lets one entry answer for every index.
//! Invariant: `layers` ascend, are disjoint, and no tombstone up to `upto` is missing from them.

use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringBitmap;

use alluvium_types::LogIndex;

/// What a bitmap takes besides its values: itself, and its first container.
const BITMAP_BYTES: usize = 128;

/// The hidden rows of a file, as far as tombstones were looked at.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// Tombstones up to here are accounted for.
    pub(crate) upto: LogIndex,
    /// Rows by the lowest tombstone that hides them.
    layers: Vec<(u64, RoaringBitmap)>,
    /// All of them.
    all: Arc<RoaringBitmap>,
    /// Rows of each row group of the file; empty as long as nobody had to read its footer.
    pub(crate) row_groups: Arc<[u64]>,
}

/// The rows that one query must not see.
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    /// Their positions.
    pub(crate) positions: Arc<RoaringBitmap>,
    /// Rows of each row group of the file.
    pub(crate) row_groups: Arc<[u64]>,
}

impl Resolved {
    /// Returns what is known of a file before any tombstone above `upto` was looked at.
    pub(crate) fn nothing_hidden(upto: LogIndex) -> Self {
        let all = Arc::new(RoaringBitmap::new());
        Self { upto, layers: Vec::new(), all, row_groups: Arc::from([]) }
    }

    /// Says whether a row is hidden by a tombstone up to `upto`.
    pub(crate) fn is_hidden(&self, position: u32) -> bool {
        self.all.contains(position)
    }

    /// Returns the same rows after tombstones up to `upto` that hide none of the others.
    pub(crate) fn advanced(&self, upto: LogIndex) -> Self {
        assert!(self.upto <= upto, "resolving goes forward");
        Self { upto, ..self.clone() }
    }

    /// Adds rows that tombstones above the old `upto` hide, each with the lowest that does.
    pub(crate) fn extended(
        &self,
        upto: LogIndex,
        mut found: Vec<(u64, u32)>,
        row_groups: Arc<[u64]>,
    ) -> Self {
        assert!(self.upto <= upto, "resolving goes forward");
        found.sort_unstable();
        let mut layers = self.layers.clone();
        let mut all = self.all.as_ref().clone();
        for chunk in found.chunk_by(|a, b| a.0 == b.0) {
            let time = chunk[0].0;
            assert!(
                self.upto.0 < time && time <= upto.0,
                "a tombstone outside the range asked for"
            );
            let rows: RoaringBitmap = chunk.iter().map(|(_, position)| *position).collect();
            all |= &rows;
            layers.push((time, rows));
        }
        assert!(layers.is_sorted_by_key(|(time, _)| *time), "layers ascend");
        Self { upto, layers, all: Arc::new(all), row_groups }
    }

    /// Returns the rows hidden at an index.
    pub(crate) fn hidden(&self, at: LogIndex) -> Hidden {
        assert!(at <= self.upto, "tombstones up to {at} were not looked at");
        let later = self.layers.last().is_some_and(|(time, _)| at.0 < *time);
        let positions = if later {
            let earlier = self.layers.iter().take_while(|(time, _)| *time <= at.0);
            Arc::new(earlier.fold(RoaringBitmap::new(), |rows, (_, layer)| rows | layer))
        } else {
            Arc::clone(&self.all)
        };
        Hidden { positions, row_groups: Arc::clone(&self.row_groups) }
    }

    /// Returns about how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        let of = |rows: &RoaringBitmap| BITMAP_BYTES + rows.serialized_size();
        let layers: usize = self.layers.iter().map(|(_, rows)| of(rows)).sum();
        128 + layers + of(&self.all) + self.row_groups.len() * 8
    }
}

impl Hidden {
    /// Returns how to read the file without them; nothing when none is hidden.
    pub(crate) fn access_plan(&self) -> Option<ParquetAccessPlan> {
        if self.positions.is_empty() {
            return None;
        }
        let mut start = 0_u64;
        let mut groups = Vec::with_capacity(self.row_groups.len());
        for rows in self.row_groups.iter() {
            groups.push(self.group_access(start, *rows));
            start += rows;
        }
        let last = self.positions.max().map_or(0, u64::from);
        assert!(last < start, "a hidden row behind the end of its file");
        Some(ParquetAccessPlan::new(groups))
    }

    fn group_access(&self, start: u64, rows: u64) -> RowGroupAccess {
        let first = u32::try_from(start).expect("a file has fewer than 2^32 rows");
        let end = u32::try_from(start + rows).expect("a file has fewer than 2^32 rows");
        let hidden = self.positions.range_cardinality(first..end);
        if hidden == 0 {
            return RowGroupAccess::Scan;
        }
        if hidden == rows {
            return RowGroupAccess::Skip;
        }
        let mut selectors = Vec::new();
        let mut next = first;
        let mut push = |select: bool, count: u32| {
            let count = count as usize;
            if count > 0 {
                selectors.push(RowSelector { row_count: count, skip: !select });
            }
        };
        let mut hidden = self.positions.range(first..end).peekable();
        while let Some(position) = hidden.next() {
            push(true, position - next);
            let mut after = position + 1;
            while hidden.next_if_eq(&after).is_some() {
                after += 1;
            }
            push(false, after - position);
            next = after;
        }
        push(true, end - next);
        RowGroupAccess::Selection(RowSelection::from(selectors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_answers_for_every_index_up_to_its_own() {
        let resolved = Resolved::nothing_hidden(LogIndex(3))
            .extended(LogIndex(8), vec![(7, 0), (5, 2), (5, 4)], Arc::from([6]))
            .extended(LogIndex(12), vec![(12, 5)], Arc::from([6]));
        let at = |index| resolved.hidden(LogIndex(index)).positions.iter().collect::<Vec<_>>();
        assert_eq!(at(4), [0_u32; 0]);
        assert_eq!(at(5), [2, 4]);
        assert_eq!(at(7), [0, 2, 4]);
        assert_eq!(at(12), [0, 2, 4, 5]);
    }

    #[test]
    fn an_access_plan_selects_exactly_the_rows_that_are_left() {
        let found = [3_u32, 4, 9, 10, 11, 20].map(|position| (1, position)).to_vec();
        let resolved = Resolved::nothing_hidden(LogIndex(0)).extended(
            LogIndex(1),
            found,
            Arc::from([5, 4, 3, 10]),
        );
        let plan = resolved.hidden(LogIndex(1)).access_plan().expect("rows are hidden");
        let select = |row_count| RowSelector { row_count, skip: false };
        let skip = |row_count| RowSelector { row_count, skip: true };
        let selection = |list: Vec<RowSelector>| RowGroupAccess::Selection(list.into());
        let expected = ParquetAccessPlan::new(vec![
            selection(vec![select(3), skip(2)]),
            RowGroupAccess::Scan,
            RowGroupAccess::Skip,
            selection(vec![select(8), skip(1), select(1)]),
        ]);
        assert_eq!(plan, expected);
    }
}
