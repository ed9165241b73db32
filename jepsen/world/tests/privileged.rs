//! The world on this machine: packets, disks, clocks, and that nothing is left behind.
//!
//! Its own `main`, because namespaces are entered before there is a second thread. Says SKIPPED with the reason where
//! the machine does not allow it. Each check makes a world of its own, without the product.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_stdx::{Clock as _, SystemClock, durable};
use alluvium_world::wire::{self, CLIENTS, Counters, Rule};
use alluvium_world::{Disks, Error, Inside, Loss, Mode, NodeId, World, WorldConfig, enter};

const ONE: NodeId = NodeId(1);
const TO_ONE: (u8, u8) = (CLIENTS, 1);
const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(10);

type Check = fn(&Inside, &Path);

const CHECKS: [(&str, Check); 11] = [
    ("the_switch_treats_packets_as_its_rules_say", switch),
    ("a_power_cut_keeps_what_was_synced_and_loses_the_rest", power_cut),
    ("a_sync_fails_once_and_then_lies", sync),
    ("a_sync_that_lies_writes_nothing", lie),
    ("a_write_and_a_read_fail_as_often_as_they_were_told_to", calls),
    ("a_device_fails_below_its_file_system_and_keeps_what_it_took", device),
    ("a_clock_is_wrong_at_one_place_alone", clock),
    ("a_monotonic_clock_has_another_rate_for_those_who_read_it_and_those_who_wait", steady_clock),
    ("every_place_has_a_disk_and_an_address_of_its_own", places),
    ("a_store_does_what_its_fault_says_and_a_fault_that_nobody_met_is_not_observed", store),
    ("nothing_is_left_behind_by_an_end_or_a_panic", left_behind),
];

/// The same, of disks that are served: not every machine can serve them.
const SERVED_CHECKS: [(&str, Check); 5] = [
    ("a_torn_power_cut_keeps_what_was_synced_and_sectors_of_the_rest", torn_power_cut),
    ("a_seed_decides_what_a_torn_power_cut_leaves", torn_by_seed),
    ("files_of_a_served_disk_cannot_be_read_for_a_while", unreadable),
    ("a_served_disk_lets_whoever_syncs_wait_until_it_is_calmed", stall),
    ("nothing_is_left_behind_of_served_disks_by_a_panic", served_left_behind),
];

fn say(line: &str) {
    // Nobody reads: then there is nobody to tell.
    drop(writeln!(std::io::stdout(), "{line}"));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // The protocol of test runners: a list, or the checks that are named.
    if has("--list") {
        let listed = CHECKS.iter().chain(&SERVED_CHECKS).filter(|_| !has("--ignored"));
        listed.for_each(|(name, _)| say(&format!("{name}: test")));
        return;
    }
    let inside = match enter() {
        Ok(inside) => inside,
        Err(Error::Unavailable { reason }) => return say(&format!("SKIPPED: {reason}")),
        Err(error) => panic!("the harness has a fault: {error}"),
    };
    let named: Vec<&String> = arguments.iter().filter(|one| !one.starts_with("--")).collect();
    let is_named = |name: &str| named.is_empty() || named.iter().any(|part| name.contains(*part));
    let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let cannot_serve = fuse.err().map(|error| format!("/dev/fuse cannot be opened: {error}"));
    let reasons =
        CHECKS.iter().map(|_| None).chain(SERVED_CHECKS.iter().map(|_| cannot_serve.as_ref()));
    for ((name, check), reason) in CHECKS.iter().chain(&SERVED_CHECKS).zip(reasons) {
        if let Some(reason) = reason.filter(|_| is_named(name)) {
            say(&format!("{name}: SKIPPED: {reason}"));
        } else if is_named(name) {
            let scratch = tempfile::tempdir().expect("a directory");
            check(&inside, scratch.path());
            say(&format!("{name}: ok"));
        }
    }
}

fn world(inside: &Inside, scratch: &Path) -> World {
    World::build(config(scratch, Disks::Plain), inside).expect("a world")
}

fn served_world(inside: &Inside, scratch: &Path) -> World {
    World::build(config(scratch, Disks::Served), inside).expect("a world")
}

