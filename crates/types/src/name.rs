//! Dataset names: one strict grammar, checked before proposing and again in apply.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode, de::Decoder, error::DecodeError};

use crate::script::{Script, looks_latin};
use crate::{Error, limits::NAME_CHARS_MAX};

/// A legal dataset name: letters, digits of ASCII and `_` first, then also `-` and `.`; letters of one script, or
/// Latin ones beside Chinese, Japanese and Korean; at most 128 characters.
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
        let is_plain = character.is_ascii_digit() || character == '_' || inner;
        // Other alphabetic characters are enclosed, full-width, mathematical, combining: they name nothing.
        let is_letter = character.is_alphabetic() && Script::of(character).is_some();
        if double_dot || !(is_plain || is_letter) {
            return Err(Error::NameCharacter { character, position });
        }
        previous = character;
    }
    match previous {
        '.' => Err(Error::NameCharacter { character: '.', position: text.chars().count() - 1 }),
        _ => Ok(()),
    }
}

/// Refuses letters that can be taken for those of another script: beside these, or as a whole name.
fn check_scripts(text: &str) -> Result<(), Error> {
    let scripts = text.chars().enumerate().filter_map(|(at, c)| Some((at, c, Script::of(c)?)));
    let mut first = None;
    for (position, character, script) in scripts {
        if !first.get_or_insert(script).goes_with(script) {
            return Err(Error::NameMixed { character, position });
        }
    }
    let mut letters = text.chars().filter(|c| c.is_alphabetic());
    match first.is_some() && letters.all(looks_latin) {
        true => Err(Error::NameLookAlike { name: text.to_owned() }),
        false => Ok(()),
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
        for name in [
            "flights",
            "Flights",
            "a.b-c_d",
            "_x",
            "9to5",
            "größe",
            "données",
            "Şehir",
            "данные",
            "Αριθμός",
            "տվյալ",
            "נתונים",
            "بيانات",
            "डेटा",
            "მონაცემები",
            "航班",
            "A社",
            "売上_2024",
            "データ",
            "항공편",
            "a",
            "2024",
            "_",
        ] {
            assert_eq!(name.parse::<DatasetName>().expect(name).as_str(), name);
        }
    }

    #[test]
    fn path_tricks_are_refused() {
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
            "a%2e",
            "system",
            "System.log",
            &long,
        ];
        for name in illegal {
            assert!(name.parse::<DatasetName>().is_err(), "{name:?} was accepted");
        }
    }

    /// What refuses a name.
    #[derive(Debug, PartialEq)]
    enum Why {
        /// A character that no name may have, at this position.
        Character(usize),
        /// A letter of a second script, at this position.
        Mixed(usize),
        /// Letters that all look like Latin ones.
        LookAlike,
    }

    fn why(name: &str) -> Why {
        match name.parse::<DatasetName>() {
            Err(Error::NameCharacter { position, .. }) => Why::Character(position),
            Err(Error::NameMixed { position, .. }) => Why::Mixed(position),
            Err(Error::NameLookAlike { name: found }) if found == name => Why::LookAlike,
            other => panic!("{name:?}: {other:?}"),
        }
    }

    #[test]
    fn look_alikes_of_each_class_are_refused() {
        use Why::{Character, LookAlike, Mixed};
        // Each is drawn like "flights", "paypal", "origin", "a" or "ab" in some font, or exactly.
        let table = [
            ("Cyrillic beside Latin", "p\u{430}ypal", Mixed(1)),
            ("Cyrillic before Latin", "\u{440}aypal", Mixed(1)),
            ("Cyrillic alone", "\u{441}\u{43e}\u{440}\u{443}", LookAlike),
            ("Cyrillic alone, with digits", "\u{430}_1", LookAlike),
            ("Greek beside Latin", "\u{3bf}rigin", Mixed(1)),
            ("Greek alone", "\u{391}\u{392}", LookAlike),
            ("Greek beside Cyrillic", "\u{434}\u{3b4}", Mixed(1)),
            ("Armenian beside Latin", "fligh\u{57f}s", Mixed(5)),
            ("Armenian alone", "\u{578}\u{585}", LookAlike),
            ("Cherokee", "\u{13aa}\u{13a2}", Character(0)),
            ("Cherokee beside Latin", "a\u{ab75}", Character(1)),
            ("Coptic", "\u{2c9f}rigin", Character(0)),
            ("Lisu", "\u{a4f2}", Character(0)),
            ("Deseret", "\u{10404}", Character(0)),
            ("Tifinagh", "\u{2d54}a", Character(0)),
            ("full-width", "\u{ff41}\u{ff42}", Character(0)),
            ("full-width digit", "a\u{ff11}", Character(1)),
            ("half-width", "\u{ff76}", Character(0)),
            ("mathematical bold", "\u{1d41a}\u{1d41b}", Character(0)),
            ("mathematical digit", "a\u{1d7d9}", Character(1)),
            ("letter-like", "\u{212a}", Character(0)),
            ("Roman numeral", "a\u{2170}", Character(1)),
            ("enclosed", "\u{24d0}", Character(0)),
            ("squared", "\u{1f130}", Character(0)),
            ("superscript digit", "a\u{b2}", Character(1)),
            ("ordinal", "\u{aa}b", Character(0)),
            ("modifier letter", "a\u{2b0}", Character(1)),
            ("phonetic", "fli\u{261}hts", Character(3)),
            ("phonetic extension", "\u{1d04}a", Character(0)),
            ("click that looks like l", "f\u{1c0}ights", Character(1)),
            ("long s", "flight\u{17f}", Character(6)),
            ("dotless i", "fl\u{131}ghts", Character(2)),
            ("ligature", "\u{fb02}ights", Character(0)),
            ("digits of another script", "a\u{661}", Character(1)),
            ("Devanagari zero", "\u{966}", Character(0)),
            ("Han zero", "\u{3007}", Character(0)),
            ("Arabic presentation form", "\u{fe8d}", Character(0)),
            ("zero-width space", "a\u{200b}b", Character(1)),
            ("zero-width joiner", "a\u{200d}b", Character(1)),
            ("word joiner", "a\u{2060}b", Character(1)),
            ("byte order mark", "\u{feff}ab", Character(0)),
            ("soft hyphen", "a\u{ad}b", Character(1)),
            ("Hangul filler", "a\u{3164}", Character(1)),
            ("variation selector", "a\u{fe0f}", Character(1)),
            ("tag", "a\u{e0061}", Character(1)),
            ("override of direction", "a\u{202e}b", Character(1)),
            ("isolate of direction", "a\u{2066}b", Character(1)),
            ("mark of direction", "a\u{200f}b", Character(1)),
            ("mark of Arabic direction", "a\u{61c}b", Character(1)),
            ("combining accent", "a\u{301}", Character(1)),
            ("combining letter", "a\u{363}", Character(1)),
            ("combining Greek", "\u{3b4}\u{345}", Character(1)),
            ("Hebrew point", "\u{5d0}\u{5b7}", Character(1)),
            ("Cyrillic thousands", "\u{434}\u{483}", Character(1)),
            ("other hyphen", "a\u{2010}b", Character(1)),
            ("other space", "a\u{a0}b", Character(1)),
            ("other dot", "a\u{2024}b", Character(1)),
            ("Han beside Cyrillic", "\u{822a}\u{434}", Mixed(1)),
        ];
        for (class, name, expected) in table {
            assert_eq!(why(name), expected, "{class}: {name:?}");
        }
    }
}
