//! Tables, on the terminal and in docs/BENCHMARKS.md: the same text.
//!
//! It must not touch what other commands wrote on the page. Invariant: every figure stands beside how durable its
//! contender is, and a missed goal is not rounded up.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::args::Args;
use crate::contest::{Case, Contender, Sample, Section};
use alluvium_bench_kit::stats::{median, range};

const PAGE: &str = "docs/BENCHMARKS.md";
/// What stands around the part of the page that is ours. `cargo xtask bench` keeps it.
const BEGIN: &str = "<!-- three nodes: begin -->";
const END: &str = "<!-- three nodes: end -->";

impl Section {
    pub(crate) fn render(&self) -> String {
        let mut text = format!("### {}\n\n{}\n\n", self.title, self.note.trim());
        let extras: String = self.extras.iter().map(|heading| format!("{heading} | ")).collect();
        let rules = "---:|".repeat(self.extras.len());
        let head = format!("| case | contender | as durable | {} | {extras}", self.figure);
        line(&mut text, &format!("{head}Alluvium against it | goal |"));
        line(&mut text, &format!("|---|---|---|---:|{rules}---:|---:|"));
        for case in &self.cases {
            for (position, contender) in case.contenders.iter().enumerate() {
                let name = if position == 0 { case.name.as_str() } else { "" };
                let cells = self.cells(case, position);
                let goal = goal(contender, case.ratio(position));
                let (who, durability) = (contender.name, contender.durability);
                line(&mut text, &format!("| {name} | {who} | {durability} | {cells} | {goal} |"));
            }
        }
        text
    }

    fn cells(&self, case: &Case, position: usize) -> String {
        let contender = &case.contenders[position];
        if let Some(why) = &contender.failed {
            let empty = " |".repeat(self.extras.len() + 1);
            return format!("failed: {}{empty}", why.replace(['|', '\n'], "/"));
        }
        let samples = &contender.samples;
        let mut cells = vec![spread(samples)];
        for extra in 0..self.extras.len() {
            cells.push(middle(samples, |sample| sample.extras.get(extra).copied()));
        }
        let ratio = case.ratio(position).filter(|_| position > 0);
        cells.push(ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x")));
        cells.join(" | ")
    }

    /// Names the contenders that failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let contenders =
            self.cases.iter().flat_map(|case| case.contenders.iter().map(move |one| (case, one)));
        let failed = contenders.filter_map(|(case, one)| {
            let why = one.failed.as_ref()?;
            Some(format!("{}, {}, {}: {why}", self.title, case.name, one.name))
        });
        failed.collect()
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes any line");
}

fn goal(contender: &Contender, ratio: Option<f64>) -> String {
    match (contender.goal, ratio) {
        (Some(goal), Some(ratio)) if goal <= ratio => format!("{goal}x, reached"),
        (Some(goal), Some(_)) => format!("{goal}x, missed"),
        (Some(goal), None) => format!("{goal}x"),
        (None, _) => String::new(),
    }
}

fn middle(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> String {
    let values: Vec<f64> = samples.iter().filter_map(of).collect();
    median(&values).map_or(String::new(), figure)
}

fn spread(samples: &[Sample]) -> String {
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    let (Some(median), Some((low, high))) = (median(&values), range(&values)) else {
        return String::new();
    };
    match values.len() {
        1 => figure(median),
        _ => format!("{} ({} to {})", figure(median), figure(low), figure(high)),
    }
}

/// Writes a figure with three digits that count, and separators in large ones.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        small if small < 10.0 => 2,
        medium if medium < 100.0 => 1,
        _ => 0,
    };
    let plain = format!("{value:.digits$}");
    let (whole, fraction) =
        plain.split_once('.').map_or((plain.as_str(), None), |(w, f)| (w, Some(f)));
    let mut separated = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            separated.push(',');
        }
        separated.push(digit);
    }
    fraction.map_or(separated.clone(), |fraction| format!("{separated}.{fraction}"))
}

