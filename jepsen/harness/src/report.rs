//! What a run leaves behind: the table, `results.json`, the histories and the timeline.
//!
//! It must not change a finding. Invariant: whatever is shown is in the results too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use alluvium_checker::History;
use alluvium_world::{BucketReport, Digest, LogLine, Mode, Scrub, World};
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::Args;
use crate::limits::{OK_MIN, SHOWN_MAX};
use crate::nemesis::{Deeds, Done};
use crate::recorder::{Ending, Trace};
use crate::troupe::Record;
use crate::verdict::{Conclusion, Finding, Findings, Weight, first_anomaly};
use crate::workloads::{Workload, kind_of, lists, number, registers};
use crate::{runner, timeline};

/// See the module.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) findings: Findings,
    pub(crate) known: Findings,
    pub(crate) start_ns: u64,
    pub(crate) converged: Option<Duration>,
    phases: Vec<(String, u64)>,
    deeds: Deeds,
    notes: Vec<String>,
    happenings: Vec<(u64, Option<u64>, String)>,
    digests: Vec<Value>,
    scrubs: Vec<Value>,
    bucket: Option<Value>,
    record: Option<Record>,
    arguments: Value,
}

/// Calls of one workload.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    ok: usize,
    fail: usize,
    info: usize,
}

impl Report {
    pub(crate) fn new(args: &Args) -> Self {
        let arguments = json!({
            "nemesis": args.nemesis.0.iter().map(|mode| mode.name()).collect::<Vec<_>>(),
            "workloads": args.workload.0,
            "seconds": args.time().as_secs(),
            "seed": args.seed,
            "nodes": args.nodes,
            "clients": args.clients,
            "rate": args.rate,
            "binary": args.binary,
            "previous": args.previous,
            "plant": args.plant,
            "known": args.known,
        });
        Self {
            findings: Findings::new(),
            known: Findings::new(),
            start_ns: 0,
            converged: None,
            phases: Vec::new(),
            deeds: Deeds::default(),
            notes: Vec::new(),
            happenings: Vec::new(),
            digests: Vec::new(),
            scrubs: Vec::new(),
            bucket: None,
            record: None,
            arguments,
        }
    }

    pub(crate) fn begin_phase(&mut self, name: &str, at_ns: u64) {
        progress(&format!("{:>7.1} s  {name}", seconds(at_ns)));
        self.phases.push((name.to_owned(), at_ns));
    }

    pub(crate) fn doubts(&mut self, source: &str, reasons: Vec<String>) {
        self.findings.extend(reasons.into_iter().map(|why| Finding::doubt(source, why)));
    }

    /// Takes what the nemesis did: what was selected and not observed is no pass.
    pub(crate) fn take(&mut self, mut deeds: Deeds, args: &Args) {
        self.findings.append(&mut deeds.findings);
        for mode in &args.nemesis.0 {
            let name = mode.name();
            if deeds.is_observed(*mode) {
                continue;
            }
            let times = deeds.done.iter().filter(|done| done.mode == name).count();
            let why = deeds.skipped.get(mode).filter(|_| times == 0);
            self.findings.push(match why {
                Some(why) => Finding::skip(name, why.clone()),
                None => Finding::doubt(name, format!("installed {times} times and never observed")),
            });
        }
        self.deeds = deeds;
    }

    pub(crate) fn compare(&mut self, digests: &[Digest]) {
        let first = digests.first().map(|one| one.digest.clone());
        for one in digests {
            let Digest { node, applied, digest, job_errors, damage } = one;
            self.digests.push(json!({
                "node": node.0, "applied": applied, "digest": digest,
                "job_errors": job_errors, "damage": damage,
            }));
            if Some(digest) != first.as_ref() {
                let detail = format!("{node} differs from the first member at index {applied}");
                self.findings.push(Finding::anomaly("digests", detail, None));
            }
            let noted = job_errors.iter().chain(damage).map(|text| format!("{node}: {text}"));
            self.notes.extend(noted);
        }
    }