fn config(scratch: &Path, disks: Disks) -> WorldConfig {
    WorldConfig {
        disks,
        nodes: 2,
        spares: 0,
        seed: 1,
        binary: PathBuf::from("/nonexistent"),
        previous: None,
        scratch: scratch.to_owned(),
        disk_mib: 64,
        log_mib: 4,
        shared_bucket: false,
        env: Vec::new(),
        log_level: "info".to_owned(),
        clock: Arc::new(SystemClock::new()),
    }
}

/// Knocks at a closed port: a node that is reached refuses at once. Returns how long that took.
fn knock(limit: Duration) -> Option<Duration> {
    let clock = SystemClock::new();
    let address = SocketAddr::from((wire::address(1), 9));
    let refused = TcpStream::connect_timeout(&address, limit).expect_err("nobody listens");
    let took = Duration::from_nanos(clock.monotonic_ns());
    (refused.kind() == ErrorKind::ConnectionRefused).then_some(took)
}

fn switch(inside: &Inside, scratch: &Path) {
    let world = world(inside, scratch);
    let count = || world.wire().counters().get(&TO_ONE).copied().unwrap_or_default();
    let under = |rule: Rule| {
        world.wire().set([(TO_ONE, rule)]);
        let before = count();
        let took = knock(SHORT);
        (took, count().since(before))
    };
    let (took, counted) = under(Rule::default());
    assert!(took.is_some_and(|took| took < Duration::from_millis(100)), "{took:?}");
    assert_eq!(counted, Counters { relayed: 1, ..Counters::default() });
    let (took, counted) = under(Rule { cut: true, ..Rule::default() });
    assert!(took.is_none() && counted.cut >= 1 && counted.relayed == 0, "{counted:?}");
    let (took, counted) = under(Rule { loss_permille: 1_000, ..Rule::default() });
    assert!(took.is_none() && counted.lost >= 1, "{counted:?}");
    let (took, counted) = under(Rule { duplicate_permille: 1_000, ..Rule::default() });
    assert!(took.is_some() && counted.duplicated == 1, "{counted:?}");
    let delay = Duration::from_millis(120);
    let (took, counted) = under(Rule { delay, ..Rule::default() });
    assert!(took.is_some_and(|took| took >= delay) && counted.delayed == 1, "{took:?}");
    assert!(under(Rule::default()).0.is_some(), "the link is whole again");
    world.close().expect("an end");
}

fn power_cut(inside: &Inside, scratch: &Path) {
    let mut world = world(inside, scratch);
    for round in 0..3 {
        let dir = world.disk_dir(ONE);
        let (kept, lost) = (dir.join(format!("kept-{round}")), dir.join(format!("lost-{round}")));
        durable::write(&kept, &[7; 10_000]).expect("a write");
        #[expect(clippy::disallowed_methods, reason = "that it is not durable is the point")]
        fs::write(&lost, [7; 10_000]).expect("a write");
        world.power_cut(&[ONE]).expect("a power cut");
        assert_eq!(fs::read(&kept).expect("it was synced"), [7; 10_000]);
        assert!(!lost.exists(), "it was not synced");
    }
    world.close().expect("an end");
}

fn sync(inside: &Inside, scratch: &Path) {
    let world = world(inside, scratch);
    let dir = world.disk_dir(ONE).join("wal");
    fs::create_dir(&dir).expect("a directory");
    let dd = |name: &str| {
        let to = format!("of={}", dir.join(name).display());
        let words = ["dd", "if=/dev/zero", &to, "bs=4096", "count=1", "conv=fsync"];
        world.run_at(ONE, &words, LONG)
    };
    dd("before").expect("nothing is wrong yet");
    world.fail_next_sync(ONE, "/wal/").expect("armed");
    let failed = dd("during").expect_err("the sync fails").to_string();
    assert!(failed.contains("Input/output error"), "{failed}");
    dd("after").expect("only one fails");
    world.close().expect("an end");
}

