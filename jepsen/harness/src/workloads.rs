//! What clients do: one module for each workload, W1 to W8.
//!
//! Each fills books with operations of one kind, reads everything of its books through every node at the end, and
//! says which judges its books get. It must not judge. Invariant: the books of a workload begin with its name.

use std::cell::Cell;

use serde::Serialize;

use crate::limits;
use crate::recorder::Ending;
use crate::stage::{Client, Stage};

pub(crate) mod bank;
pub(crate) mod datasets;
pub(crate) mod lists;
pub(crate) mod maintenance;
pub(crate) mod registers;
pub(crate) mod sessions;
pub(crate) mod sets;
pub(crate) mod table;

/// Which one. W9 (watch) is not offered by the product, and W10 is W1 and W2 while members change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Registering, describing and dropping datasets.
    W1,
    /// Appends to lists, alone and in transactions.
    W2,
    /// Sets with tombstones, while files are cut and rewritten.
    W3,
    /// Transfers between accounts.
    W4,
    /// Registers and rows.
    W5,
    /// Commands of sessions, sent several times.
    W6,
    /// Aggregates as of an index, again and again.
    W7,
    /// Random questions, against the rows that the log says there are.
    W8,
    /// Seals, compactions and expiries beside the others. Nobody selects it: it always runs.
    Maintenance,
}

impl Workload {
    /// Those that can be selected.
    pub(crate) const ALL: [Self; 8] =
        [Self::W1, Self::W2, Self::W3, Self::W4, Self::W5, Self::W6, Self::W7, Self::W8];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::W1 => "w1",
            Self::W2 => "w2",
            Self::W3 => "w3",
            Self::W4 => "w4",
            Self::W5 => "w5",
            Self::W6 => "w6",
            Self::W7 => "w7",
            Self::W8 => "w8",
            Self::Maintenance => "maintenance",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::W1 => "datasets",
            Self::W2 => "lists",
            Self::W3 => "sets",
            Self::W4 => "bank",
            Self::W5 => "registers",
            Self::W6 => "sessions",
            Self::W7 => "snapshots",
            Self::W8 => "questions",
            Self::Maintenance => "files",
        }
    }

    /// How many of ten clients are its own.
    const fn weight(self) -> usize {
        match self {
            Self::W3 | Self::W5 => 2,
            Self::W1 | Self::W2 | Self::W4 | Self::W6 | Self::W7 | Self::W8 => 1,
            Self::Maintenance => 0,
        }
    }

    /// Reads `all` or a list such as `w1,w5`.
    pub(crate) fn parse_list(list: &str) -> Result<Vec<Self>, String> {
        let mut found = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let one = Self::ALL.iter().find(|workload| workload.name() == name);
            match (name, one) {
                ("all", _) => found.extend(Self::ALL),
                ("w10", _) => found.extend([Self::W1, Self::W2]),
                ("w9", _) => return Err("w9: the product offers no watch yet".to_owned()),
                (_, Some(one)) => found.push(*one),
                (_, None) => return Err(format!("no workload is called `{name}`")),
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// Divides clients among workloads: each gets at least two, or one where there are too few for that.
pub(crate) fn shares(workloads: &[Workload], clients: usize) -> Vec<(Workload, usize)> {
    let total: usize = workloads.iter().map(|workload| workload.weight()).sum();
    let share = |workload: &Workload| {
        let least = if workloads.len() * 2 <= clients { 2 } else { 1 };
        (*workload, (clients * workload.weight() / total.max(1)).max(least))
    };
    workloads.iter().map(share).collect()
}

/// What the clients of all workloads share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) datasets: datasets::Shared,
    pub(crate) lists: lists::Shared,
    pub(crate) sets: sets::Shared,
    pub(crate) bank: bank::Shared,
    pub(crate) registers: registers::Shared,
    pub(crate) sessions: sessions::Shared,
    pub(crate) table: table::Shared,
}

/// Does calls of a client's workload until the stage is over.
pub(crate) async fn run(mut client: Client<'_>, shared: &Shared) {
    while !client.is_over() {
        step(&mut client, shared).await;
        client.rest().await;
    }
}

/// Does one call.
pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    match client.workload {
        Workload::W1 => datasets::step(client, &shared.datasets).await,
        Workload::W2 => lists::step(client, &shared.lists).await,
        Workload::W3 => sets::step(client, &shared.sets).await,
        Workload::W4 => bank::step(client, &shared.bank).await,
        Workload::W5 => registers::step(client, &shared.registers).await,
        Workload::W6 => sessions::step(client, &shared.sessions).await,
        Workload::W7 | Workload::W8 => table::step(client, &shared.table).await,
        Workload::Maintenance => maintenance::step(client, shared).await,
    }
}

