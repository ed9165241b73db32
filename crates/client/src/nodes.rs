//! The nodes that a client knows, and which of them is asked next.
//!
//! It must not call. Invariant: a node is always chosen while one is known; a broken one last.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_proto::v1::lake_client::LakeClient;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::Error;
use crate::limits::{ANSWER_BYTES_MAX, AVOID, CONNECT_MAX, NODES_MAX, PING_EVERY, PING_MAX};

/// Which node a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefers {
    /// The leader: others would only pass it on.
    Leader,
    /// Any, in turn.
    Any,
    /// This one only.
    Only(usize),
}

/// A node that was chosen.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) at: usize,
    pub(crate) url: String,
    pub(crate) lake: LakeClient<Channel>,
}

/// What a call has asked so far: tries by node.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    tries: Vec<u32>,
}

impl Asked {
    pub(crate) fn of(&self, at: usize) -> u32 {
        self.tries.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, at: usize) {
        if self.tries.len() <= at {
            self.tries.resize(at + 1, 0);
        }
        self.tries[at] += 1;
    }
}

/// The nodes that a client knows.
#[derive(Debug)]
pub(crate) struct Nodes {
    // Held for a look or a note, never while a call is made.
    directory: Mutex<Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    known: Vec<Known>,
    /// The id of the node that leads, as far as was told.
    leader: Option<u64>,
    /// Where the leader is, when only its URL was told.
    leader_at: Option<usize>,
    /// The term in which it was told.
    term: u64,
    turn: usize,
}

#[derive(Debug)]
struct Known {
    url: String,
    lake: LakeClient<Channel>,
    node: Option<u64>,
    avoid_until: Option<Instant>,
}

/// What the choice between nodes looks at.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    tries: u32,
    is_avoided: bool,
    leads: bool,
}

/// Chooses a node: one whose connection holds, one that this call has asked least, the leader, the next in turn.
fn choose(candidates: &[Candidate], prefers_leader: bool, turn: usize) -> usize {
    let count = candidates.len();
    let rank = |at: &usize| {
        let Candidate { tries, is_avoided, leads } = candidates[*at];
        (is_avoided, tries, prefers_leader && !leads, (at + count - turn % count) % count)
    };
    (0..count).min_by_key(rank).expect("a client has a node")
}

impl Nodes {
    /// Prepares connections; each is made by the first call on it, and again when it breaks.
    pub(crate) fn new(urls: Vec<String>) -> Result<Self, Error> {
        let mut directory = Directory::default();
        for url in urls {
            if directory.add(&url)?.is_none() {
                return Err(Error::TooManyEndpoints { limit: NODES_MAX });
            }
        }
        if directory.known.is_empty() {
            return Err(Error::NoEndpoint);
        }
        Ok(Self { directory: Mutex::new(directory) })
    }

    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pick(&self, prefers: Prefers, asked: &Asked) -> Chosen {
        let mut directory = self.lock();
        let now = Instant::now();
        let leader = directory.leader_at();
        let candidate = |(at, known): (usize, &Known)| Candidate {
            tries: asked.of(at),
            is_avoided: known.avoid_until.is_some_and(|until| now < until),
            leads: leader == Some(at),
        };
        let candidates: Vec<_> = directory.known.iter().enumerate().map(candidate).collect();
        let at = match prefers {
            Prefers::Only(at) => at,
            Prefers::Leader => choose(&candidates, true, directory.turn),
            Prefers::Any => choose(&candidates, false, directory.turn),
        };
        // The leader's turn takes nobody else's.
        directory.turn =
            directory.turn.wrapping_add(usize::from(leader != Some(at) || prefers == Prefers::Any));
        directory.chosen(at)
    }

    /// Says whether there is a node that a call has not asked and whose connection is not known to be broken.
    pub(crate) fn has_untried(&self, prefers: Prefers, asked: &Asked) -> bool {
        let now = Instant::now();
        let is_fresh = |(at, known): (usize, &Known)| {
            asked.of(at) == 0 && known.avoid_until.is_none_or(|until| until <= now)
        };
        !matches!(prefers, Prefers::Only(_)) && self.lock().known.iter().enumerate().any(is_fresh)
    }

    /// Returns all nodes; those whose connection broke just now are left out if `sound`.
    pub(crate) fn all(&self, sound: bool) -> Vec<Chosen> {
        let directory = self.lock();
        let now = Instant::now();
        let is_sound =
            |at: &usize| directory.known[*at].avoid_until.is_none_or(|until| until <= now);
        let all = 0..directory.known.len();
        all.filter(|at| !sound || is_sound(at)).map(|at| directory.chosen(at)).collect()
    }

    /// Says whether it is worth asking who leads: there is a choice and it is not known.
    pub(crate) fn lacks_leader(&self) -> bool {
        let directory = self.lock();
        directory.known.len() > 1 && directory.leader_at().is_none()
    }

    /// A node said who it is, and who leads in which term.
    pub(crate) fn told(&self, at: usize, node: u64, leader: Option<u64>, term: u64) {
        let mut directory = self.lock();
        directory.known[at].node = Some(node);
        directory.known[at].avoid_until = None;
        if term >= directory.term {
            directory.term = term;
            // A node that knows of no leader does not unsay what another one of its term knows.
            directory.leader = leader.or(directory.leader);
            directory.leader_at = None;
        }
    }

    /// An error named the leader. A URL that is not known is kept, while there is room.
    pub(crate) fn hinted(&self, leader: Option<u64>, url: Option<&str>) {
        let mut directory = self.lock();
        if leader.is_some() {
            (directory.leader, directory.leader_at) = (leader, None);
        }
        if let Some(url) = url
            && let Ok(Some(at)) = directory.add(url)
        {
            directory.leader_at = Some(at);
            directory.known[at].node = leader.or(directory.known[at].node);
        }
    }

