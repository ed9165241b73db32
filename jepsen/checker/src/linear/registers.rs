//! W5: registers with a value and a version, and a swap that compares versions.
//!
//! It must not know how versions are made. Invariant: along any order, versions of one register rise.

use super::Model;
use super::token::Token;
use crate::call::{Call, Reply, Versioned};

/// The model of versioned registers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Registers;

/// The content of one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register {
    value: Option<i64>,
    version: Token,
}

impl Model for Registers {
    type State = Register;

    fn subject(&self, call: &Call) -> Option<String> {
        let (Call::Write { key, .. } | Call::Read { key } | Call::Cas { key, .. }) = call else {
            return None;
        };
        Some(format!("register {key}"))
    }

    fn initial(&self) -> Register {
        Register { value: None, version: Token::exactly(0) }
    }

    fn step(&self, state: &Register, call: &Call, reply: Option<&Reply>) -> Option<Register> {
        if let Call::Write { value, .. } = call {
            return state.written(*value, reply);
        }
        if let Call::Cas { version, new, .. } = call {
            return state.swapped(*version, *new, reply);
        }
        state.read(reply?)
    }
}

impl Register {
    fn written(self, value: i64, reply: Option<&Reply>) -> Option<Self> {
        let version = match reply {
            None => self.version.successor(),
            Some(Reply::Written { version }) if self.version.may_precede(*version) => {
                Token::exactly(*version)
            }
            Some(_) => return None,
        };
        Some(Self { value: Some(value), version })
    }

    fn swapped(self, expected: u64, new: i64, reply: Option<&Reply>) -> Option<Self> {
        if matches!(reply, Some(Reply::Refused)) {
            return Some(Self { version: self.version.but_not(expected)?, ..self });
        }
        let matching = Self { version: Token::exactly(expected), ..self };
        let is_matching = self.version.admits(expected);
        is_matching.then(|| matching.written(new, reply))?
    }

    fn read(self, reply: &Reply) -> Option<Self> {
        let Reply::Value { current } = reply else { return None };
        let Some(Versioned { value, version }) = *current else {
            return self.value.is_none().then_some(self);
        };
        let fits = self.value == Some(value) && self.version.admits(version);
        fits.then(|| Self { version: Token::exactly(version), ..self })
    }
}
