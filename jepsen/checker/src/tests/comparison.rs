//! A checker of rules against a search over the whole object: the rules must raise no false alarm.

use alluvium_stdx::Prng;

use super::script::with_reply;
use crate::linear::{self, Budget, Model};
use crate::{History, Operation, Reply, Verdict};

/// How often the rules saw what the search saw.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) caught: u32,
    pub(crate) missed: u32,
    pub(crate) right: u32,
}

impl Comparison {
    /// Judges one history both ways.
    pub(crate) fn judge(
        &mut self,
        name: u64,
        model: &impl Model,
        history: &History,
        rules: &Verdict,
    ) {
        let is_ordered = match linear::check(model, history, &Budget::steps(200_000)) {
            Verdict::Valid => true,
            Verdict::Invalid(_) => false,
            Verdict::Unknown(_) => return,
        };
        let is_invalid = matches!(rules, Verdict::Invalid(_));
        assert!(!(is_ordered && is_invalid), "seed {name}: a false alarm: {rules}");
        self.right += u32::from(is_ordered);
        self.caught += u32::from(is_invalid);
        self.missed += u32::from(!is_ordered && !is_invalid);
    }
}

/// `history` with another answer of one operation, which `change` makes of the old one.
pub(crate) fn with_changed_reply(
    history: &History,
    prng: &mut Prng,
    change: impl Fn(&mut Prng, &Operation, &Reply) -> Option<Reply>,
) -> Option<History> {
    let answered: Vec<(&Operation, &Reply)> =
        history.operations().iter().filter_map(|op| Some((op, op.answer()?.0))).collect();
    for _ in 0..20 {
        let (operation, reply) = prng.pick(&answered)?;
        if let Some(new) = change(prng, operation, reply).filter(|new| new != *reply) {
            return Some(with_reply(history, operation.id, new));
        }
    }
    None
}
