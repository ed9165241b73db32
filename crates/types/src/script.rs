//! The scripts that dataset names may be written in, and which letters look like those of another.
//!
//! It must not try to know all of Unicode: a letter of a script that is not listed is refused. Invariant: the
//! ranges of two scripts do not meet.

/// A script whose letters names may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Script {
    Latin,
    Greek,
    Cyrillic,
    Armenian,
    Hebrew,
    Arabic,
    /// One of the Indic scripts, by its block.
    Indic(u32),
    Thai,
    Georgian,
    Ethiopic,
    Han,
    Kana,
    Hangul,
}

/// First and last letter of each script. What stands between them and is no letter is refused elsewhere.
///
/// Latin leaves out what looks like other Latin letters or like punctuation: clicks, phonetic and modifier letters.
const RANGES: [(Script, u32, u32); 25] = [
    (Script::Latin, 0x41, 0x5a),
    (Script::Latin, 0x61, 0x7a),
    (Script::Latin, 0xc0, 0x130),
    (Script::Latin, 0x132, 0x148),
    (Script::Latin, 0x14a, 0x17e),
    (Script::Latin, 0x1a0, 0x1a1),
    (Script::Latin, 0x1af, 0x1b0),
    (Script::Latin, 0x218, 0x21b),
    (Script::Greek, 0x386, 0x3ce),
    (Script::Cyrillic, 0x400, 0x481),
    (Script::Cyrillic, 0x48a, 0x52f),
    (Script::Armenian, 0x531, 0x556),
    (Script::Armenian, 0x561, 0x586),
    (Script::Hebrew, 0x5d0, 0x5ea),
    (Script::Arabic, 0x620, 0x63f),
    (Script::Arabic, 0x641, 0x64a),
    (Script::Arabic, 0x671, 0x6d3),
    (Script::Thai, 0xe01, 0xe4d),
    (Script::Georgian, 0x10d0, 0x10fa),
    (Script::Ethiopic, 0x1200, 0x135a),
    (Script::Latin, 0x1e00, 0x1ef9),
    (Script::Han, 0x3005, 0x3005),
    (Script::Kana, 0x3041, 0x30ff),
    (Script::Han, 0x3400, 0x9fff),
    (Script::Hangul, 0xac00, 0xd7a3),
];

/// Blocks of 128 characters, one for each of ten Indic scripts.
const INDIC: (u32, u32, u32) = (0x900, 0xdff, 0x80);

/// Letters of other scripts that are drawn like a letter of ASCII.
const LOOK_ALIKES: &str = "\
    αικνορυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ\
    аеіјкорсухѕһԁԛԝӏАВЕІЈКМНОРСТХЅҮԌԚԜ\
    զհյոսցօՍՏՕ";

impl Script {
    /// Returns the script of a letter; none when names may not have it.
    pub(crate) fn of(letter: char) -> Option<Self> {
        let code = u32::from(letter);
        let (first, last, block) = INDIC;
        if (first..=last).contains(&code) {
            return Some(Self::Indic(code / block));
        }
        RANGES.iter().find(|(_, low, high)| (*low..=*high).contains(&code)).map(|range| range.0)
    }

    /// Says whether letters of both may stand in one name: no letter of one is drawn like one of the other.
    pub(crate) fn goes_with(self, other: Self) -> bool {
        let is_east_asian = |script| matches!(script, Self::Han | Self::Kana | Self::Hangul);
        let is_plain = |script| script == Self::Latin || is_east_asian(script);
        self == other || (is_plain(self) && is_plain(other))
    }
}

/// Says whether a letter of another script is drawn like one of ASCII.
pub(crate) fn looks_latin(letter: char) -> bool {
    LOOK_ALIKES.contains(letter)
}

#[cfg(test)]
mod tests {
    use super::{INDIC, LOOK_ALIKES, RANGES, Script};

    #[test]
    fn ranges_are_in_order_and_do_not_meet() {
        assert!(RANGES.iter().all(|(_, low, high)| low <= high));
        assert!(RANGES.windows(2).all(|pair| pair[0].2 < pair[1].1));
        let (low, high, _) = INDIC;
        assert!(RANGES.iter().all(|range| range.2 < low || high < range.1));
    }

    #[test]
    fn every_look_alike_is_a_letter_of_another_script_that_names_may_have() {
        for letter in LOOK_ALIKES.chars() {
            let script = Script::of(letter).unwrap_or_else(|| panic!("{letter:?} has no script"));
            assert!(!Script::Latin.goes_with(script), "{letter:?}");
        }
    }
}
