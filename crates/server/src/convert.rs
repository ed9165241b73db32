//! Between messages and what the engine takes: columns and options are [`alluvium_messages`]', callers are here.
//!
//! It must not guess. Invariant: what is converted and converted back is the same.

use alluvium_engine::Caller;
pub use alluvium_messages::{
    Error, change_to, changes_from, field_to, fields_from, options_from, type_to,
};
use alluvium_proto::v1;
use alluvium_types::{LogIndex, Sequence, SessionId};

/// Reads who calls; an absent message is a caller without a name.
#[must_use]
pub fn caller_from(message: Option<v1::Caller>) -> Caller {
    let message = message.unwrap_or_default();
    Caller {
        actor: message.actor,
        session: message.session.map(|s| (SessionId(s.id), Sequence(s.sequence))),
        expected_index: message.expected_index.map(LogIndex),
    }
}

/// Makes the message for a caller.
#[must_use]
pub fn caller_to(caller: &Caller) -> v1::Caller {
    v1::Caller {
        actor: caller.actor.clone(),
        session: caller
            .session
            .map(|(id, sequence)| v1::Session { id: id.0, sequence: sequence.0 }),
        expected_index: caller.expected_index.map(|index| index.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_survives_the_way_there_and_back() {
        let caller = Caller {
            actor: "ann".to_owned(),
            session: Some((SessionId(3), Sequence(9))),
            expected_index: Some(LogIndex(0)),
        };
        let back = caller_from(Some(caller_to(&caller)));
        assert_eq!(format!("{back:?}"), format!("{caller:?}"));
        assert_eq!(caller_from(None).session, None);
    }
}
