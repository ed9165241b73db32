//! Who has a place at a port, and who gives way when all are taken.
//!
//! It must not touch a socket. Invariant: there are at most as many guests as places, and none with an open call is sent
//! away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The places of a port.
#[derive(Debug)]
pub(crate) struct Guests {
    places: usize,
    // By order of arrival. Held for one look or change; a newcomer at a full port looks at all.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    guests: BTreeMap<u64, Place>,
    /// Counts arrivals and the ends of calls: an order without a clock.
    now: u64,
    /// Guests that were sent away, and newcomers that were not let in.
    turned_away: u64,
}

#[derive(Debug)]
struct Place {
    /// Dropped to send the guest away.
    _stay: oneshot::Sender<()>,
    /// Since when it is of no use: nothing while calls are open.
    idle_since: Option<u64>,
    calls: u64,
    is_open: bool,
}

/// One guest's place, until dropped. Invariant: it is dropped with its connection.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Guests>,
    number: u64,
}

/// Ends when the guest is to go.
pub(crate) type SentAway = oneshot::Receiver<()>;

impl Guests {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        assert!(places > 0, "a port without places serves nobody");
        Arc::new(Self { places, state: Mutex::default() })
    }

    /// Lets a newcomer in, at the expense of the guest with the least claim if need be; nobody when all are busy.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<(Guest, SentAway)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.places <= state.guests.len() {
            state.turn_away("the port is full: connections are closed");
            if !state.make_room() {
                return None;
            }
        }
        assert!(state.guests.len() < self.places, "a guest without a place");
        let (stay, sent_away) = oneshot::channel();
        state.now += 1;
        let number = state.now;
        let place = Place { _stay: stay, idle_since: Some(number), calls: 0, is_open: false };
        state.guests.insert(number, place);
        Some((Guest { guests: Arc::clone(self), number }, sent_away))
    }

    /// Sends the guest with the least claim away: its descriptor is needed.
    pub(crate) fn make_room(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn_away("there are no file descriptors left: connections are closed");
        state.make_room();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).guests.len()
    }
}

impl State {
    /// Takes the place of the one that has said nothing for longest, or else of the one that is idle for longest.
    fn make_room(&mut self) -> bool {
        let claim = |(number, place): (&u64, &Place)| {
            place.idle_since.map(|since| (place.is_open, since, *number))
        };
        let least = self.guests.iter().filter_map(claim).min();
        least.is_some_and(|(_, _, number)| self.guests.remove(&number).is_some())
    }

    fn turn_away(&mut self, why: &str) {
        self.turned_away += 1;
        // Whoever floods the port does not flood the node's log.
        if self.turned_away.is_power_of_two() {
            tracing::warn!(turned_away = self.turned_away, "{why}");
        }
    }
}

impl Guest {
    /// It has said something useful: it is no longer among the first to go.
    pub(crate) fn open(&self) {
        self.change(|place, _now| place.is_open = true);
    }

    pub(crate) fn is_open(&self) -> bool {
        let state = self.guests.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.guests.get(&self.number).is_some_and(|place| place.is_open)
    }

    pub(crate) fn begin_call(&self) {
        self.change(|place, _now| {
            place.is_open = true;
            place.calls += 1;
            place.idle_since = None;
        });
    }

    pub(crate) fn end_call(&self) {
        self.change(|place, now| {
            assert!(place.calls > 0, "a call ends once");
            place.calls -= 1;
            place.idle_since = (place.calls == 0).then_some(now);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Place, u64)) {
        let mut state = self.guests.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += 1;
        let now = state.now;
        // A guest that was sent away may still end its calls.
        if let Some(place) = state.guests.get_mut(&self.number) {
            change(place, now);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = self.guests.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.guests.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sent_away(sent_away: &mut SentAway) -> bool {
        matches!(sent_away.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn a_place_is_free_again_when_its_guest_has_gone() {
        let guests = Guests::new(2);
        let (one, _) = guests.admit().expect("a place");
        let (_two, _) = guests.admit().expect("a place");
        drop(one);
        assert_eq!(guests.len(), 1);
        guests.admit().expect("a place");
    }

    #[test]
    fn the_silent_go_first_then_the_idle_and_the_busy_never() {
        let guests = Guests::new(3);
        let (idle, mut idle_away) = guests.admit().expect("a place");
        idle.begin_call();
        idle.end_call();
        let (busy, mut busy_away) = guests.admit().expect("a place");
        busy.begin_call();
        let (silent, mut silent_away) = guests.admit().expect("a place");
        let (newer, mut newer_away) = guests.admit().expect("in the place of the silent");
        assert!(is_sent_away(&mut silent_away) && !is_sent_away(&mut idle_away));
        // What it does from now on is nobody's.
        silent.begin_call();
        newer.begin_call();
        let (_newest, _away) = guests.admit().expect("in the place of the idle");
        assert!(is_sent_away(&mut idle_away));
        let (_other, _away) = guests.admit().expect("in the place of the newest, which is silent");
        assert!(!is_sent_away(&mut busy_away) && !is_sent_away(&mut newer_away));
        assert_eq!(guests.len(), 3);
    }

    #[test]
    fn among_the_idle_the_one_whose_call_ended_first_goes() {
        let guests = Guests::new(2);
        let (one, mut one_away) = guests.admit().expect("a place");
        let (two, mut two_away) = guests.admit().expect("a place");
        two.begin_call();
        two.end_call();
        one.begin_call();
        one.end_call();
        guests.admit().expect("in the place of the second");
        assert!(is_sent_away(&mut two_away) && !is_sent_away(&mut one_away));
    }

    #[test]
    fn where_everyone_is_busy_a_newcomer_is_not_let_in() {
        let guests = Guests::new(1);
        let (one, mut away) = guests.admit().expect("a place");
        one.begin_call();
        one.begin_call();
        one.end_call();
        assert!(guests.admit().is_none());
        assert!(!is_sent_away(&mut away));
        one.end_call();
        guests.admit().expect("its calls have ended");
        assert!(is_sent_away(&mut away));
    }
}