/// Puts the section into docs/BENCHMARKS.md, in place of the one that is there.
#[expect(
    clippy::disallowed_methods,
    reason = "a page under version control need not survive a crash"
)]
pub(crate) fn write_page(
    root: &Path,
    machine: &str,
    args: &Args,
    sections: &[Section],
) -> Result<()> {
    let path = root.join(PAGE);
    let page =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let page = replaced(&page, &part(machine, args, sections))?;
    std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

/// Returns the page with our part in the place of the old one, or at its end.
fn replaced(page: &str, part: &str) -> Result<String> {
    let Some((before, rest)) = page.split_once(BEGIN) else {
        return Ok(format!("{}\n\n{part}", page.trim_end()));
    };
    let (_old, after) =
        rest.split_once(END).context("the page has a begin mark and no end mark")?;
    Ok(format!("{before}{}{after}", part.trim_end()))
}

fn part(machine: &str, args: &Args, sections: &[Section]) -> String {
    let mut text = format!("{BEGIN}\n## Three nodes\n\n");
    text.push_str("`cargo xtask bench-cluster` writes this section; do not edit it.\n\n");
    line(
        &mut text,
        &format!(
            "- Three processes of each contender on loopback, one contender at a time, in turn, {} rounds, on one \
             disk. A figure is the median, with the smallest and the largest. A timed run lasts {} ms after a \
             warm-up, on a new cluster.",
            args.rounds, args.millis
        ),
    );
    text.push_str(
        "- \"Alluvium against it\" is the median of the ratios within each round; above 1 Alluvium is better, \
         whatever the unit. Goals come before the measurement.\n\n",
    );
    text.push_str(machine);
    for section in sections {
        text.push_str(&format!("\n{}", section.render()));
    }
    line(&mut text, END);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::{Better, SYNCED};

    #[test]
    fn a_table_has_a_row_for_each_contender_and_a_missed_goal_stays_missed() {
        let mut ours = Contender::new("Alluvium", SYNCED, None);
        let mut etcd = Contender::new("etcd", SYNCED, Some(4.0));
        let mut gone = Contender::new("gone", SYNCED, None);
        for (value, other) in [(30.0, 10.0), (40.0, 10.0), (20.0, 10.0)] {
            ours.take(Ok(Sample { value, extras: vec![84.25] }));
            etcd.take(Ok(Sample { value: other, extras: vec![84.25] }));
        }
        gone.take(Err(anyhow::anyhow!("a | b")));
        let contenders = vec![ours, etcd, gone];
        let case = Case { name: "16 clients".to_owned(), better: Better::Higher, contenders };
        let section = Section {
            title: "commits",
            note: "A note.".to_owned(),
            figure: "commands/s",
            extras: &["p50 us"],
            cases: vec![case],
        };
        let text = section.render();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        let durable = SYNCED;
        assert_eq!(
            rows,
            [
                "| case | contender | as durable | commands/s | p50 us | Alluvium against it | goal |"
                    .to_owned(),
                format!("| 16 clients | Alluvium | {durable} | 30.0 (20.0 to 40.0) | 84.2 |  |  |"),
                format!(
                    "|  | etcd | {durable} | 10.0 (10.0 to 10.0) | 84.2 | 3.00x | 4x, missed |"
                ),
                format!("|  | gone | {durable} | failed: a / b | | |  |"),
            ]
        );
        assert_eq!(section.failures(), ["commits, 16 clients, gone: a | b"]);
    }

    #[test]
    fn only_our_part_of_the_page_is_replaced() {
        let part = |text: &str| format!("{BEGIN}\n{text}\n{END}\n");
        let first = replaced("# Title\n\nOthers.\n", &part("one")).expect("no marks");
        assert_eq!(first, format!("# Title\n\nOthers.\n\n{}", part("one")));
        let second = replaced(&format!("{first}\nMore.\n"), &part("two")).expect("both marks");
        assert_eq!(second, format!("# Title\n\nOthers.\n\n{}\nMore.\n", part("two")));
        let error = replaced(BEGIN, &part("one")).expect_err("no end mark");
        assert_eq!(error.to_string(), "the page has a begin mark and no end mark");
    }
}
