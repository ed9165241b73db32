//! W1: names of datasets. Registering is a swap from nothing; dropping names the life that ends.
//!
//! It must not look into a spec. Invariant: along any order, incarnations of one name rise.

use super::Model;
use super::token::Token;
use crate::call::{Call, Dataset, Reply};

/// The model of dataset registration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Datasets;

/// One name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    spec: Option<u64>,
    /// The last incarnation that was given, of a dataset that may be dropped by now.
    incarnation: Token,
}

impl Model for Datasets {
    type State = Name;

    fn subject(&self, call: &Call) -> Option<String> {
        let (Call::Register { name, .. } | Call::Describe { name } | Call::Drop { name, .. }) =
            call
        else {
            return None;
        };
        Some(format!("dataset {name}"))
    }

    fn initial(&self) -> Name {
        Name { spec: None, incarnation: Token::exactly(0) }
    }

    fn step(&self, state: &Name, call: &Call, reply: Option<&Reply>) -> Option<Name> {
        if let Call::Register { spec, .. } = call {
            return state.registered(*spec, reply);
        }
        if let Call::Drop { incarnation, .. } = call {
            return state.dropped(*incarnation, reply);
        }
        state.described(reply?)
    }
}

impl Name {
    fn registered(self, spec: u64, reply: Option<&Reply>) -> Option<Self> {
        if matches!(reply, Some(Reply::Refused)) {
            return self.spec.is_some().then_some(self);
        }
        let incarnation = match reply {
            None => self.incarnation.successor(),
            Some(Reply::Registered { incarnation })
                if self.incarnation.may_precede(*incarnation) =>
            {
                Token::exactly(*incarnation)
            }
            Some(_) => return None,
        };
        self.spec.is_none().then_some(Self { spec: Some(spec), incarnation })
    }

    fn dropped(self, incarnation: u64, reply: Option<&Reply>) -> Option<Self> {
        let is_there = self.spec.is_some();
        if matches!(reply, Some(Reply::Refused)) {
            let rest = self.incarnation.but_not(incarnation);
            return if is_there {
                rest.map(|rest| Self { incarnation: rest, ..self })
            } else {
                Some(self)
            };
        }
        let may_match = is_there && self.incarnation.admits(incarnation);
        may_match.then(|| Self { spec: None, incarnation: Token::exactly(incarnation) })
    }

    fn described(self, reply: &Reply) -> Option<Self> {
        let Reply::Described { dataset } = reply else { return None };
        let Some(Dataset { spec, incarnation }) = *dataset else {
            return self.spec.is_none().then_some(self);
        };
        let fits = self.spec == Some(spec) && self.incarnation.admits(incarnation);
        fits.then(|| Self { incarnation: Token::exactly(incarnation), ..self })
    }
}