    /// A node failed a call; a broken connection is avoided for a while.
    pub(crate) fn failed(&self, at: usize, is_broken: bool) {
        let mut directory = self.lock();
        if directory.leader_at() == Some(at) {
            (directory.leader, directory.leader_at) = (None, None);
        }
        if is_broken {
            directory.known[at].avoid_until = Some(after(AVOID));
        }
    }

    /// A node answered.
    pub(crate) fn answered(&self, at: usize) {
        self.lock().known[at].avoid_until = None;
    }

    /// Returns where a URL is, if it is known.
    pub(crate) fn find(&self, url: &str) -> Option<usize> {
        self.lock().position(url)
    }
}

fn after(wait: Duration) -> Instant {
    Instant::now() + wait
}

impl Directory {
    fn leader_at(&self) -> Option<usize> {
        let by_id = || {
            self.known.iter().position(|known| known.node.is_some() && known.node == self.leader)
        };
        self.leader_at.or_else(by_id)
    }

    fn position(&self, url: &str) -> Option<usize> {
        let url = url.trim_end_matches('/');
        self.known.iter().position(|known| known.url == url)
    }

    fn chosen(&self, at: usize) -> Chosen {
        let Known { url, lake, .. } = &self.known[at];
        Chosen { at, url: url.clone(), lake: lake.clone() }
    }

    /// Returns where a URL is, new or not; nothing when there is no room for it.
    fn add(&mut self, url: &str) -> Result<Option<usize>, Error> {
        if let Some(at) = self.position(url) {
            return Ok(Some(at));
        }
        let lake = lake_of(url)?;
        if self.known.len() >= NODES_MAX {
            return Ok(None);
        }
        let url = url.trim_end_matches('/').to_owned();
        self.known.push(Known { url, lake, node: None, avoid_until: None });
        Ok(Some(self.known.len() - 1))
    }
}

fn lake_of(url: &str) -> Result<LakeClient<Channel>, Error> {
    let bad = || Error::Endpoint { url: url.to_owned() };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_not_a_url| bad())?;
    if !url.starts_with("http://") || endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(bad());
    }
    let channel = endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .connect_lazy();
    Ok(LakeClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Candidate = Candidate { tries: 0, is_avoided: false, leads: false };

    #[test]
    fn the_leader_is_asked_first_then_each_other_node_before_any_a_second_time() {
        let leads = |tries: [u32; 3]| {
            let mut all = tries.map(|tries| Candidate { tries, ..FRESH });
            all[1].leads = true;
            all
        };
        assert_eq!(choose(&leads([0, 0, 0]), true, 0), 1);
        assert_eq!(choose(&leads([0, 1, 0]), true, 0), 0);
        assert_eq!(choose(&leads([1, 1, 0]), true, 0), 2);
        assert_eq!(choose(&leads([1, 1, 1]), true, 0), 1);
    }

    #[test]
    fn any_node_is_asked_in_turn_and_a_broken_one_last() {
        let all = [Candidate { leads: true, ..FRESH }; 3];
        assert_eq!([0, 1, 2, 3].map(|turn| choose(&all, false, turn)), [0, 1, 2, 0]);
        let broken = Candidate { is_avoided: true, ..FRESH };
        assert_eq!(choose(&[broken, Candidate { tries: 5, ..FRESH }], true, 0), 1);
        assert_eq!(choose(&[broken], true, 7), 0);
    }

    fn nodes(count: usize) -> Nodes {
        let urls = (1..=count).map(|port| format!("http://127.0.0.1:{port}")).collect();
        Nodes::new(urls).expect("legal URLs")
    }

    #[tokio::test]
    async fn the_newest_term_says_who_leads_and_a_hint_may_name_a_new_node() {
        let nodes = nodes(3);
        assert!(nodes.lacks_leader());
        nodes.told(0, 1, Some(2), 5);
        nodes.told(1, 2, Some(2), 5);
        assert!(!nodes.lacks_leader());
        let leader = || nodes.pick(Prefers::Leader, &Asked::default());
        assert_eq!(leader().at, 1);
        nodes.told(2, 3, Some(3), 4);
        assert_eq!(leader().at, 1, "an old term");
        nodes.told(0, 1, Some(3), 6);
        assert_eq!(leader().at, 2);
        nodes.hinted(Some(9), Some("http://127.0.0.1:99/"));
        assert_eq!((leader().at, leader().url.as_str()), (3, "http://127.0.0.1:99"));
        nodes.failed(3, true);
        assert!(nodes.lacks_leader());
        assert_ne!(leader().at, 3);
    }

    #[tokio::test]
    async fn hints_are_kept_while_there_is_room_and_only_if_they_are_urls() {
        let nodes = nodes(NODES_MAX);
        nodes.hinted(None, Some("http://127.0.0.1:999"));
        nodes.hinted(None, Some("nowhere"));
        assert_eq!(nodes.all(false).len(), NODES_MAX);
        assert!(nodes.lacks_leader());
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_with_an_example() {
        for bad in ["", "localhost", "http://", "https://x", "127.0.0.1:7171"] {
            let error = Nodes::new(vec![bad.to_owned()]).expect_err(bad);
            assert!(matches!(error, Error::Endpoint { .. }), "{error}");
            assert_eq!(error.hint(), Some("for example http://127.0.0.1:7171"));
        }
        assert!(matches!(Nodes::new(Vec::new()), Err(Error::NoEndpoint)));
    }
}
