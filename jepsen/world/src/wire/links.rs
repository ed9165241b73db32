//! What becomes of each packet: the rules of every directed link, and the packets that wait.
//!
//! Performs no I/O and reads no clock: a packet and a time go in, packets that are due come out. Must not decide by
//! anything but rule and seed. Invariant: what is offered is counted under exactly one of `relayed`, `cut`, `lost`,
//! `overflowed` and `reset`; copies are counted apart.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use alluvium_stdx::Prng;

use super::packet;
use crate::limits;

/// A directed link: from and to, as last bytes of addresses.
pub type Link = (u8, u8);

/// How a directed link treats packets. The default relays them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// Nothing passes.
    pub cut: bool,
    /// How many of a thousand packets are lost.
    pub loss_permille: u64,
    /// How many of a thousand packets come twice.
    pub duplicate_permille: u64,
    /// How long every packet takes.
    pub delay: Duration,
    /// Up to how much longer one takes, each by chance: they overtake each other.
    pub jitter: Duration,
    /// How many bytes pass in a second; zero means any number.
    pub bytes_per_s: u64,
    /// How many of a thousand TCP segments have a bit of their payload flipped and their checksum repaired.
    pub corrupt_permille: u64,
    /// How many of a thousand TCP segments with a payload end their connection with a reset to both ends.
    pub reset_permille: u64,
}

impl Rule {
    /// Returns the rule of two faults at once: the worse of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let slower = match (self.bytes_per_s, other.bytes_per_s) {
            (0, only) | (only, 0) => only,
            (one, two) => one.min(two),
        };
        Self {
            cut: self.cut || other.cut,
            loss_permille: self.loss_permille.max(other.loss_permille),
            duplicate_permille: self.duplicate_permille.max(other.duplicate_permille),
            delay: self.delay.max(other.delay),
            jitter: self.jitter.max(other.jitter),
            bytes_per_s: slower,
            corrupt_permille: self.corrupt_permille.max(other.corrupt_permille),
            reset_permille: self.reset_permille.max(other.reset_permille),
        }
    }
}

/// What was done to the packets of a directed link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of the rules")]
pub struct Counters {
    pub relayed: u64,
    pub cut: u64,
    pub lost: u64,
    pub overflowed: u64,
    pub duplicated: u64,
    pub delayed: u64,
    pub corrupted: u64,
    pub reset: u64,
}

impl Counters {
    /// Returns what was counted since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            relayed: self.relayed - before.relayed,
            cut: self.cut - before.cut,
            lost: self.lost - before.lost,
            overflowed: self.overflowed - before.overflowed,
            duplicated: self.duplicated - before.duplicated,
            delayed: self.delayed - before.delayed,
            corrupted: self.corrupted - before.corrupted,
            reset: self.reset - before.reset,
        }
    }

    /// Returns both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            relayed: self.relayed + other.relayed,
            cut: self.cut + other.cut,
            lost: self.lost + other.lost,
            overflowed: self.overflowed + other.overflowed,
            duplicated: self.duplicated + other.duplicated,
            delayed: self.delayed + other.delayed,
            corrupted: self.corrupted + other.corrupted,
            reset: self.reset + other.reset,
        }
    }
}

/// A packet that waits: ordered by its time, then by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due_ns: u64,
    number: u64,
    to: u8,
    packet: Vec<u8>,
}

/// What was decided about one packet, where it is more than to relay it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Cut,
    Lost,
    Overflowed,
    Duplicated,
    Corrupted,
    Reset,
}

