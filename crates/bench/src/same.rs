//! What every log is asked for: Alluvium's, the peers', the bare ones.
//!
//! Peers that are programs of their own share this file. Invariant: nobody is asked for less.

use anyhow::Result;

use crate::sample::{Params, Sample};

/// Random bytes that no compression shrinks.
pub(crate) fn payload(params: &Params) -> Result<Vec<u8>> {
    let mut payload = vec![0; usize::try_from(params.number("bytes")?)?];
    alluvium_stdx::Prng::from_seed(1).fill(&mut payload);
    Ok(payload)
}

/// How often a writer purges, in its own appends: all writers together, about once in half a segment.
pub(crate) fn purge_every(params: &Params) -> Result<u64> {
    // A guess at a record's header: it need not be any log's own.
    let per_append = params.number("bytes")? + 128;
    let together = params.number("segment")? / 2 / per_append;
    Ok((together / params.number("writers")?).max(1))
}

/// Returns seconds per GB of payload.
pub(crate) fn per_gigabyte(params: &Params, elapsed_ns: u64) -> Result<Sample> {
    let bytes = params.number("records")? * params.number("bytes")?;
    Ok(Sample::of(elapsed_ns as f64 / bytes as f64))
}
