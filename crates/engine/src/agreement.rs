//! Whether the replicas are equal: the leader has all of them compare their digests, again and again.
//!
//! A checkpoint is two entries. After the first every replica notes the digest of its state and tells the leader; the
//! second says which digest a majority of the voters had. It must not decide from what one node says. Invariant: a
//! replica that differs from the majority is in quarantine before it has applied the entry that says so.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alluvium_raft::{AppliedState, Divergence, LeaderHint};
use alluvium_types::{Checkpoint, Command, LogIndex};
use tokio::sync::Notify;

use crate::jobs::error_chain;
use crate::node::Node;
use crate::{Caller, Error, Reinstall};

/// Entries after which replicas are compared, however little time has passed.
const ENTRIES_MAX: u64 = 4_096;
/// How often the leader looks whether it is time.
const TICK: Duration = Duration::from_millis(100);
/// How long the leader waits for the digests of the others.
const ANSWERS_MAX: Duration = Duration::from_secs(5);
/// Between two tries to tell the leader.
const TELL_AGAIN: Duration = Duration::from_millis(200);
const ACTOR: &str = "alluvium";

/// What the members said of their states.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    // Written by calls of peers, read by the leader's comparison; held for a map operation only.
    newest: Mutex<BTreeMap<u64, AppliedState>>,
    told: Notify,
}

impl Digests {
    pub(crate) fn tell(&self, node: u64, checkpoint: AppliedState) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(node, checkpoint);
        self.told.notify_waiters();
    }

    /// Returns what the voters had at a point, as far as they said.
    fn at(&self, point: LogIndex, voters: &[u64]) -> Vec<[u8; 32]> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let said = voters.iter().filter_map(|voter| newest.get(voter));
        said.filter(|said| said.index == point).map(|said| said.digest.to_bytes()).collect()
    }
}

/// Says what the digests of `voters` voters come to; nothing while more answers could change it.
fn judge(point: LogIndex, answers: &[[u8; 32]], voters: usize) -> Option<Checkpoint> {
    let count = |digest: &[u8; 32]| answers.iter().filter(|other| *other == digest).count();
    let most = answers.iter().max_by_key(|digest| count(digest))?;
    let missing = voters.saturating_sub(answers.len());
    let majority = voters / 2 + 1;
    if majority <= count(most) {
        return Some(Checkpoint::Agreed { point, digest: *most });
    }
    // Nobody can reach a majority any more.
    (count(most) + missing < majority).then_some(Checkpoint::Disputed { point })
}