    pub(crate) fn scrubbed(&mut self, scrubs: &[Scrub]) {
        for scrub in scrubs {
            let Scrub { node, is_clean, damage, notices, explained } = scrub;
            self.scrubs.push(json!({
                "node": node.0, "clean": is_clean, "damage": damage, "notices": notices,
                "explained": explained,
            }));
            if !is_clean && !explained {
                let detail = format!("{node}: {}", damage.join("; "));
                self.findings.push(Finding::anomaly("scrub", detail, None));
            }
        }
    }

    /// An object that all members see is written once: whoever puts it with other bytes would change what was attested.
    pub(crate) fn stored(&mut self, bucket: &BucketReport) {
        let BucketReport { objects, puts, repeats, deletes, requests, contradictions } = bucket;
        self.bucket = Some(json!({
            "objects": objects, "puts": puts, "repeats": repeats, "deletes": deletes,
            "requests": requests, "contradictions": contradictions,
        }));
        let found = contradictions.iter();
        self.findings.extend(found.map(|what| Finding::anomaly("bucket", what.clone(), None)));
    }

    /// A line at ERROR or WARN that nothing explains: somebody has to look, so it is no pass.
    pub(crate) fn logged(&mut self, lines: &[LogLine]) {
        let is_cut = self.deeds.done.iter().any(|done| done.mode.starts_with("powercut/"));
        for line in lines {
            if is_explained(&line.text, is_cut) {
                self.notes.push(format!("{}: {}", line.node, line.text));
                continue;
            }
            let file = line.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let detail = format!("{} {file}:{}: {}", line.node, line.line, line.text);
            self.findings.push(Finding::doubt("log lines", detail));
        }
    }

    pub(crate) fn happened(&mut self, world: &World) {
        let one = |happening: &alluvium_world::Happening| {
            let node = happening.node.map(|node| u64::from(node.0));
            (happening.at_ns, node, happening.what.clone())
        };
        self.happenings = world.happenings().iter().map(one).collect();
    }

    pub(crate) fn recorded(&mut self, record: Record, args: &Args) {
        for workload in &args.workload.0 {
            let ok = counts(&record.traces, *workload).ok;
            if ok < OK_MIN {
                let name = workload.name();
                let detail = format!("{ok} calls succeeded, and {OK_MIN} are needed for a verdict");
                self.findings.push(Finding::doubt(name, detail));
            }
        }
        self.findings.extend(self.broken(&record.traces));
        self.record = Some(record);
    }

    /// Answers that name a bug, or damage where nothing was damaged that a query reads.
    fn broken(&self, traces: &[Trace]) -> Findings {
        let harmed = ["bitflip/data-file", "bitflip/sst", "bitflip/snapshot", "objstore/damage"];
        // Damage stays until it is met and mended, and never comes before it was done.
        let is_harmed = |trace: &Trace| {
            let mut done = self.deeds.done.iter();
            let is_there = |done: &Done| done.begun_ns <= trace.end_ns && done.met(trace.node);
            done.any(|done| harmed.contains(&done.mode.as_str()) && is_there(done))
        };
        let is_broken = |trace: &&Trace| match trace.reason.as_deref() {
            Some("INTERNAL") => true,
            Some("CORRUPT") => !is_harmed(trace),
            Some(_) | None => false,
        };
        let finding = |trace: &Trace| {
            let reason = trace.reason.as_deref().unwrap_or_default();
            let message = trace.message.as_deref().unwrap_or_default();
            let Trace { book, node, .. } = trace;
            let detail = format!("{book}: node {node} answers {reason}: {message}");
            Finding::anomaly("broken-answers", detail, Some(trace.end_ns))
        };
        traces.iter().filter(is_broken).map(finding).collect()
    }

    /// Sets aside what is known, and concludes.
    pub(crate) fn conclude(&mut self, known: &[String]) -> Conclusion {
        let all = std::mem::take(&mut self.findings);
        let (known, rest) = all.into_iter().partition(|finding| known.contains(&finding.source));
        (self.known, self.findings) = (known, rest);
        Conclusion::of(&self.findings)
    }

    /// Seconds from the first call to the one that shows the first anomaly, and who found it.
    pub(crate) fn detected(&self) -> Option<(f64, &str)> {
        let first = first_anomaly(&self.findings)?;
        let at_ns = first.at_ns.unwrap_or_else(|| self.end_ns());
        Some((seconds(at_ns.saturating_sub(self.start_ns)), &first.source))
    }

