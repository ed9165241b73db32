//! Dataset names: one strict grammar, checked before proposing and again in apply.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode, de::Decoder, error::DecodeError};

use crate::{Error, limits::NAME_CHARS_MAX};

/// A legal dataset name: letters, digits and `_` first, then also `-` and `.`; any script, no look-alike
/// mixing; at most 128 characters.
///
/// Names keep their case and compare by exact characters. Invariant: the text passed [`FromStr`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct DatasetName(String);

impl DatasetName {
    /// Returns the name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatasetName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::NameEmpty);
        }
        let length = text.chars().count();
        if length > NAME_CHARS_MAX {
            return Err(Error::NameTooLong { limit: NAME_CHARS_MAX, length });
        }
        check_characters(text)?;
        check_scripts(text)?;
        if text.eq_ignore_ascii_case("system") || text.to_lowercase().starts_with("system.") {
            return Err(Error::NameReserved { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

fn check_characters(text: &str) -> Result<(), Error> {
    let mut previous = '.';
    for (position, character) in text.chars().enumerate() {
        let inner = matches!(character, '-' | '.') && position > 0;
        // Two dots in a row, or one at the end, would read as a path.
        let double_dot = character == '.' && previous == '.';
        if double_dot || !(character.is_alphanumeric() || character == '_' || inner) {
            return Err(Error::NameCharacter { character, position });
        }
        previous = character;
    }
    match previous {
        '.' => Err(Error::NameCharacter { character: '.', position: text.chars().count() - 1 }),
        _ => Ok(()),
    }
}

/// Refuses a name that mixes ASCII letters with look-alikes from Greek, Cyrillic or the full-width forms.
fn check_scripts(text: &str) -> Result<(), Error> {
    let has_ascii_letter = text.chars().any(|c| c.is_ascii_alphabetic());
    let look_alike = |c: char| matches!(c, '\u{370}'..='\u{52f}' | '\u{1d00}'..='\u{1dff}' | '\u{2100}'..='\u{214f}');
    // Compatibility forms never name anything: they fold to other characters in many tools.
    let compatibility = |c: char| matches!(c, '\u{fb00}'..='\u{fb4f}' | '\u{fe70}'..='\u{ffef}' | '\u{1d400}'..='\u{1d7ff}');
    let illegal = |c: char| compatibility(c) || (has_ascii_letter && look_alike(c));
    match text.chars().enumerate().find(|(_, c)| illegal(*c)) {
        Some((position, character)) => Err(Error::NameCharacter { character, position }),
        None => Ok(()),
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// Decoding checks the grammar: a name from a damaged or foreign entry never becomes a DatasetName.
impl<Context> Decode<Context> for DatasetName {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        String::decode(decoder)?
            .parse()
            .map_err(|error: Error| DecodeError::OtherString(error.to_string()))
    }
}

bincode::impl_borrow_decode!(DatasetName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_accepts_names_that_people_use() {
        for name in ["flights", "Flights", "a.b-c_d", "_x", "9to5", "größe", "данные", "航班", "a"]
        {
            assert_eq!(name.parse::<DatasetName>().expect(name).as_str(), name);
        }
    }

    #[test]
    fn path_tricks_and_look_alikes_are_refused() {
        let long = "x".repeat(129);
        let illegal = [
            "",
            ".",
            "..",
            "../x",
            "a..b",
            "a.",
            ".a",
            "-a",
            "/etc",
            "a/b",
            "a\\b",
            "a\0b",
            "a b",
            "a\nb",
            "a:b",
            "a;b",
            "a\"b",
            "a'b",
            "раypal",
            "ａｂｃ",
            "a%2e",
            "system",
            "System.log",
            "a\u{202e}b",
            "\u{fb01}le",
            long.as_str(),
        ];
        for name in illegal {
            assert!(name.parse::<DatasetName>().is_err(), "{name:?} was accepted");
        }
    }
}