fn lie(inside: &Inside, scratch: &Path) {
    let mut world = world(inside, scratch);
    let dir = world.disk_dir(ONE).join("wal");
    fs::create_dir(&dir).expect("a directory");
    let write = |world: &World, name: &str| {
        let path = dir.join(name);
        // Its name and its length are durable, so that only the bytes can be lost.
        durable::write(&path, &[0; 4_096]).expect("a write");
        let script = format!("printf seven | dd of={} conv=notrunc,fsync", path.display());
        world.run_at(ONE, &["sh", "-c", &script], LONG).expect("nobody is told of a lie");
        path
    };
    let honest = write(&world, "other-1");
    world.let_syncs_lie(ONE, 1, "/wal/segment-").expect("armed");
    let (other, lost) = (write(&world, "other-2"), write(&world, "segment-1"));
    world.power_cut(&[ONE]).expect("a power cut");
    let begins = |path: &Path| fs::read(path).expect("it is there").starts_with(b"seven");
    assert_eq!([&honest, &other, &lost].map(|path| begins(path)), [true, true, false]);
    let again = write(&world, "segment-2");
    world.power_cut(&[ONE]).expect("a power cut");
    assert!(begins(&again), "only one sync lies");
    world.close().expect("an end");
}

fn calls(inside: &Inside, scratch: &Path) {
    let world = world(inside, scratch);
    let dir = world.disk_dir(ONE).join("buckets");
    fs::create_dir(&dir).expect("a directory");
    let dd = |from: &str, to: &str| {
        let (from, to) = (format!("if={from}"), format!("of={to}"));
        world.run_at(ONE, &["dd", &from, &to, "bs=4096", "count=1"], LONG)
    };
    let file = dir.join("file").display().to_string();
    let write = || dd("/dev/zero", &file);
    let read = || dd(&file, "/dev/null");
    let fails = |said: Result<String, Error>| {
        let said = said.expect_err("it fails").to_string();
        assert!(said.contains("Input/output error"), "{said}");
    };
    write().expect("nothing is wrong yet");
    world.fail_writes(ONE, 2, "/buckets/").expect("armed");
    read().expect("only writes fail");
    world.fail_reads(ONE, 1, "/buckets/").expect("armed");
    fails(write());
    fails(write());
    write().expect("two failed");
    fails(read());
    read().expect("one failed");
    world.fail_reads(ONE, 1, "/wal/").expect("armed");
    read().expect("it is another file");
    world.close().expect("an end");
}

fn device(inside: &Inside, scratch: &Path) {
    let mut world = world(inside, scratch);
    let dir = world.disk_dir(ONE);
    let (before, during) = (dir.join("before"), dir.join("during"));
    durable::write(&before, &[7; 100_000]).expect("a write");
    world.move_disk_to_memory(ONE).expect("a move");
    durable::write(&during, &[8; 100_000]).expect("it is as good as the other");
    let failed = world.fail_device(ONE).expect("it fails").expect("the system says so");
    let errors = ["Input/output error", "No space left on device", "Read-only file system"];
    assert!(errors.iter().any(|error| failed.contains(error)), "{failed}");
    let other = world.disk_dir(NodeId(2)).join("other");
    durable::write(&other, &[9; 100]).expect("another place has another device");
    world.move_disk_back(ONE).expect("a move");
    assert_eq!(fs::read(&before).expect("it was synced"), [7; 100_000]);
    assert_eq!(fs::read(&during).expect("it was synced"), [8; 100_000]);
    durable::write(&dir.join("after"), &[1; 100_000]).expect("it is a good device");
    world.close().expect("an end");
}

const SECTORS: usize = 2_048;
const OLD: u8 = 7;
const NEW: u8 = 9;

/// Writes over a file that is durable, past the kernel's memory and without a flush; then the power goes. Returns how many
/// of its sectors are new.
fn tear(world: &mut World, name: &str) -> (Loss, usize) {
    let dir = world.disk_dir(ONE);
    let (torn, synced) = (dir.join(name), dir.join(format!("{name}-synced")));
    durable::write(&torn, &[OLD; SECTORS * 512]).expect("a write");
    let script = format!(
        "head -c {} /dev/zero | tr '\\0' '\\{NEW:03o}' | dd of={} bs=64k iflag=fullblock oflag=direct conv=notrunc",
        SECTORS * 512,
        torn.display()
    );
    durable::write(&synced, &[OLD; 10_000]).expect("a write");
    world.run_at(ONE, &["sh", "-c", &script], LONG).expect("a write");
    assert_eq!(fs::read(&torn).expect("it is there"), [NEW; SECTORS * 512]);
    let losses = world.tear_power(&[ONE]).expect("a power cut");
    assert_eq!(fs::read(&synced).expect("it was synced"), [OLD; 10_000]);
    let bytes = fs::read(&torn).expect("it was synced");
    assert_eq!(bytes.len(), SECTORS * 512);
    let is = |sector: &[u8], byte: u8| sector.iter().all(|one| *one == byte);
    assert!(bytes.chunks(512).all(|sector| is(sector, OLD) || is(sector, NEW)), "no mixture");
    let new = bytes.chunks(512).filter(|sector| is(sector, NEW)).count();
    (losses[0], new)
}