#[derive(Debug, Default)]
struct State {
    rule: Rule,
    counters: Counters,
    /// Until when the link is busy with earlier packets.
    busy_ns: u64,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Links {
    prng: Prng,
    states: BTreeMap<Link, State>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    waiting_bytes: usize,
    number: u64,
}

impl Links {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            prng: Prng::from_seed(seed),
            states: BTreeMap::new(),
            waiting: BinaryHeap::new(),
            waiting_bytes: 0,
            number: 0,
        }
    }

    pub(crate) fn set(&mut self, link: Link, rule: Rule) {
        let state = self.states.entry(link).or_default();
        state.rule = rule;
        state.busy_ns = 0;
    }

    pub(crate) fn counters(&self) -> BTreeMap<Link, Counters> {
        self.states.iter().map(|(link, state)| (*link, state.counters)).collect()
    }

    /// Takes a packet, and returns the destination when it is to be sent at once as it is now. All else waits, if only
    /// for no time.
    pub(crate) fn offer(
        &mut self,
        packet: &mut [u8],
        now_ns: u64,
        decided: &mut Vec<Decision>,
    ) -> Option<u8> {
        let link = packet::ends(packet)?;
        let state = self.states.entry(link).or_default();
        let rule = state.rule;
        if rule == Rule::default() {
            state.counters.relayed += 1;
            return Some(link.1);
        }
        let prng = &mut self.prng;
        let mut falls = |permille: u64| permille > 0 && prng.below(1_000) < permille;
        let has_payload = packet::payload_len(packet) > 0;
        if rule.cut {
            state.counters.cut += 1;
            decided.push(Decision::Cut);
            return None;
        }
        if falls(rule.loss_permille) {
            state.counters.lost += 1;
            decided.push(Decision::Lost);
            return None;
        }
        if has_payload && falls(rule.reset_permille) {
            state.counters.reset += 1;
            decided.push(Decision::Reset);
            if let Some((forward, back)) = packet::resets(packet) {
                self.wait(link.1, forward, now_ns);
                self.wait(link.0, back, now_ns);
            }
            return None;
        }
        let (is_double, is_corrupt) =
            (falls(rule.duplicate_permille), has_payload && falls(rule.corrupt_permille));
        self.carry(link, packet, now_ns, (is_double, is_corrupt), decided)
    }

    /// Carries a packet that was neither lost nor refused, by the link's speed and delay.
    fn carry(
        &mut self,
        link: Link,
        packet: &mut [u8],
        now_ns: u64,
        (is_double, is_corrupt): (bool, bool),
        decided: &mut Vec<Decision>,
    ) -> Option<u8> {
        let state = self.states.entry(link).or_default();
        let rule = state.rule;
        let mut due_ns = now_ns;
        let size = u64::try_from(packet.len()).unwrap_or(u64::MAX);
        if let Some(takes_ns) = size.saturating_mul(1_000_000_000).checked_div(rule.bytes_per_s) {
            due_ns = state.busy_ns.max(now_ns).saturating_add(takes_ns);
            if due_ns - now_ns > nanos(limits::LINK_QUEUE) {
                state.counters.overflowed += 1;
                decided.push(Decision::Overflowed);
                return None;
            }
            state.busy_ns = due_ns;
        }
        due_ns = due_ns.saturating_add(nanos(rule.delay));
        if !rule.jitter.is_zero() {
            due_ns = due_ns.saturating_add(self.prng.below(nanos(rule.jitter)));
        }
        state.counters.relayed += 1;
        if due_ns > now_ns {
            state.counters.delayed += 1;
        }
        if is_corrupt && packet::corrupt(packet, self.prng.next_u64()) {
            state.counters.corrupted += 1;
            decided.push(Decision::Corrupted);
        }
        if is_double {
            state.counters.duplicated += 1;
            decided.push(Decision::Duplicated);
            let later = self.prng.below(nanos(limits::COPY_LATER));
            self.wait(link.1, packet.to_vec(), due_ns.saturating_add(later));
        }
        if due_ns == now_ns {
            return Some(link.1);
        }
        self.wait(link.1, packet.to_vec(), due_ns);
        None
    }

    fn wait(&mut self, to: u8, packet: Vec<u8>, due_ns: u64) {
        // TCP sends again what does not find room here, as it does on any wire.
        if self.waiting_bytes + packet.len() > limits::WAITING_BYTES {
            return;
        }
        self.waiting_bytes += packet.len();
        self.number += 1;
        self.waiting.push(Reverse(Waiting { due_ns, number: self.number, to, packet }));
    }

    /// Returns when the next packet that waits is due.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(first)| first.due_ns)
    }

    /// Returns a packet that is due, and to whom.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<(u8, Vec<u8>)> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let Reverse(first) = self.waiting.pop()?;
        self.waiting_bytes -= first.packet.len();
        Some((first.to, first.packet))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::tests::tcp;

    const MS: u64 = 1_000_000;

    /// Offers packets, one each millisecond, and returns the links and when each arrived at node 2.
    fn arrivals(rule: Rule, packets: u64) -> (Links, Vec<u64>, Vec<Decision>) {
        let mut links = Links::new(1);
        links.set((1, 2), rule);
        let (mut arrived, mut decided) = (Vec::new(), Vec::new());
        for number in 0..packets {
            let mut packet = tcp(1, 2, &[0; 60]);
            if links.offer(&mut packet, number * MS, &mut decided) == Some(2) {
                arrived.push(number * MS);
            }
        }
        while let Some(due) = links.next_due_ns() {
            if let Some((2, _)) = links.take_due(due) {
                arrived.push(due);
            }
        }
        (links, arrived, decided)
    }

    fn count(rule: Rule) -> (Counters, usize) {
        let (links, arrived, _) = arrivals(rule, 1_000);
        (links.counters()[&(1, 2)], arrived.len())
    }

    #[test]
    fn a_link_without_a_rule_relays_at_once() {
        let (links, arrived, decided) = arrivals(Rule::default(), 10);
        assert_eq!(arrived, (0..10).map(|n| n * MS).collect::<Vec<_>>());
        assert_eq!((links.counters()[&(1, 2)].relayed, decided), (10, Vec::new()));
    }

    #[test]
    fn a_cut_is_of_one_direction() {
        let (mut links, arrived, _) = arrivals(Rule { cut: true, ..Rule::default() }, 10);
        assert_eq!((arrived.len(), links.counters()[&(1, 2)].cut), (0, 10));
        assert_eq!(links.offer(&mut tcp(2, 1, b"x"), 0, &mut Vec::new()), Some(1));
    }

    #[test]
    fn chance_is_about_what_the_rule_says_and_every_packet_is_counted_once() {
        let near = |found: u64, expected: u64| {
            assert!(found.abs_diff(expected) < 60, "{found} is far from {expected}");
        };
        let (lossy, arrived) = count(Rule { loss_permille: 300, ..Rule::default() });
        near(lossy.lost, 300);
        assert_eq!((lossy.relayed + lossy.lost, arrived as u64), (1_000, lossy.relayed));
        let (double, arrived) = count(Rule { duplicate_permille: 200, ..Rule::default() });
        near(double.duplicated, 200);
        assert_eq!(arrived as u64, 1_000 + double.duplicated);
        let (corrupt, arrived) = count(Rule { corrupt_permille: 100, ..Rule::default() });
        near(corrupt.corrupted, 100);
        assert_eq!(arrived, 1_000);
        let (reset, arrived) = count(Rule { reset_permille: 100, ..Rule::default() });
        near(reset.reset, 100);
        assert_eq!(arrived, 1_000, "a reset takes the place of the segment");
    }

    #[test]
    fn jitter_lets_packets_overtake_each_other_and_delay_alone_does_not() {
        let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(20));
        let (links, arrived, _) = arrivals(Rule { delay, ..Rule::default() }, 20);
        assert_eq!(arrived, (0..20).map(|n| (n + 50) * MS).collect::<Vec<_>>());
        assert_eq!(links.counters()[&(1, 2)].delayed, 20);
        let mut links = Links::new(1);
        links.set((1, 2), Rule { delay, jitter, ..Rule::default() });
        for number in 0..20 {
            let mut packet = tcp(1, 2, &[number]);
            assert_eq!(links.offer(&mut packet, u64::from(number) * MS, &mut Vec::new()), None);
        }
        let mut order = Vec::new();
        while let Some((_, packet)) = links.take_due(u64::MAX) {
            order.push(packet[40]);
        }
        assert_eq!(order.len(), 20);
        assert!(!order.is_sorted(), "{order:?}");
    }

    #[test]
    fn a_slow_link_takes_its_time_and_overflows() {
        // 100 bytes in 10 ms, and one packet of 100 bytes each ms.
        let rule = Rule { bytes_per_s: 10_000, ..Rule::default() };
        let (_, arrived, _) = arrivals(rule, 5);
        assert_eq!(arrived, (1..=5).map(|n| n * 10 * MS).collect::<Vec<_>>());
        let (counters, _) = count(rule);
        assert!(counters.overflowed > 0);
        assert_eq!(counters.relayed + counters.overflowed, 1_000);
    }

    #[test]
    fn two_rules_at_once_are_the_worse_of_each() {
        let one = Rule { cut: true, loss_permille: 5, bytes_per_s: 0, ..Rule::default() };
        let two = Rule { loss_permille: 3, bytes_per_s: 9, ..Rule::default() };
        let both = Rule { cut: true, loss_permille: 5, bytes_per_s: 9, ..Rule::default() };
        assert_eq!((one.and(two), two.and(one)), (both, both));
        assert_eq!(Rule { bytes_per_s: 4, ..two }.and(two).bytes_per_s, 4);
        assert_eq!(two.and(Rule::default()), two);
    }

    #[test]
    fn a_seed_decides_everything() {
        let rule = Rule {
            loss_permille: 100,
            duplicate_permille: 100,
            jitter: Duration::from_millis(9),
            ..Rule::default()
        };
        let (first, second) = (arrivals(rule, 200), arrivals(rule, 200));
        assert_eq!((first.1, first.2), (second.1, second.2));
    }
}