impl Node {
    /// Has the replicas compared while this node leads.
    pub(crate) async fn compare_replicas(self) {
        let mut stopping = self.stopping();
        let (mut waited, mut compared_at) = (Duration::ZERO, self.applied());
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => waited += TICK,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            // Without a quorum it never ends, and a node that stops waits for this task.
            let settled = self.unless_stopping(self.raft().settle_voters()).await;
            if let Err(error) = settled {
                tracing::debug!(error = error_chain(&error), "voters are between two sets");
            }
            let entries = self.applied().0.saturating_sub(compared_at.0);
            let is_due = self.config().compare_every <= waited || ENTRIES_MAX <= entries;
            if !is_due || !self.leads() || self.members().len() < 2 {
                continue;
            }
            if let Err(error) = self.compare_once().await {
                tracing::debug!(error = error_chain(&error), "replicas were not compared");
            }
            (waited, compared_at) = (Duration::ZERO, self.applied());
        }
    }

    async fn compare_once(&self) -> Result<(), Error> {
        let caller = Caller::named(ACTOR);
        let point = Command::Checkpoint(Checkpoint::Point);
        let point = self.propose(&caller, point, &[]).await?.index;
        let judged = tokio::time::timeout(ANSWERS_MAX, self.verdict(point)).await;
        if let Ok(verdict) = judged {
            self.propose(&caller, Command::Checkpoint(verdict), &[]).await?;
            return Ok(());
        }
        let answers = self.digests_at(point);
        if answers.windows(2).any(|pair| pair[0] != pair[1]) {
            tracing::error!(%point, "replicas differ, and too few answer to tell which is right");
        }
        Ok(())
    }

    async fn verdict(&self, point: LogIndex) -> Checkpoint {
        loop {
            // Made before looking: what is told in between is not missed.
            let told = self.digests().told.notified();
            let voters = self.members().iter().filter(|member| member.votes).count();
            if let Some(verdict) = judge(point, &self.digests_at(point), voters) {
                return verdict;
            }
            told.await;
        }
    }

    fn digests_at(&self, point: LogIndex) -> Vec<[u8; 32]> {
        let members = self.members().into_iter().filter(|member| member.votes);
        self.digests().at(point, &members.map(|member| member.node).collect::<Vec<_>>())
    }

    /// Tells the leader what digest this node had at each checkpoint.
    pub(crate) async fn tell_digests(self) {
        let (mut newest, mut stopping) = (self.raft().checkpoint(), self.stopping());
        loop {
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            let Some(checkpoint) = *newest.borrow_and_update() else { continue };
            if !self.tell_digest(checkpoint).await && !self.is_stopping() {
                tokio::time::sleep(TELL_AGAIN).await;
                // Once more: the leader may have changed; after that the next checkpoint does.
                self.tell_digest(checkpoint).await;
            }
        }
    }

    async fn tell_digest(&self, checkpoint: AppliedState) -> bool {
        let leader = self.members().into_iter().find(|member| member.leads);
        let (Some(leader), Some(cluster)) = (leader, self.cluster()) else { return false };
        if leader.node == self.node_id() {
            self.digests().tell(leader.node, checkpoint);
            return true;
        }
        let hint = LeaderHint { node: leader.node, address: leader.address };
        cluster.calls.compare(&hint, checkpoint).await.is_ok()
    }

    /// Waits until this node is found to differ, and keeps it from being believed.
    pub(crate) async fn watch_divergence(self) {
        let (mut found, mut stopping) = (self.raft().divergence(), self.stopping());
        let divergence = tokio::select! {
            found = found.wait_for(Option::is_some) => found.ok().and_then(|found| *found),
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let Some(divergence) = divergence else { return };
        self.raft().quarantine();
        let why = describe(self.node_id(), &divergence);
        tracing::error!(why, "this node puts itself into quarantine");
        if let Err(error) = self.dir().quarantine(&why) {
            tracing::error!(
                error = error_chain(&error),
                "the quarantine is not on the disk: the next start will not know of it"
            );
        }
        self.note_quarantine(why);
        // Its log is as good as anyone's, so the one that takes over lacks nothing.
        self.hand_over().await;
        match self.config().reinstall {
            Reinstall::Automatic if self.dir().may_reinstall() => {
                if let Err(error) = self.reinstall().await {
                    tracing::error!(error = error_chain(&error), "it cannot be reinstalled");
                }
            }
            Reinstall::Automatic => {
                tracing::error!("it was reinstalled often enough: it stays in quarantine");
            }
            Reinstall::ByHand => {}
        }
    }
}

fn describe(node: u64, found: &Divergence) -> String {
    let Divergence { own, agreed, found_at } = found;
    let others = match agreed {
        Some(digest) => format!("that of the majority is {}", hex(digest)),
        None => "no majority has the same".to_owned(),
    };
    format!(
        "at index {} node {node} has digest {}, {others} (entry {found_at})",
        own.index, own.digest
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_falls_when_no_answer_can_change_it() {
        let (one, two, three) = ([1; 32], [2; 32], [3; 32]);
        let point = LogIndex(9);
        let agreed = |digest| Some(Checkpoint::Agreed { point, digest });
        let disputed = Some(Checkpoint::Disputed { point });
        assert_eq!(judge(point, &[], 3), None);
        assert_eq!(judge(point, &[one], 3), None);
        assert_eq!(judge(point, &[one, one], 3), agreed(one));
        assert_eq!(judge(point, &[two, one], 3), None, "the third decides");
        assert_eq!(judge(point, &[two, one, two], 3), agreed(two));
        assert_eq!(judge(point, &[one, two, three], 3), disputed);
        assert_eq!(judge(point, &[one, two], 2), disputed, "one of two is no majority");
        assert_eq!(judge(point, &[one, two, three], 5), None);
        assert_eq!(judge(point, &[one, one, two, two], 4), disputed);
        assert_eq!(judge(point, &[one], 1), agreed(one), "a voter with learners");
    }
}