fn torn_power_cut(inside: &Inside, scratch: &Path) {
    let mut world = served_world(inside, scratch);
    let rounds: Vec<_> = (0..4).map(|round| tear(&mut world, &format!("round-{round}"))).collect();
    for (loss, new) in &rounds {
        let unit = usize::try_from(loss.sector_bytes / 512).expect("small");
        assert!(loss.lost > 0 && loss.sectors * unit >= SECTORS, "{loss:?}");
        assert!(*new < SECTORS, "{new} {loss:?}");
    }
    assert!(rounds.iter().any(|(_, new)| *new > 0), "something of it survives: {rounds:?}");
    assert!(rounds.iter().any(|(loss, _)| loss.torn > 0), "a write is torn: {rounds:?}");
    // A disk that was cut is as good as before.
    durable::write(&world.disk_dir(ONE).join("after"), &[OLD; 10_000]).expect("a write");
    assert!(world.tear_power(&[NodeId(2)]).expect("a power cut").len() == 1);
    world.close().expect("an end");
}

fn torn_by_seed(inside: &Inside, scratch: &Path) {
    let sizes = |name: &str| -> Vec<u64> {
        let mut world = served_world(inside, &scratch.join(name));
        let sizes = (0..6).map(|_| world.tear_power(&[ONE]).expect("a cut")[0].sector_bytes);
        let sizes = sizes.collect();
        world.close().expect("an end");
        sizes
    };
    assert_eq!(sizes("one"), sizes("two"));
}

fn unreadable(inside: &Inside, scratch: &Path) {
    let world = served_world(inside, scratch);
    let path = world.disk_dir(ONE).join("file");
    durable::write(&path, &[OLD; 100_000]).expect("a write");
    assert_eq!(fs::read(&path).expect("nothing is wrong yet"), [OLD; 100_000]);
    world.fail_disk_reads(ONE).expect("its place is known");
    let failed = fs::read(&path).expect_err("it cannot be read");
    assert_eq!(failed.raw_os_error(), Some(5), "{failed}");
    let other = world.disk_dir(NodeId(2)).join("other");
    durable::write(&other, &[OLD; 100]).expect("another place has another disk");
    durable::write(&path.with_extension("new"), &[OLD; 100]).expect("it can be written to");
    assert!(world.calm_disk(ONE).0 > 0, "the disk says that it failed");
    assert_eq!(fs::read(&path).expect("it can be read again"), [OLD; 100_000]);
    assert_eq!(world.calm_disk(NodeId(2)), (0, 0));
    world.close().expect("an end");
}

fn stall(inside: &Inside, scratch: &Path) {
    let world = served_world(inside, scratch);
    let path = world.disk_dir(ONE).join("file");
    let takes = || {
        let clock = SystemClock::new();
        durable::write(&path, &[OLD; 100]).expect("a write");
        Duration::from_nanos(clock.monotonic_ns())
    };
    takes();
    world.stall_disk(ONE, SHORT);
    let slow = takes();
    assert!(slow >= SHORT * 2, "{slow:?}");
    assert!(world.calm_disk(ONE).1 >= 2);
    let fast = takes();
    assert!(fast < slow, "{fast:?}");
    // Whoever waits is let go, also by an end.
    world.stall_disk(ONE, Duration::from_secs(3_600));
    let other = path.clone();
    let waits = move || durable::write(&other, &[NEW; 100]);
    let waits = alluvium_stdx::spawn::thread("waits", waits).expect("a thread");
    assert!(!waits.is_finished());
    world.calm_disk(ONE);
    waits.join().expect("an end").expect("a write");
    world.stall_disk(ONE, Duration::from_secs(3_600));
    world.close().expect("an end");
}