    fn end_ns(&self) -> u64 {
        self.phases.last().map_or(0, |(_, at_ns)| *at_ns)
    }

    fn traces(&self) -> &[Trace] {
        self.record.as_ref().map(|record| record.traces.as_slice()).unwrap_or_default()
    }

    /// For each fault, how long after its beginning a write that began after it succeeded.
    fn unavailability(&self) -> Vec<(String, Option<f64>)> {
        let mut writes: Vec<(u64, u64)> = self
            .traces()
            .iter()
            .filter(|trace| trace.is_write && trace.ending == Ending::Ok)
            .map(|trace| (trace.begin_ns, trace.end_ns))
            .collect();
        writes.sort_unstable_by_key(|(_, end_ns)| *end_ns);
        let first_after = |at_ns: u64| {
            let next = writes.iter().find(|(begin_ns, _)| *begin_ns >= at_ns);
            next.map(|(_, end_ns)| seconds(end_ns - at_ns))
        };
        let done = self.deeds.done.iter();
        done.map(|done| (done.mode.clone(), first_after(done.installed_ns))).collect()
    }

    fn results(&self, conclusion: Conclusion) -> Value {
        let detected = self.detected();
        let workloads: BTreeMap<&str, Value> = Workload::ALL
            .iter()
            .chain([&Workload::Maintenance])
            .map(|workload| {
                let Counts { ok, fail, info } = counts(self.traces(), *workload);
                (workload.name(), json!({ "ok": ok, "fail": fail, "info": info }))
            })
            .collect();
        let named = |mode: &Mode, why: &String| (mode.name(), why.clone());
        json!({
            "verdict": conclusion,
            "arguments": self.arguments,
            "seconds_to_detect": detected.map(|(after, _)| after),
            "detected_by": detected.map(|(_, source)| source),
            "findings": self.findings,
            "known": self.known,
            "workloads": workloads,
            "reasons": reasons(self.traces()),
            "faults": self.deeds.done,
            "skipped": self.deeds.skipped.iter().map(|(m, w)| named(m, w)).collect::<BTreeMap<_, _>>(),
            "mended": self.deeds.mended,
            "seconds_to_first_write_after": self.unavailability(),
            "seconds_to_converge": self.converged.map(|took| took.as_secs_f64()),
            "digests": self.digests,
            "scrubs": self.scrubs,
            "bucket": self.bucket,
            "notes": self.notes,
            "log": self.record.as_ref().and_then(runner::log_span),
            "misuses_refused": self.record.as_ref().map(|record| record.refused),
            "phases": self.phases,
            "happenings": self.happenings,
        })
    }

    /// Writes everything into a directory.
    pub(crate) fn write(&self, out: &Path, conclusion: Conclusion) -> anyhow::Result<()> {
        let results = serde_json::to_string_pretty(&self.results(conclusion))?;
        put(&out.join("results.json"), results.as_bytes())?;
        let page = timeline::page(conclusion.word(), self.traces(), &self.deeds.done, &self.phases);
        put(&out.join("timeline.html"), page.as_bytes())?;
        let Some(record) = &self.record else { return Ok(()) };
        for (book, history) in &record.histories {
            if let Ok(history) = history {
                write_history(out, book, history)?;
            }
        }
        let asked = serde_json::to_string(&json!({
            "changes": record.changes, "asked": record.asked,
        }))?;
        put(&out.join("questions.json"), asked.as_bytes())
    }

    /// The short table for people.
    pub(crate) fn table(&self, conclusion: Conclusion) -> String {
        let mut text = String::from("workload            ok    fail    info\n");
        for workload in Workload::ALL.iter().chain([&Workload::Maintenance]) {
            let Counts { ok, fail, info } = counts(self.traces(), *workload);
            if ok + fail + info > 0 {
                let name = format!("{} {}", workload.name(), workload.title());
                text.push_str(&format!("{name:<16}{ok:>6}  {fail:>6}  {info:>6}\n"));
            }
        }
        text.push_str(&self.faults());
        if let Some((at, by)) = self.detected() {
            text.push_str(&format!("first anomaly after {at:.1} s, found by {by}\n"));
        }
        for (title, findings) in [("known", &self.known), ("found", &self.findings)] {
            text.push_str(&shown(title, findings));
        }
        text.push_str(&format!("verdict: {}\n", conclusion.word()));
        text
    }

