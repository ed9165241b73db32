//! Tables, on the terminal and in docs/BENCHMARKS.md: the same text.
//!
//! It must not round a missed goal up. Invariant: every figure stands beside how durable its contender is.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::contest::{Contender, Contested, Outcome};
use crate::plan::Plan;
use crate::sample::Sample;
use alluvium_bench_kit::stats::{median, range};

const PAGE: &str = "docs/BENCHMARKS.md";
/// What stands around the part of the page that another command writes.
const CLUSTER_BEGIN: &str = "<!-- three nodes: begin -->";
const CLUSTER_END: &str = "<!-- three nodes: end -->";

/// What one benchmark found.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What was done, and what the reader should know before comparing.
    pub(crate) note: String,
    /// The heading of the compared figure, with its unit.
    pub(crate) figure: &'static str,
    /// Keys and headings of the figures beside it.
    pub(crate) extras: &'static [(&'static str, &'static str)],
    pub(crate) cases: Vec<Contested>,
}

impl Section {
    pub(crate) fn render(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.note.trim());
        let extras: String =
            self.extras.iter().map(|(_, heading)| format!("{heading} | ")).collect();
        let rules = "---:|".repeat(self.extras.len());
        line(
            &mut text,
            &format!(
                "| case | contender | as durable | {} | {extras}peak memory | Alluvium against it | goal |",
                self.figure
            ),
        );
        line(&mut text, &format!("|---|---|---|---:|{rules}---:|---:|---:|"));
        for contested in &self.cases {
            let contenders = contested.case.contenders.iter().zip(&contested.outcomes);
            for (position, (contender, outcome)) in contenders.enumerate() {
                let case = if position == 0 { contested.case.name.as_str() } else { "" };
                let cells = self.cells(contested, position, outcome);
                let goal = goal(contender, contested.ratio(position));
                let (name, durability) = (contender.name, contender.durability);
                line(&mut text, &format!("| {case} | {name} | {durability} | {cells} | {goal} |"));
            }
        }
        text
    }

    fn cells(&self, contested: &Contested, position: usize, outcome: &Outcome) -> String {
        let empty = " |".repeat(self.extras.len() + 2);
        let samples = match outcome {
            Outcome::Ran(samples) => samples,
            Outcome::Absent(what) => return format!("not installed: {what}{empty}"),
            Outcome::Failed(why) => return format!("failed: {}{empty}", why.replace('|', "/")),
        };
        let mut cells = vec![spread(samples, |sample| Some(sample.value))];
        for (key, _) in self.extras {
            cells.push(middle(samples, |sample| sample.extra.get(*key).copied()));
        }
        let mebibytes = middle(samples, |sample| Some(sample.rss_bytes as f64 / 1_048_576.0));
        cells.push(format!("{mebibytes} MiB"));
        let ratio = contested.ratio(position).filter(|_| position > 0);
        cells.push(ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x")));
        cells.join(" | ")
    }

    /// Names the contenders that failed or answered differently.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut found = Vec::new();
        for contested in &self.cases {
            for (contender, outcome) in contested.case.contenders.iter().zip(&contested.outcomes) {
                if let Outcome::Failed(why) = outcome {
                    found.push(format!("{}, {}: {why}", contested.case.name, contender.name));
                }
            }
            found.extend(contested.disagreements());
        }
        found
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

fn spread(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> String {
    let values: Vec<f64> = samples.iter().filter_map(of).collect();
    let (Some(median), Some((low, high))) = (median(&values), range(&values)) else {
        return String::new();
    };
    format!("{} ({} to {})", figure(median), figure(low), figure(high))
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

/// Writes docs/BENCHMARKS.md.
#[expect(
    clippy::disallowed_methods,
    reason = "a page under version control need not survive a crash"
)]
pub(crate) fn write_page(
    root: &Path,
    machine: &str,
    plan: &Plan,
    sections: &[Section],
) -> Result<()> {
    let path = root.join(PAGE);
    let before = std::fs::read_to_string(&path).unwrap_or_else(|_new| String::new());
    let page = page(machine, plan, sections) + &kept(&before);
    std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

/// Returns the part of the page that `cargo xtask bench-cluster` wrote.
fn kept(page: &str) -> String {
    let part = page.find(CLUSTER_BEGIN).zip(page.find(CLUSTER_END));
    let part = part.and_then(|(begin, end)| page.get(begin..end + CLUSTER_END.len()));
    part.map_or_else(String::new, |part| format!("\n{part}\n"))
}

fn page(machine: &str, plan: &Plan, sections: &[Section]) -> String {
    let mut text = String::from("# Benchmarks\n\n");
    text.push_str("`cargo xtask bench` writes this page; do not edit it. ");
    text.push_str("`cargo xtask bench --quick` only shows that everything runs.\n\n");
    text.push_str("How to read it:\n\n");
    line(
        &mut text,
        &format!(
            "- Alluvium and its peers ran in turn, {} rounds, on one disk. A figure is the median, with the \
         smallest and the largest.",
            plan.rounds
        ),
    );
    text.push_str(
        "- \"Alluvium against it\" is the median of the ratios within each round; above 1 Alluvium is better, \
         whatever the unit.\n\
         - Goals come before the measurement. A missed one stays here.\n\
         - \"As durable\" says what an acknowledgement of the contender is worth; figures of contenders that \
         do not sync are not comparable in kind.\n\
         - Each contender runs in a process of its own; peak memory is that process's.\n",
    );
    if plan.quick {
        text.push_str(
            "- **This was a quick run: sizes are small and the figures mean nothing.**\n",
        );
    }
    text.push_str(&format!("\n## The machine\n\n{}\n", machine.trim()));
    for section in sections {
        text.push_str(&format!("\n{}", section.render()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::{Better, Case};
    use crate::sample::Params;

    fn section() -> Section {
        let contender = |name| Contender::own(name, "yes", Params::new(name));
        let contenders =
            vec![contender("Alluvium"), contender("peer").goal(1.1), contender("gone")];
        let case = Case { name: "256 B".to_owned(), better: Better::Higher, contenders };
        let sample =
            |value: f64| Sample { rss_bytes: 5 << 20, ..Sample::of(value).and("p50", 84.25) };
        let outcomes = vec![
            Outcome::Ran(vec![sample(12_000.0), sample(9_000.0), sample(10_000.0)]),
            Outcome::Ran(vec![sample(10_000.0), sample(10_000.0), sample(10_000.0)]),
            Outcome::Failed("a | b".to_owned()),
        ];
        Section {
            title: "wal",
            note: "A note.".to_owned(),
            figure: "appends/s",
            extras: &[("p50", "p50 us")],
            cases: vec![Contested { case, outcomes }],
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_contender_and_a_missed_goal_stays_missed() {
        let text = section().render();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(
            rows,
            [
                "| case | contender | as durable | appends/s | p50 us | peak memory | \
                 Alluvium against it | goal |",
                "| 256 B | Alluvium | yes | 10,000 (9,000 to 12,000) | 84.2 | 5.00 MiB |  |  |",
                "|  | peer | yes | 10,000 (10,000 to 10,000) | 84.2 | 5.00 MiB | 1.00x | 1.1x, missed |",
                "|  | gone | yes | failed: a / b | | | |  |",
            ]
        );
        assert_eq!(section().failures(), ["256 B, gone: a | b"]);
    }

    #[test]
    fn figures_keep_the_digits_that_count() {
        for (value, expected) in
            [(1234567.8, "1,234,568"), (999.6, "1,000"), (84.25, "84.2"), (0.456, "0.46")]
        {
            assert_eq!(figure(value), expected);
        }
    }

    #[test]
    fn the_part_of_the_other_command_is_kept() {
        let part = format!("{CLUSTER_BEGIN}\n## Three nodes\n{CLUSTER_END}");
        assert_eq!(kept(&format!("# Benchmarks\n\n{part}\n")), format!("\n{part}\n"));
        assert_eq!(kept("# Benchmarks\n"), "");
    }

    #[test]
    fn the_page_has_one_title_and_names_the_machine() {
        let plan = Plan::of(&crate::args::Request {
            benchmarks: Vec::new(),
            quick: true,
            write: true,
            millis: None,
            rounds: None,
            dir: None,
        });
        let text = page("- processor: one", &plan, &[section()]);
        assert_eq!(text.lines().filter(|line| line.starts_with("# ")).count(), 1);
        assert!(text.contains("- processor: one") && text.contains("quick run"));
    }
}