fn clock(inside: &Inside, scratch: &Path) {
    let world = world(inside, scratch);
    let ahead_s = |node: NodeId| {
        let said = world.run_at(node, &["date", "+%s"], LONG).expect("a date");
        let now_s = i64::try_from(SystemClock::new().wall_ms() / 1_000).expect("a small number");
        said.trim().parse::<i64>().expect("a number") - now_s
    };
    world.set_clock(ONE, -3_600_000, 1_000_000).expect("a jump");
    let (wrong, right) = (ahead_s(ONE), ahead_s(NodeId(2)));
    assert!((wrong + 3_600).abs() <= 2 && right.abs() <= 2, "{wrong} {right}");
    world.set_clock(ONE, 0, 1_000_000).expect("the machine's clock");
    assert!(ahead_s(ONE).abs() <= 2);
    world.close().expect("an end");
}

fn steady_clock(inside: &Inside, scratch: &Path) {
    let world = world(inside, scratch);
    let says = |node: NodeId| {
        let script = "env -u LD_PRELOAD sleep 0.4 | LC_ALL=C dd of=/dev/null 2>&1";
        let said = world.run_at(node, &["sh", "-c", script], LONG).expect("dd");
        let (before, _) = said.split_once(" s,").expect("a time");
        let (_, seconds) = before.rsplit_once(' ').expect("a time");
        seconds.parse::<f64>().expect("a number")
    };
    let waits = |node: NodeId, seconds: &str| {
        let clock = SystemClock::new();
        world.run_at(node, &["sleep", seconds], LONG).expect("sleep");
        Duration::from_nanos(clock.monotonic_ns()).as_secs_f64()
    };
    world.set_steady_clock(ONE, 0, 8_000_000).expect("a fast clock");
    let (fast, other) = (says(ONE), says(NodeId(2)));
    assert!(fast >= 1.6 && (0.2..1.6).contains(&other), "{fast} {other}");
    let (fast, other) = (waits(ONE, "1.2"), waits(NodeId(2), "1.2"));
    assert!((0.15..1.2).contains(&fast) && other >= 1.2, "{fast} {other}");
    world.set_steady_clock(ONE, 60_000, 125_000).expect("a slow clock");
    let (slow, waited) = (says(ONE), waits(ONE, "0.3"));
    assert!(slow < 0.2 && waited >= 2.4, "{slow} {waited}");
    world.set_steady_clock(ONE, 0, 1_000_000).expect("the true speed");
    assert!(says(ONE) >= 0.2 && waits(ONE, "0.3") < 2.4);
    world.close().expect("an end");
}

fn places(inside: &Inside, scratch: &Path) {
    let world = world(inside, scratch);
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    for place in world.places() {
        let dir = world.disk_dir(place).display().to_string();
        let mount = mounts.lines().find(|line| line.contains(&format!(" {dir} ")));
        assert!(mount.is_some_and(|mount| mount.contains(" ext4 ")), "{dir} has a disk of its own");
        let address = world.run_at(place, &["ip", "-o", "-4", "address"], LONG).expect("ip");
        assert!(address.contains(&format!("{}/24", wire::address(place.0))), "{address}");
    }
    world.close().expect("an end");
}

/// Asks the store for an object without saying who asks. Returns the status, if one came, and how long it took.
fn ask() -> (Option<u16>, Duration) {
    let clock = SystemClock::new();
    let address = SocketAddr::from((wire::address(101), 9_000));
    let mut stream = TcpStream::connect_timeout(&address, LONG).expect("it listens");
    stream.set_read_timeout(Some(SHORT)).expect("a limit");
    let mut said = String::new();
    // What comes before the end or the limit counts.
    drop(stream.write_all(b"GET /lake/a HTTP/1.1\r\nHost: lake\r\nConnection: close\r\n\r\n"));
    drop(stream.read_to_string(&mut said));
    let status = said.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status, Duration::from_nanos(clock.monotonic_ns()))
}

