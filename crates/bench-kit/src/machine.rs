//! Says what the figures were measured on.
//!
//! It must not fail: what cannot be read is called unknown. Invariant: no name of a host or a person.

use std::path::Path;

use alluvium_stdx::Clock;

/// What stands for what cannot be told.
pub const UNKNOWN: &str = "unknown";
/// The load above which a machine is not quiet.
const BUSY: f64 = 1.5;

/// Returns a list in Markdown: when, on what, and the versions of the contenders.
#[must_use]
pub fn describe(data: &Path, clock: &dyn Clock, versions: &[(&str, String)]) -> String {
    let (cpus, model) = processor();
    let machine = [
        ("date", date(clock.wall_ms())),
        ("processor", format!("{model}, {cpus} logical")),
        ("memory", memory()),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("file system", file_system(data)),
        ("load before the run", load()),
    ];
    let lines = machine.iter().chain(versions);
    lines.map(|(name, value)| format!("- {name}: {value}\n")).collect()
}

fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or(UNKNOWN).to_owned()
}

fn processor() -> (usize, String) {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = text.lines().filter(|line| line.starts_with("model name"));
    let models: Vec<&str> = models.filter_map(|line| line.split_once(": ")).map(|m| m.1).collect();
    (models.len(), models.first().copied().unwrap_or(UNKNOWN).to_owned())
}

fn memory() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(UNKNOWN.to_owned(), |kib| format!("{:.1} GiB", kib as f64 / 1_048_576.0))
}

fn load() -> String {
    let line = first_line("/proc/loadavg");
    let minute = line.split(' ').next().unwrap_or(UNKNOWN);
    let is_busy = minute.parse::<f64>().is_ok_and(|load| BUSY < load);
    let other = if is_busy { "; **other work ran then**, and may have gone on" } else { "" };
    format!("{minute} (runnable tasks, mean of a minute; 0 is a quiet machine){other}")
}

/// Returns the type of the file system that holds `data`: of the longest mount point above it.
fn file_system(data: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_device, point, kind) = (words.next()?, words.next()?, words.next()?);
        data.starts_with(point).then_some((point.len(), kind))
    });
    above.max_by_key(|(length, _)| *length).map_or(UNKNOWN, |(_, kind)| kind).to_owned()
}

/// Returns the day of a wall time, by the proleptic Gregorian calendar.
fn date(wall_ms: u64) -> String {
    let mut days = wall_ms / 86_400_000;
    let mut year = 1970_u64;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let in_year = |year: u64| if is_leap(year) { 366 } else { 365 };
    while in_year(year) <= days {
        days -= in_year(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in months {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_stdx::ManualClock;

    #[test]
    fn days_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (951_868_800_000, "2000-03-01"),
            (1_735_603_200_000, "2024-12-31"),
            (4_107_542_400_000, "2100-03-01"),
        ];
        for (wall_ms, expected) in cases {
            assert_eq!(date(wall_ms), expected);
        }
    }

    #[test]
    fn the_description_has_a_line_for_each_thing() {
        let text =
            describe(Path::new("/"), &ManualClock::starting_at(0), &[("etcd", "3".to_owned())]);
        assert!(
            text.starts_with("- date: 1970-01-01\n- processor: ") && text.ends_with("- etcd: 3\n")
        );
        assert_eq!(text.lines().count(), 7);
    }
}
