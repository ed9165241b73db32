//! Golden bytes and round trips of what this crate writes.

use super::*;

fn membership(voters: &[&[u64]], nodes: &[(u64, &str)]) -> Membership {
    let configs = voters.iter().map(|voters| voters.iter().copied().collect()).collect();
    let address = |&(id, peer): &(u64, &str)| (id, Address { peer: peer.to_owned() });
    let nodes: BTreeMap<u64, Address> = nodes.iter().map(address).collect();
    Membership::new(configs, nodes).expect("has a quorum")
}

#[test]
fn the_bytes_of_vote_and_committed_index_are_golden() {
    let vote = encode_vote(&Vote::new_committed(3, 2));
    assert_eq!(vote, [1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
    let committed = encode_log_id(&log_id(3, 2, 7));
    let golden = [1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(committed, golden);
}

#[test]
fn the_bytes_of_a_membership_are_golden() {
    let bytes = encode_membership(&membership(&[&[1]], &[(1, "a:1")]));
    let count = |n: u8| [n, 0, 0, 0, 0, 0, 0, 0];
    let mut golden = vec![1, 0];
    // One config of one voter, one node with an address of three bytes.
    for number in [1, 1, 1, 1, 1, 3] {
        golden.extend(count(number));
    }
    golden.extend(b"a:1");
    assert_eq!(bytes, golden);
}

#[test]
fn what_was_encoded_decodes_to_the_same() {
    for vote in [Vote::new(0, 1), Vote::new(7, u64::MAX), Vote::new_committed(u64::MAX, 3)] {
        assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
    }
    let joint = membership(&[&[1, 2], &[2, 3]], &[(1, "a:1"), (2, ""), (3, "c:3"), (4, "d:4")]);
    assert_eq!(decode_membership(&encode_membership(&joint)), Ok(joint.clone()));
    let mut kept = KeptMembership::default();
    assert_eq!(decode_kept_membership(&encode_kept_membership(&kept)), Ok(kept.clone()));
    assert_eq!(decode_kept_membership(&[]), Ok(kept.clone()));
    kept.advance(StoredMembership::new(Some(log_id(4, 1, 9)), joint));
    assert_eq!(decode_kept_membership(&encode_kept_membership(&kept)), Ok(kept));
}

#[test]
fn an_id_that_was_used_is_remembered_when_its_node_is_gone() {
    let mut kept = KeptMembership::default();
    let set = |nodes: &[(u64, &str)]| {
        let voters: Vec<u64> = nodes.iter().map(|(id, _)| *id).collect();
        StoredMembership::new(Some(log_id(1, 1, 1)), membership(&[&voters], nodes))
    };
    kept.advance(set(&[(1, "a"), (7, "b")]));
    kept.advance(set(&[(1, "a"), (3, "c")]));
    assert_eq!(kept.ids_used, 7);
    kept.ids_used = 2;
    let forgot = decode_kept_membership(&encode_kept_membership(&kept));
    assert_eq!(forgot, Err(EntryFault::Membership), "a member's id is used");
}

#[test]
fn tags_keep_term_and_leader_apart() {
    for id in [log_id(1, 2, 3), log_id(u64::MAX, 0, 1), log_id(0, u64::MAX, u64::MAX)] {
        assert_eq!(log_id_of(id.index, tag_of(&id)), id);
        assert_eq!(log_id_of_applied(&applied_of(&id)), id);
    }
}

#[test]
fn damaged_and_newer_values_are_refused() {
    assert_eq!(decode_vote(&[1]), Err(EntryFault::Short));
    let newer = EntryFault::Version { found: 2, supported: 1 };
    assert_eq!(decode_vote(&[2, 0, 0]), Err(newer));
    let frame = alluvium_types::Error::Frame { reason: "its header does not decode" };
    assert_eq!(decode_log_id(&[1, 0, 5]), Err(EntryFault::Frame(frame)));
    let orphan: MembershipRecord = (vec![vec![1]], Vec::new());
    let orphan = versioned(codec::encode(&orphan));
    assert_eq!(decode_membership(&orphan), Err(EntryFault::Membership));
}