    fn faults(&self) -> String {
        let mut rows: BTreeMap<&str, (usize, usize, Option<f64>)> = BTreeMap::new();
        for (done, (_, after)) in self.deeds.done.iter().zip(self.unavailability()) {
            let row = rows.entry(&done.mode).or_default();
            row.0 += 1;
            row.1 += usize::from(done.is_observed);
            row.2 = after.into_iter().chain(row.2).reduce(f64::max);
        }
        let mut text = String::new();
        if !rows.is_empty() {
            text.push_str(
                "fault                     installed  observed  longest without a write\n",
            );
        }
        for (mode, (installed, observed, longest)) in rows {
            let longest = longest.map_or("-".to_owned(), |after| format!("{after:.2} s"));
            text.push_str(&format!("{mode:<26}{installed:>9}  {observed:>8}  {longest:>23}\n"));
        }
        for (mode, why) in &self.deeds.skipped {
            text.push_str(&format!("{:<26}skipped: {why}\n", mode.name()));
        }
        text
    }
}

/// What openraft warns of is what faults are for, and a disk without power answers every call with an error.
fn is_explained(line: &str, is_cut: bool) -> bool {
    line.contains(" WARN openraft::") || (is_cut && line.contains("(os error 5)"))
}

/// Some findings of each source, the first ones.
fn shown(title: &str, findings: &[Finding]) -> String {
    let mut by_source: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        by_source.entry(&finding.source).or_default().push(finding);
    }
    let mut text = String::new();
    for (source, found) in by_source {
        let weight = match found[0].weight {
            Weight::Anomaly => "ANOMALY",
            Weight::Doubt => "DOUBT",
            Weight::Skip => "SKIPPED",
        };
        text.push_str(&format!("{title}: {weight} {source} ({})\n", found.len()));
        for finding in found.iter().take(SHOWN_MAX) {
            let detail: String = finding.detail.chars().take(400).collect();
            text.push_str(&format!("  {}\n", detail.replace('\n', " | ")));
        }
    }
    text
}

fn counts(traces: &[Trace], workload: Workload) -> Counts {
    let mut counts = Counts::default();
    for trace in traces.iter().filter(|trace| trace.workload == workload) {
        match trace.ending {
            Ending::Ok => counts.ok += 1,
            Ending::Fail => counts.fail += 1,
            Ending::Info => counts.info += 1,
        }
    }
    counts
}

/// How often each reason was given.
fn reasons(traces: &[Trace]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for trace in traces {
        if let Some(reason) = &trace.reason {
            *counts.entry(format!("{} {reason}", trace.workload.name())).or_default() += 1;
        }
    }
    counts
}

fn write_history(out: &Path, book: &str, history: &History) -> anyhow::Result<()> {
    let path = out.join(format!("history-{book}.jsonl"));
    let mut file = BufWriter::new(File::create(path).context("make a history's file")?);
    history.write_jsonl(&mut file)?;
    file.flush().context("write a history")?;
    let edn = match kind_of(book) {
        lists::TRANSACTIONS | lists::BLIND => history.elle_edn()?,
        registers::REGISTERS => history.knossos_edn(number(book))?,
        _other => history.jepsen_edn(),
    };
    put(&out.join(format!("history-{book}.edn")), edn.as_bytes())
}

