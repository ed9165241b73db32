//! The rules of a stream.

use super::*;

const STREAM: StreamId = StreamId(1);

fn entry(index: u64) -> Draft {
    draft(Kind::Entry, STREAM, (index, 100 + u128::from(index)), Bytes::new())
}

fn purge(index: u64) -> Draft {
    draft(Kind::Purge, STREAM, (index, 100 + u128::from(index)), Bytes::new())
}

fn truncate(index: u64) -> Draft {
    draft(Kind::Truncate, STREAM, (index, 100 + u128::from(index)), Bytes::new())
}

fn applied(drafts: &[Draft]) -> Result<Base, Refusal> {
    let mut bases = Bases::default();
    drafts.iter().try_for_each(|draft| bases.apply(draft))?;
    Ok(bases.get(STREAM).cloned().expect("the stream was used"))
}

fn live(base: &Base) -> Option<(u64, u64)> {
    base.live.map(|live| (live.first, live.last.index))
}

#[test]
fn a_fresh_stream_begins_anywhere_and_goes_on_without_a_hole() {
    assert_eq!(live(&applied(&[entry(7), entry(8)]).expect("follows")), Some((7, 8)));
    let hole = applied(&[entry(7), entry(9)]);
    assert_eq!(hole, Err(Refusal::NotConsecutive { expected: 8 }));
    let twice = applied(&[entry(7), entry(7)]);
    assert_eq!(twice, Err(Refusal::NotConsecutive { expected: 8 }));
}

#[test]
fn a_truncation_keeps_its_index_and_a_purge_does_not() {
    let entries = [entry(1), entry(2), entry(3), entry(4)];
    let truncated = applied(&[&entries[..], &[truncate(3)]].concat()).expect("fits");
    assert_eq!(live(&truncated), Some((1, 3)));
    assert_eq!(truncated.live.map(|live| live.last.tag), Some(103));
    let purged = applied(&[&entries[..], &[purge(3)]].concat()).expect("fits");
    assert_eq!((live(&purged), purged.purged.map(|p| p.index)), (Some((4, 4)), Some(3)));
}

#[test]
fn after_a_purge_beyond_the_end_entries_follow_the_purge() {
    assert_eq!(live(&applied(&[entry(1), purge(9), entry(10)]).expect("fits")), Some((10, 10)));
    let before = applied(&[entry(1), purge(9), entry(2)]);
    assert_eq!(before, Err(Refusal::NotConsecutive { expected: 10 }));
}

#[test]
fn a_purge_is_never_undone() {
    let below = applied(&[entry(1), entry(2), purge(2), truncate(1)]);
    assert_eq!(below, Err(Refusal::BelowPurged { purged: 2 }));
    let all = Draft { all: true, ..truncate(0) };
    assert_eq!(applied(&[entry(1), purge(1), all]), Err(Refusal::BelowPurged { purged: 1 }));
    let other = Draft { tag: 5, ..purge(1) };
    assert_eq!(applied(&[entry(1), purge(1), other]), Err(Refusal::BelowPurged { purged: 1 }));
    let older = applied(&[entry(1), entry(2), purge(2), purge(1)]).expect("changes nothing");
    assert_eq!(older.purged.map(|purged| purged.index), Some(2));
}

#[test]
fn a_checkpoint_says_all_of_it_again() {
    let mut bases = Bases::default();
    let slot = draft(Kind::Slot, STREAM, (0, 0), Bytes::from_static(b"vote"));
    let drafts = [entry(1), entry(2), purge(1), slot, Draft { stream: StreamId(9), ..purge(4) }];
    drafts.iter().for_each(|draft| bases.apply(draft).expect("fits"));
    let checkpoint = bases.checkpoint(5);
    let bytes = checkpoint.iter().map(Draft::record_bytes).fold(0, sum);
    assert_eq!(bytes, bases.checkpoint_bytes());
    let mut again = Bases::default();
    checkpoint.iter().for_each(|draft| again.apply(draft).expect("fits"));
    assert_eq!(again, bases);
    checkpoint.iter().for_each(|draft| bases.apply(draft).expect("says nothing new"));
    assert_eq!(again, bases);
}

#[test]
fn a_base_that_contradicts_what_is_known_is_nonsense() {
    let mut bases = Bases::default();
    bases.apply(&entry(1)).expect("fits");
    let checkpoint = bases.checkpoint(1);
    bases.apply(&entry(2)).expect("fits");
    assert_eq!(bases.apply(&checkpoint[1]), Err(Refusal::Nonsense));
}

#[test]
fn a_segment_is_needed_while_any_stream_has_an_entry_in_it() {
    let mut spans = Spans::default();
    let at = |spans: &mut Spans, draft: Draft, segment| spans.apply(&draft, SegmentSeq(segment));
    let other = |draft| Draft { stream: StreamId(2), ..draft };
    at(&mut spans, entry(1), 1);
    at(&mut spans, entry(2), 2);
    at(&mut spans, other(entry(1)), 2);
    at(&mut spans, entry(3), 3);
    assert_eq!(spans.oldest(), Some(SegmentSeq(1)));
    at(&mut spans, purge(1), 3);
    assert_eq!(spans.oldest(), Some(SegmentSeq(2)));
    at(&mut spans, purge(2), 3);
    assert_eq!(spans.oldest(), Some(SegmentSeq(2)), "the other stream still needs it");
    spans.clear(StreamId(2));
    assert_eq!(spans.oldest(), Some(SegmentSeq(3)));
    at(&mut spans, truncate(2), 3);
    assert_eq!(spans.oldest(), None);
}
