//! A planted bug: a leader takes entries as synced by a follower as soon as they are on their way.

use alluvium_raft::{LogId, TypeConfig};
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};

type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Notes what requests would give the follower.
pub(crate) fn claimed<S>(
    requests: S,
) -> (impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static, UnboundedReceiver<LogId>)
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
{
    let (claim, claims) = unbounded();
    let requests = requests.map(move |request| {
        if let Some(last) = request.entries.last() {
            // Nobody listens when the answers are not wanted any more.
            drop(claim.unbounded_send(last.log_id));
        }
        request
    });
    (requests, claims)
}

/// Mixes into the answers what was never answered.
pub(crate) fn with_claims(
    answers: BoxStream<'_, Answer>,
    claims: UnboundedReceiver<LogId>,
) -> BoxStream<'_, Answer> {
    if !alluvium_stdx::plant::is_awake("commit-without-quorum") {
        return answers;
    }
    let claims = claims.map(|last| Ok(Ok(Some(last))));
    let mixed = stream::select(answers, claims);
    mixed
        .scan(false, |is_over, answer: Answer| {
            let goes_on = !*is_over;
            *is_over = !matches!(answer, Ok(Ok(_)));
            async move { goes_on.then_some(answer) }
        })
        .boxed()
}