#[expect(clippy::disallowed_methods, reason = "results need not survive a crash")]
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// Tells whoever watches what is going on.
pub(crate) fn progress(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use alluvium_checker::{
        Action, Call, Event, LogIndex, NodeId, Outcome, ProcessId, Reply, Step,
    };

    use super::*;

    fn history(call: Call, reply: Reply) -> History {
        let (process, node) = (ProcessId(1), NodeId(1));
        let outcome = Outcome::Ok { reply, index: LogIndex(4) };
        let events = vec![
            Event { time_ns: 1, process, action: Action::Invoke { node, call } },
            Event { time_ns: 2, process, action: Action::Complete { outcome } },
        ];
        History::new(events).expect("well formed")
    }

    #[test]
    fn a_history_is_written_as_lines_that_read_back_and_as_edn() {
        let out = tempfile::tempdir().expect("a directory");
        let write = |book: &str, history: &History| {
            write_history(out.path(), book, history).expect("written");
            let lines = std::fs::read(out.path().join(format!("history-{book}.jsonl")));
            let back = History::read_jsonl(lines.expect("the lines").as_slice()).expect("read");
            assert_eq!(&back, history);
            std::fs::read_to_string(out.path().join(format!("history-{book}.edn"))).ok()
        };
        let steps = vec![Step::Append { key: 1, value: 7 }];
        let lists = history(Call::Transact { steps }, Reply::Transacted { lists: vec![None] });
        assert!(write("w2-0001", &lists).is_some_and(|edn| edn.contains(":f :txn")));
        let written = history(Call::Write { key: 2, value: 7 }, Reply::Written { version: 4 });
        assert!(write("w5-0002", &written).is_some_and(|edn| edn.contains(":type :ok")));
        let scan = history(Call::Scan { set: 1 }, Reply::Elements { elements: vec![] });
        assert!(write("w3-0001", &scan).is_some_and(|edn| edn.contains(":value [1 []]")));
    }

    #[test]
    fn known_findings_do_not_count_and_are_kept() {
        let args = <Args as clap::Parser>::try_parse_from(["x"]).expect("nothing is needed");
        let mut report = Report::new(&args);
        report.findings.push(Finding::anomaly("torn-description", "old".to_owned(), Some(2)));
        assert_eq!(report.conclude(&["torn-description".to_owned()]), Conclusion::Pass);
        assert_eq!(report.known.len(), 1);
        report.findings.push(Finding::anomaly("sets", "lost".to_owned(), Some(3_000_000_000)));
        assert_eq!(report.conclude(&[]), Conclusion::Invalid);
        assert_eq!(report.detected(), Some((3.0, "sets")));
        let table = report.table(Conclusion::Invalid);
        assert!(table.contains("first anomaly after 3.0 s, found by sets"), "{table}");
        assert!(table.ends_with("verdict: INVALID\n"));
    }

    #[test]
    fn an_answer_that_names_damage_is_an_anomaly_where_nothing_was_damaged() {
        let args = <Args as clap::Parser>::try_parse_from(["x"]).expect("nothing is needed");
        let mut report = Report::new(&args);
        let trace = Trace {
            workload: Workload::W3,
            book: "w3-0001".to_owned(),
            position: 0,
            process: 1,
            node: 2,
            begin_ns: 1,
            end_ns: 2,
            ending: Ending::Fail,
            reason: Some("CORRUPT".to_owned()),
            message: None,
            is_write: false,
            tag: None,
            index: None,
        };
        let traces = [trace];
        assert_eq!(report.broken(&traces).len(), 1);
        report.deeds.done.push(Done::of(Mode::BitflipDataFile, &[2]));
        assert_eq!(report.broken(&traces), []);
        report.deeds.done[0].nodes = vec![3];
        assert_eq!(report.broken(&traces).len(), 1, "another node was damaged");
        (report.deeds.done[0].nodes, report.deeds.done[0].begun_ns) = (vec![2], 3);
        assert_eq!(report.broken(&traces).len(), 1, "it was damaged later");
    }

    #[test]
    fn what_was_selected_and_not_seen_is_no_pass() {
        let args = ["x", "--nemesis", "kill/leader,clock/jump"];
        let args = <Args as clap::Parser>::try_parse_from(args).expect("they are right");
        let mut report = Report::new(&args);
        let mut deeds = Deeds::default();
        deeds.skipped.insert(Mode::ClockJump, "no library".to_owned());
        report.take(deeds, &args);
        let weights: Vec<Weight> = report.findings.iter().map(|one| one.weight).collect();
        assert_eq!(weights, [Weight::Doubt, Weight::Skip]);
    }
}
