//! The timeline of a run as one static page: a lane for each node, with calls in slices of time and faults above.
//!
//! It must not fetch anything. Invariant: every text in it is escaped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::nemesis::Done;
use crate::recorder::{Ending, Trace};

/// The width of a slice, and what it becomes on the page.
const SLICE_NS: u64 = 200_000_000;
const SLICE_PX: u64 = 4;
const LANE_PX: u64 = 70;
const TOP_PX: u64 = 70;

const STYLE: &str = "body{font:13px sans-serif;margin:16px}.ok{fill:#4a9}.fail{fill:#dca}.info{fill:#c55}\
.fault{fill:#88c;opacity:.3}.blind{fill:#bbb;opacity:.3}.phase{stroke:#888;stroke-dasharray:3}text{font-size:10px}\
table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:2px 6px;text-align:left}";

/// Returns the page.
pub(crate) fn page(
    verdict: &str,
    traces: &[Trace],
    faults: &[Done],
    phases: &[(String, u64)],
) -> String {
    let calls = traces.iter().map(|trace| trace.begin_ns);
    let begin_ns = calls.chain(phases.iter().map(|(_, at)| *at)).min().unwrap_or(0);
    let ends = traces.iter().map(|trace| trace.end_ns).chain(phases.iter().map(|(_, at)| *at));
    let end_ns = ends.max().unwrap_or(begin_ns);
    let at = |ns: u64| ns.saturating_sub(begin_ns) * SLICE_PX / SLICE_NS;
    let nodes: BTreeSet<u64> = traces.iter().map(|trace| trace.node).collect();
    let lanes: BTreeMap<u64, u64> = nodes.into_iter().zip(0..).collect();
    let width = at(end_ns) + 60;
    let height = TOP_PX + LANE_PX * lanes.len() as u64 + 20;
    let mut svg = format!("<svg width=\"{width}\" height=\"{height}\">");
    for fault in faults {
        svg.push_str(&band(fault, &lanes, &at));
    }
    svg.push_str(&bars(traces, &lanes, begin_ns));
    for (position, (name, ns)) in phases.iter().enumerate() {
        let (x, y) = (at(*ns), 12 + 12 * (position as u64 % 5));
        let name = escape(name);
        put(
            &mut svg,
            &format!(
                "<line class=\"phase\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{height}\"/>\
             <text x=\"{}\" y=\"{y}\">{name}</text>",
                x + 2
            ),
        );
    }
    for (node, lane) in &lanes {
        let y = TOP_PX + LANE_PX * (lane + 1) - 2;
        put(&mut svg, &format!("<text x=\"2\" y=\"{y}\">node {node}</text>"));
    }
    svg.push_str("</svg>");
    format!(
        "<!doctype html><meta charset=\"utf-8\"><title>jepsen</title><style>{STYLE}</style>\
         <h1>{}</h1><p>A slice is 200 ms. Green: succeeded, sand: failed without effect, red: in doubt. Blue: a \
         fault that was observed; grey: one that was not.</p><div style=\"overflow-x:auto\">{svg}</div>{}",
        escape(verdict),
        list(faults, begin_ns)
    )
}

fn band(fault: &Done, lanes: &BTreeMap<u64, u64>, at: &impl Fn(u64) -> u64) -> String {
    let (x, end) = (at(fault.begun_ns), at(fault.healed_ns));
    let class = if fault.is_observed { "fault" } else { "blind" };
    let title = escape(&format!("{}: {}", fault.mode, fault.detail));
    let mut svg = String::new();
    for node in &fault.nodes {
        let Some(lane) = lanes.get(node) else { continue };
        let (y, width) = (TOP_PX + LANE_PX * lane, end.saturating_sub(x).max(3));
        put(
            &mut svg,
            &format!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{LANE_PX}\">\
             <title>{title}</title></rect><text x=\"{x}\" y=\"{}\">{}</text>",
                y + 9,
                escape(&fault.mode)
            ),
        );
    }
    svg
}

/// One bar for each node, slice and ending, as high as there were calls.
fn bars(traces: &[Trace], lanes: &BTreeMap<u64, u64>, begin_ns: u64) -> String {
    let mut slices: BTreeMap<(u64, u64), [u64; 3]> = BTreeMap::new();
    for trace in traces {
        let slice = trace.end_ns.saturating_sub(begin_ns) / SLICE_NS;
        let kind = match trace.ending {
            Ending::Ok => 0,
            Ending::Fail => 1,
            Ending::Info => 2,
        };
        slices.entry((trace.node, slice)).or_default()[kind] += 1;
    }
    let most = slices.values().map(|counts| counts.iter().sum::<u64>()).max().unwrap_or(1).max(1);
    let mut svg = String::new();
    for ((node, slice), counts) in slices {
        let Some(lane) = lanes.get(&node) else { continue };
        let mut y = TOP_PX + LANE_PX * (lane + 1) - 12;
        for (count, class) in counts.into_iter().zip(["ok", "fail", "info"]) {
            if count > 0 {
                let high = (count * (LANE_PX - 24) / most).max(1);
                y -= high;
                let (x, width) = (slice * SLICE_PX, SLICE_PX - 1);
                put(
                    &mut svg,
                    &format!(
                        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{high}\"/>"
                    ),
                );
            }
        }
    }
    svg
}

fn list(faults: &[Done], begin_ns: u64) -> String {
    let mut table = "<table><tr><th>s<th>fault<th>nodes<th>done<th>seen".to_owned();
    for fault in faults {
        let at_ms = fault.begun_ns.saturating_sub(begin_ns) / 1_000_000;
        put(
            &mut table,
            &format!(
                "<tr><td>{}.{:03}<td>{}<td>{:?}<td>{}<td>{}",
                at_ms / 1_000,
                at_ms % 1_000,
                escape(&fault.mode),
                fault.nodes,
                escape(&fault.detail),
                escape(&fault.observation)
            ),
        );
    }
    table + "</table>"
}

fn put(text: &mut String, more: &str) {
    text.write_str(more).expect("a string takes everything");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_escapes_what_nodes_say_and_shows_each_fault_on_its_nodes() {
        let fault = Done {
            mode: "kill/leader".to_owned(),
            nodes: vec![1],
            begun_ns: 0,
            installed_ns: 1,
            healed_ns: 2_000_000_000,
            is_observed: true,
            observation: "observed: <gone>".to_owned(),
            detail: "\"n1\" & co".to_owned(),
        };
        let trace = Trace {
            workload: crate::workloads::Workload::W5,
            book: "w5-0001".to_owned(),
            position: 0,
            process: 1,
            node: 1,
            begin_ns: 5,
            end_ns: 9,
            ending: Ending::Ok,
            reason: None,
            message: None,
            is_write: true,
            tag: None,
            index: Some(1),
        };
        let page = page("PASS", &[trace], &[fault], &[("boot".to_owned(), 0)]);
        assert!(page.contains("class=\"fault\"") && page.contains("class=\"ok\""));
        assert!(
            page.contains("observed: &lt;gone&gt;") && page.contains("&quot;n1&quot; &amp; co")
        );
        assert!(!page.contains("<gone>"));
    }
}