fn store(inside: &Inside, scratch: &Path) {
    let config = WorldConfig { shared_bucket: true, ..config(scratch, Disks::Plain) };
    let mut world = World::build(config, inside).expect("a world");
    let under = |world: &mut World, mode: Mode, asks: usize| {
        let installed = world.install(mode).expect("installed");
        let again = world.install(mode).expect_err("one at a time");
        assert!(matches!(again, Error::NotNow { .. }), "{again}");
        let answers: Vec<_> = (0..asks).map(|_| ask()).collect();
        (answers, world.heal(&installed).expect("healed").observation.is_observed())
    };
    // Who does not say who asks is refused, and that is an answer.
    assert_eq!(ask().0, Some(403));
    let (answers, observed) = under(&mut world, Mode::ObjstoreErrors, 40);
    let failed = |status: &Option<u16>| status.is_some_and(|one| [500, 503, 429].contains(&one));
    assert!(observed && answers.iter().any(|(status, _)| failed(status)), "{answers:?}");
    let (answers, observed) = under(&mut world, Mode::ObjstoreSlow, 1);
    assert!(observed || answers[0].0.is_none(), "it was late, or too late: {answers:?}");
    assert!(answers[0].1 >= Duration::from_millis(50), "{answers:?}");
    for _ in 0..4 {
        let (answers, observed) = under(&mut world, Mode::ObjstoreAway, 1);
        assert!(observed && answers[0].0.is_none(), "{answers:?}");
    }
    let (answers, observed) = under(&mut world, Mode::ObjstoreLost, 3);
    assert!(!observed && answers.iter().all(|(status, _)| *status == Some(403)), "no put came");
    let none = world.install(Mode::ObjstoreDamage).expect_err("there is no object");
    assert!(matches!(none, Error::NotNow { .. }), "{none}");
    assert_eq!(ask().0, Some(403), "all is well again");
    let report = world.bucket_report().expect("there is one");
    assert_eq!((report.objects, report.contradictions), (0, Vec::new()));
    world.close().expect("an end");
}

fn left_behind(inside: &Inside, scratch: &Path) {
    let one = scratch.join("one");
    world(inside, &one).close().expect("an end");
    assert_eq!(leftovers(&one), Vec::<String>::new());
    let two = scratch.join("two");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _world = world(inside, &two);
        assert!(!leftovers(&two).is_empty(), "while it is there, it is seen");
        panic!("on purpose");
    }));
    let message = panicked.expect_err("it panicked");
    assert_eq!(message.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(leftovers(&two), Vec::<String>::new());
}

fn served_left_behind(inside: &Inside, scratch: &Path) {
    let one = scratch.join("one");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut world = served_world(inside, &one);
        let mounted = leftovers(&one).iter().filter(|one| one.contains(" fuse ")).count();
        assert_eq!((mounted, threads_that_serve()), (2, 10));
        // What is done to it, and what its disk does not have yet, is no reason to stay.
        world.tear_power(&[NodeId(2)]).expect("a power cut");
        world.fail_disk_reads(ONE).expect("its place is known");
        world.stall_disk(ONE, Duration::from_secs(3_600));
        panic!("on purpose");
    }));
    let message = panicked.expect_err("it panicked");
    assert_eq!(message.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!((leftovers(&one), threads_that_serve()), (Vec::new(), 0));
}

/// Returns how many threads of this program serve disks.
fn threads_that_serve() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("threads").flatten();
    let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("fuser-") || name.trim() == "disk").count()
}

/// Returns mounts and loop devices of a scratch directory, and control groups of this run.
fn leftovers(scratch: &Path) -> Vec<String> {
    let scratch = scratch.display().to_string();
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    found.extend(mounts.lines().filter(|line| line.contains(&scratch)).map(str::to_owned));
    for device in fs::read_dir("/sys/block").expect("block devices").flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file"));
        found.extend(file.ok().filter(|file| file.contains(&scratch)));
    }
    let own = format!("alluvium-world-{}-", std::env::var("ALLUVIUM_WORLD_OUTER").expect("inside"));
    for controller in ["cpu", "memory", "blkio"] {
        let groups = fs::read_dir(format!("/sys/fs/cgroup/{controller}")).expect("groups");
        let names = groups.flatten().map(|group| group.file_name().to_string_lossy().into_owned());
        found.extend(names.filter(|name| name.starts_with(&own)));
    }
    found
}