/// Reads everything of one book through the node that the client is bound to.
pub(crate) async fn read_book(client: &mut Client<'_>, shared: &Shared, book: &str) -> Ending {
    match client.workload {
        Workload::W1 => datasets::read(client, book).await,
        Workload::W2 => lists::read(client, book).await,
        Workload::W3 => sets::scan(client, book).await,
        Workload::W4 => bank::read(client, book).await,
        Workload::W5 => registers::read_all(client, book).await,
        Workload::W6 => sessions::count(client, book).await,
        Workload::W7 | Workload::W8 => table::ask(client, &shared.table, false).await,
        Workload::Maintenance => Ending::Ok,
    }
}

/// The part of a workload that is being filled, and when to begin the next one.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    number: Cell<u64>,
    operations: Cell<u64>,
    doubts: Cell<u64>,
    is_ready: Cell<bool>,
}

impl Rotation {
    /// Returns the number of the current part, and whether its dataset is there.
    pub(crate) fn current(&self, operations_max: u64) -> (u64, bool) {
        let is_full = self.operations.get() >= operations_max;
        if self.number.get() == 0 || is_full || self.doubts.get() >= limits::BOOK_DOUBTS_MAX {
            self.number.set(self.number.get() + 1);
            self.operations.set(0);
            self.doubts.set(0);
            self.is_ready.set(false);
        }
        (self.number.get(), self.is_ready.get())
    }

    /// Says that the dataset of a part is there.
    pub(crate) fn ready(&self, number: u64) {
        if self.number.get() == number {
            self.is_ready.set(true);
        }
    }

    /// Counts an operation of a part.
    pub(crate) fn count(&self, number: u64, ending: Ending) {
        if self.number.get() != number {
            return;
        }
        self.operations.set(self.operations.get() + 1);
        let doubt = u64::from(ending == Ending::Info);
        self.doubts.set(self.doubts.get() + doubt);
    }

    /// Returns the number of a part that is filled or being filled, the newest most of the time.
    pub(crate) fn some(&self, client: &mut Client<'_>) -> Option<u64> {
        let newest = self.number.get();
        (newest > 0).then(|| newest - client.prng.below(newest.min(3)))
    }
}

/// Makes a dataset if it is not there; it is the same dataset however often it is asked for.
pub(crate) async fn ensure(
    client: &mut Client<'_>,
    name: &str,
    columns: &[&str],
    keys: &[&str],
) -> Option<u64> {
    let write = client.write(name);
    let made = client.lake().register(&write, (columns, keys), limits::SEAL_ROWS).await;
    if made.is_err() {
        client.move_on();
    }
    made.ok().map(|made| made.incarnation)
}

/// Returns the book of a part: also the name of its dataset.
pub(crate) fn book(prefix: &str, number: u64) -> String {
    format!("{prefix}-{number:04}")
}

/// Returns the prefix of a book.
pub(crate) fn kind_of(book: &str) -> &str {
    book.split('-').next().unwrap_or_default()
}

/// Returns the number of a book.
pub(crate) fn number(book: &str) -> u64 {
    book.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Makes one client for each share, and one for maintenance.
pub(crate) fn clients<'a>(
    stage: &'a Stage,
    shares: &[(Workload, usize)],
    seed: u64,
) -> anyhow::Result<Vec<Client<'a>>> {
    let mut all = vec![Client::new(stage, Workload::Maintenance, seed)?];
    for (workload, count) in shares {
        for _ in 0..*count {
            let number = u64::try_from(all.len()).unwrap_or(0);
            all.push(Client::new(stage, *workload, seed.wrapping_mul(1_000).wrapping_add(number))?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_workloads_names_each_once_and_what_is_not_offered_is_refused() {
        assert_eq!(Workload::parse_list("all"), Ok(Workload::ALL.to_vec()));
        assert_eq!(Workload::parse_list("w5, w3,w5"), Ok(vec![Workload::W3, Workload::W5]));
        assert_eq!(Workload::parse_list("w10"), Ok(vec![Workload::W1, Workload::W2]));
        assert!(Workload::parse_list("w9").is_err_and(|why| why.contains("no watch")));
        assert_eq!(Workload::parse_list("w11"), Err("no workload is called `w11`".to_owned()));
    }

    #[test]
    fn every_workload_gets_a_client_however_few_there_are() {
        for count in [1, 8, 12, 16, 20] {
            let shares = shares(&Workload::ALL, count);
            assert!(shares.iter().all(|(_, share)| *share >= 1), "{shares:?}");
        }
        assert_eq!(shares(&[Workload::W5], 4), [(Workload::W5, 4)]);
    }

    #[test]
    fn a_part_ends_when_it_is_full_or_too_doubtful() {
        let rotation = Rotation::default();
        assert_eq!(rotation.current(2), (1, false));
        rotation.ready(1);
        rotation.count(1, Ending::Ok);
        assert_eq!(rotation.current(2), (1, true));
        rotation.count(1, Ending::Fail);
        assert_eq!(rotation.current(2), (2, false));
        rotation.ready(1);
        for _ in 0..limits::BOOK_DOUBTS_MAX {
            rotation.count(2, Ending::Info);
        }
        assert_eq!(rotation.current(u64::MAX), (3, false));
        assert_eq!(number(&book("w4", 12)), 12);
    }
}
